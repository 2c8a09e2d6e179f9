"""When Python looks for garbage."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def not_collected() -> Iterator[None]:
    """Look for no garbage while libraries are imported, and never again among what they have made.

    Each look goes through all objects there are, finds next to nothing, and takes longer than the last one: of the 9 seconds
    in which a rank imports torch, transformers, PEFT and datasets, they were 2.5.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
