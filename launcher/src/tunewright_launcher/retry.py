"""Retry: work again after errors that may pass, with growing pauses."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from tunewright.errors import FetchError

_LONGEST_PAUSE = 60.0

_T = TypeVar("_T")


def retry(work: Callable[[], _T], retry_for: float, say: Callable[[FetchError, float], None]) -> _T:
    """Work; try again after errors that may pass, with growing pauses, until `retry_for` seconds are over.

    Args:
        work: what to do.
        retry_for: seconds.
        say: is told of an error and of the pause in seconds.

    Returns:
        What `work` returns.

    Raises:
        FetchError: the last one; or whatever else `work` raises, at once.
    """
    end, pause = time.monotonic() + retry_for, 1.0
    while True:
        try:
            return work()
        except FetchError as error:
            # Jitter: the workers of a job fail together, and should not come back together.
            wait = max(pause * random.uniform(0.5, 1.5), error.retry_after or 0)  # noqa: S311 - no secret
            if not error.code.may_pass or time.monotonic() + wait > end:
                raise
            say(error, wait)
        time.sleep(wait)
        pause = min(2 * pause, _LONGEST_PAUSE)
