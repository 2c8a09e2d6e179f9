"""How the C library keeps memory that tensors on the CPU have freed."""

from __future__ import annotations

import ctypes
import os
import sys

# mallopt(3)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc keep it for the tensors that come next, where it would give it back to the system and ask for it again.

    A step frees and asks for the same sizes as the one before. Without this, thousands of pages are filled with zeros in
    each step, while all threads wait: up to a tenth of the time. What the environment sets (`MALLOC_…_`) stays.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is None or any(name.startswith("MALLOC_") for name in os.environ):
        return
    set_option(_TRIM_THRESHOLD, _LARGEST)
    set_option(_MMAP_THRESHOLD, _LARGEST)
