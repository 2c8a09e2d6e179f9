"""How a fetch behaves in time: pauses after errors, a limit to its rate, a limit to patience, and telling how far it is."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import Self

from tunewright.errors import ExitCode, FetchError
from tunewright.providers.limits import FetchLimits

_SLOWEST = 1024  # bytes a second
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 20.0
_LONGEST_ASKED = 300.0  # seconds of a Retry-After that are believed
_TICK = 0.1
_TELL_EVERY = 1.0

Tell = Callable[[int, "int | None"], None]
Stopped = Callable[[], bool]


class RateLimiter:
    """Pauses and rate of all threads together.

    Args:
        rate: bytes a second; None for no limit.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._not_before = 0.0  # the source has asked for a pause until then
        self._free_at = 0.0  # when what was read so far would have come in at that rate

    def pause(self, failures: int, asked: float | None, stopped: Stopped) -> None:
        """Wait after a range has failed so often in a row; what the source itself asked for holds all threads up."""
        now = time.monotonic()
        if asked is not None:
            self._not_before = max(self._not_before, now + min(asked, _LONGEST_ASKED))
        if failures:
            longest = min(_FIRST_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE)
            _sleep_until(now + longest * random.uniform(0.5, 1), stopped)  # noqa: S311 - no secret
        self.wait(stopped)

    def wait(self, stopped: Stopped) -> None:
        """Wait until the source may be asked."""
        _sleep_until(self._not_before, stopped)

    def spend(self, count: int) -> None:
        """Wait as long as so many bytes may take."""
        if self._rate is None:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + count / self._rate
            wait = self._free_at - time.monotonic()
        time.sleep(max(0.0, wait))


class StallDetector:
    """Gives a connection up over which next to nothing comes; one without a byte times out by itself."""

    def __init__(self, limits: FetchLimits) -> None:
        self._stall = limits.stall if limits.rate is None else float("inf")
        self._since = time.monotonic()
        self._count = 0

    def check(self, count: int, what: str) -> None:
        """So many bytes have come.

        Raises:
            FetchError: TRY_AGAIN: too few have come for too long.
        """
        self._count += count
        seconds = time.monotonic() - self._since
        if seconds < self._stall:
            return
        if self._count < _SLOWEST * seconds:
            cause = f"{what} came with {self._count / seconds:.0f} bytes a second."
            raise FetchError(cause, remedy="It is tried again on a new connection.", code=ExitCode.TRY_AGAIN)
        self._since, self._count = time.monotonic(), 0


class Progress:
    """Counts bytes, and tells of them about once a second while it is entered.

    Attributes:
        total: bytes of all files, once they are known.
    """

    def __init__(self, tell: Tell | None) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._done = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.total: int | None = None

    def add(self, count: int) -> None:
        """So many bytes more are there."""
        with self._lock:
            self._done += count

    def __enter__(self) -> Self:
        if self._tell is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Tell a last time."""
        self._ended.set()
        if self._tell is not None:
            self._thread.join()

    def _run(self) -> None:
        assert self._tell is not None  # noqa: S101 - for the type checker: it was looked at before the start
        last: tuple[int, int | None] | None = None
        ended = False
        while not ended:
            ended = self._ended.wait(_TELL_EVERY)
            if (now := (self._done, self.total)) != last:
                with contextlib.suppress(OSError):  # nobody listens any more
                    self._tell(*now)
            last = now


def _sleep_until(moment: float, stopped: Stopped) -> None:
    while (left := moment - time.monotonic()) > 0 and not stopped():
        time.sleep(min(left, _TICK))
