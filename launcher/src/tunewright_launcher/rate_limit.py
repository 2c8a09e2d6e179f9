"""Rate limiting: pauses after errors, a limit on bytes per second, and a check for stalled connections."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from tunewright.errors import ExitCode, FetchError
from tunewright.providers.limits import FetchLimits

_SLOWEST = 1024  # bytes a second
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 20.0
_LONGEST_ASKED = 300.0  # seconds; a longer Retry-After is cut to this
_TICK = 0.1

Stopped = Callable[[], bool]


class RateLimiter:
    """Pauses and rate limit of all threads together.

    Args:
        rate: bytes per second; None for no limit.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._not_before = 0.0  # the source asked for a pause until then
        self._free_at = 0.0  # when everything read so far would have arrived at that rate

    def pause(self, failures: int, asked: float | None) -> float:
        """Return how long to pause after a range has failed, in seconds; see `rest`.

        Args:
            failures: how often it has failed in a row.
            asked: the pause that the source asked for, which holds up all threads.
        """
        now = time.monotonic()
        if asked is not None:
            self._not_before = max(self._not_before, now + min(asked, _LONGEST_ASKED))
        longest = min(_FIRST_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE) if failures else 0
        return max(longest * random.uniform(0.5, 1), self._not_before - now)  # noqa: S311 - no secret

    def rest(self, pause: float, stopped: Stopped) -> None:
        """Wait for a pause, and until the source may be asked again."""
        _sleep_until(time.monotonic() + pause, stopped)
        self.wait(stopped)

    def wait(self, stopped: Stopped) -> None:
        """Wait until the source may be asked again."""
        _sleep_until(self._not_before, stopped)

    def spend(self, count: int) -> None:
        """Wait for as long as that many bytes take at the rate limit."""
        if self._rate is None:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + count / self._rate
            wait = self._free_at - time.monotonic()
        time.sleep(max(0.0, wait))


class StallDetector:
    """Drop a connection whose throughput is near zero; one without any data times out by itself."""

    def __init__(self, limits: FetchLimits) -> None:
        self._stall = limits.stall if limits.rate is None else float("inf")
        self._since = time.monotonic()
        self._count = 0

    def check(self, count: int, what: str) -> None:
        """Add the bytes that arrived, and check the throughput.

        Raises:
            FetchError: TRY_AGAIN: the connection has stalled.
        """
        self._count += count
        seconds = time.monotonic() - self._since
        if seconds < self._stall:
            return
        if self._count < _SLOWEST * seconds:
            cause = f"{what} arrived at only {self._count / seconds:.0f} bytes per second."
            raise FetchError(
                cause,
                remedy="Start it again, which goes on from what has arrived, or allow it: TUNEWRIGHT_FETCH_STALL.",
                code=ExitCode.TRY_AGAIN,
            )
        self._since, self._count = time.monotonic(), 0


def _sleep_until(moment: float, stopped: Stopped) -> None:
    while (left := moment - time.monotonic()) > 0 and not stopped():
        time.sleep(min(left, _TICK))
