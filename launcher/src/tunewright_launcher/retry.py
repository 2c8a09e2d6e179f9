"""Retry after transient errors, with growing pauses."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from typing import TypeVar

from tunewright.errors import ExitCode, FetchError, SourceChanged

_LONGEST_PAUSE = 60.0

_T = TypeVar("_T")


def retry(work: Callable[[], _T], retry_for: float, say: Callable[[FetchError, int, float], None]) -> _T:
    """Call a function, and again after transient errors, with growing pauses, until `retry_for` seconds have passed.

    Args:
        work: the function.
        retry_for: seconds.
        say: called with each error, how often it has failed, and the pause in seconds before the next try.

    Returns:
        What `work` returns.

    Raises:
        FetchError: the last error. Other exceptions of `work` pass through at once.
    """
    end, pause = time.monotonic() + retry_for, 1.0
    for failures in itertools.count(1):
        try:
            return work()
        except FetchError as error:
            # Jitter: the workers of a job fail together, and should not retry together.
            wait = max(pause * random.uniform(0.5, 1.5), error.retry_after or 0)  # noqa: S311 - not a secret
            if not error.code.may_pass or time.monotonic() + wait > end:
                raise
            say(error, failures, wait)
        time.sleep(wait)
        pause = min(2 * pause, _LONGEST_PAUSE)
    raise AssertionError  # for the type checker


def settled(read: Callable[[], _T]) -> Callable[[], _T]:
    """Return a function that reads what another job may be replacing at this moment, for `retry` to call again then."""

    def once() -> _T:
        try:
            return read()
        except SourceChanged as error:
            raise FetchError(error.cause, remedy=error.remedy, code=ExitCode.TRY_AGAIN) from error

    return once
