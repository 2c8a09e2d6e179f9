"""Threads that read: few at first, and all of them if it is the network that they wait for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import attrs

_FEW = 4
_LOOK_EVERY = 0.02  # seconds
_LONG = 0.01  # seconds until an answer begins, from where on it is the way that takes them
_WINDOW = 0.5  # seconds in which a process may seem idle
_IDLE = 0.3  # of one processor's time


@attrs.define(eq=False)
class LatencyTracker:
    """How long a source takes until its answers begin. Many threads tell it; if one gets lost between them, others come.

    Attributes:
        fastest: seconds of the fastest one: the others may have waited for the interpreter.
        count: how many have come.
    """

    fastest: float = attrs.field(default=float("inf"), init=False)
    count: int = attrs.field(default=0, init=False)

    def took(self, seconds: float) -> None:
        """One began after so long."""
        self.fastest = min(self.fastest, seconds)
        self.count += 1

    @property
    def take_long(self) -> bool:
        """Whether the source is far away; the first one also had its connection made, and may be late by chance."""
        return self.count >= _FEW and self.fastest > _LONG


class Threads:
    """Threads that all do the same, until there is nothing left to do.

    How many are best depends on what they wait for. From a source that is far away, the wait for one answer has to be filled
    with others. Near, they wait for the interpreter, and each one more takes some of its time: for 1,000 objects of 100 KB,
    32 took 8% longer than 8. So there are few until it shows that answers take long, or that nobody needs the processor.

    Args:
        most: how many there may be.
        answers: of the source.
    """

    def __init__(self, most: int, answers: LatencyTracker) -> None:
        self.most = most
        self._answers = answers
        self._threads: list[threading.Thread] = []
        self._ended = threading.Event()

    def start(self, work: Callable[[], None]) -> None:
        """Let each of them do this."""
        self._add(_FEW, work)
        self._grower = threading.Thread(target=self._grow, args=(work,), name="fetch-more", daemon=True)
        self._grower.start()

    def join(self) -> None:
        """Wait until they have ended."""
        for thread in self._threads:  # more may come meanwhile
            thread.join()
        self._ended.set()
        self._grower.join()
        for thread in self._threads:  # some may have come in between, for nothing
            thread.join()

    def _add(self, count: int, work: Callable[[], None]) -> None:
        for number in range(len(self._threads), min(count, self.most)):
            thread = threading.Thread(target=work, name=f"fetch-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _grow(self, work: Callable[[], None]) -> None:
        if self._are_needed():
            with contextlib.suppress(RuntimeError):  # the container may have no more; those that are there do it all
                self._add(self.most, work)

    def _are_needed(self) -> bool:
        """Wait until it shows that more can do more; False if the fetch has ended before."""
        used, began = time.process_time(), time.monotonic()
        while not self._answers.take_long:
            if self._ended.wait(_LOOK_EVERY):
                return False
            if (seconds := time.monotonic() - began) > _WINDOW:
                if time.process_time() - used < _IDLE * seconds:
                    return True
                used, began = time.process_time(), time.monotonic()
        return True
