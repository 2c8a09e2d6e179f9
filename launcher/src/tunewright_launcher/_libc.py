"""Functions of the C library that Python does not expose."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable


def c_function(name: str) -> Callable[..., int] | None:
    """Return a function; None if this system's library lacks it."""
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
