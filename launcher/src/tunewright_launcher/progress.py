"""Progress of a download: bytes are counted by many threads, and reported by one."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Self

from tunewright.events import Pace

Report = Callable[[int, "int | None"], None]
"""Receives the bytes on the volume, and those of all files, or None while they are unknown.

It is called once more with the same numbers when nothing has arrived for `STILL` seconds.
"""

STILL = 2.5
_TICK = 0.5  # seconds


class Progress:
    """Count bytes, and report them at a `Pace`, as a context manager.

    Attributes:
        total: bytes of all files; None while they are unknown.
    """

    def __init__(self, report: Report | None) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._done = 0
        self._moved = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.total: int | None = None

    def add(self, count: int) -> None:
        """Add bytes that are on the volume now."""
        with self._lock:
            self._done += count
            self._moved = time.monotonic()

    def __enter__(self) -> Self:
        if self._report is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Report for the last time."""
        self._ended.set()
        if self._report is not None:
            self._thread.join()

    def _run(self) -> None:
        last: tuple[int, int | None] | None = None
        told: tuple[float, int | None] | None = None
        ended, pace = False, Pace()
        while not ended:
            ended = self._ended.wait(_TICK)
            now, moved = (self._done, self.total), self._moved
            still = not ended and time.monotonic() - moved > STILL
            if now != last and (ended or still or pace.is_due()):
                self._tell(*now)
                last = now
            if still and told != (moved, self.total):
                self._tell(*now)
                told = (moved, self.total)

    def _tell(self, done: int, total: int | None) -> None:
        assert self._report is not None  # noqa: S101 - for the type checker: checked before the thread starts
        with contextlib.suppress(OSError):  # nobody reads it any more
            self._report(done, total)
