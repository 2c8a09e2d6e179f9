"""Keep memory that CPU tensors have freed, instead of returning it to the operating system."""

from __future__ import annotations

import ctypes
import os
import sys

# mallopt(3)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next tensors.

    Each step allocates and frees the same sizes. By default glibc returns the memory, and the kernel zeroes thousands of
    pages in each step while all threads wait: up to a tenth of the time. Settings in the environment (`MALLOC_…_`) take
    precedence.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is None or any(name.startswith("MALLOC_") for name in os.environ):
        return
    set_option(_TRIM_THRESHOLD, _LARGEST)
    set_option(_MMAP_THRESHOLD, _LARGEST)
