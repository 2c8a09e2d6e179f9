"""A limit on how long a plugin may take to answer: a listing that never goes on would hold the job without a word."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from types import FrameType
from typing import TypeVar

from tunewright.errors import ExitCode, FetchError

_LOOKS = 4  # how often the clock is looked at within the limit

_T = TypeVar("_T")


def in_time(items: Iterator[_T], limit: float, what: str) -> Generator[_T, None, None]:
    """Yield the items; each must come within the limit. The time that the caller takes does not count.

    Without effect outside of the main thread, which alone can be interrupted, on Windows, and in a program that uses the
    timer itself.

    Args:
        items: the items.
        limit: seconds.
        what: who is waited for, for the message: "The source's listing".

    Raises:
        FetchError: TRY_AGAIN: the next item did not come in time.
    """
    if not _can_interrupt():
        yield from items
        return
    clock = _Clock(limit, what)
    before = signal.signal(signal.SIGALRM, clock.look)
    signal.setitimer(signal.ITIMER_REAL, limit / _LOOKS, limit / _LOOKS)
    try:
        end = object()
        while (item := clock.measured(lambda: next(items, end))) is not end:
            yield item  # type: ignore[misc] # it is not `end`
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _can_interrupt() -> bool:
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        return False
    return signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


class _Clock:
    def __init__(self, limit: float, what: str) -> None:
        self._limit, self._what = limit, what
        self._asked: float | None = None

    def measured(self, call: Callable[[], object]) -> object:
        self._asked = time.monotonic()
        try:
            return call()
        finally:
            self._asked = None

    def look(self, _: int, __: FrameType | None) -> None:
        if self._asked is None or time.monotonic() - self._asked < self._limit:
            return
        cause = f"{self._what} has not gone on for {self._limit:.0f} s."
        remedy = (
            "Check that the source is not overloaded; if it is only slow, raise TUNEWRIGHT_FETCH_LISTING in init_env."
        )
        raise FetchError(cause, remedy=remedy, code=ExitCode.TRY_AGAIN)
