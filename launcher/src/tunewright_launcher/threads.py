"""Reader threads: few at first, and all of them if they spend their time waiting for the network."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import attrs

from tunewright.runner.cpus import usable_cpus

_FEW = 4  # where there are as many CPUs
_JOIN = 1.0  # seconds after which a thread that has not ended is asked about
_CHECK_EVERY = 0.02  # seconds
# Numbers of responses, and the seconds until each of them began above which the distance explains them. Two must do where it is
# obvious: it may take long until the next two begin, as each thread reads a range first.
_FAR = ((4, 0.01), (2, 0.02))
_WINDOW = 0.5  # seconds over which the load of the process is measured
_IDLE = 0.3  # share of one CPU


@attrs.define(eq=False)
class LatencyTracker:
    """Latency of a source: the time until its responses begin. Threads race to update it; a lost update does no harm.

    Attributes:
        fastest: seconds of the fastest response; slower ones may have waited for the interpreter.
        count: number of responses.
    """

    fastest: float = attrs.field(default=float("inf"), init=False)
    count: int = attrs.field(default=0, init=False)

    def took(self, seconds: float) -> None:
        """Record how long one response took to begin."""
        self.fastest = min(self.fastest, seconds)
        self.count += 1

    @property
    def is_high(self) -> bool:
        """Whether the source is far away. The first response includes connecting, and any single one may be late by chance."""
        return any(self.count >= count and self.fastest > seconds for count, seconds in _FAR)


class Threads:
    """Threads that all run the same function, until there is nothing left to do.

    The best number depends on what they wait for. With a distant source, the wait for one response has to be filled with others.
    With a near one they compete for the interpreter and the CPUs, and each additional thread costs time: for 1,000 objects of 100 KB,
    32 threads took 8% longer than 8; for one of 4 GB on two CPUs, four took 20% longer than two, as its ranges were read faster than
    they were hashed, and the rest was hashed alone. So there are few, until latency turns out to be high or the CPU idle.

    Args:
        most: maximum number of threads.
        latency: of the source.
        hangs: says whether a thread will never end, so that nobody waits for it.
    """

    def __init__(
        self, most: int, latency: LatencyTracker, hangs: Callable[[int | None], bool] = lambda _: False
    ) -> None:
        self.most = most
        self._latency = latency
        self._hangs = hangs
        self._threads: list[threading.Thread] = []
        self._ended = threading.Event()

    def start(self, work: Callable[[], None]) -> None:
        """Run a function in each of them."""
        self._add(max(2, min(_FEW, usable_cpus())), work)
        self._grower = threading.Thread(target=self._grow, args=(work,), name="fetch-more", daemon=True)
        self._grower.start()

    def join(self) -> None:
        """Wait until they have ended."""
        self._join_all()
        self._ended.set()
        self._grower.join()
        self._join_all()  # some may have been added in between, with nothing to do

    def _join_all(self) -> None:
        for thread in self._threads:  # more may be added meanwhile
            while thread.is_alive() and not self._hangs(thread.ident):
                thread.join(_JOIN)

    def _add(self, count: int, work: Callable[[], None]) -> None:
        for number in range(len(self._threads), min(count, self.most)):
            thread = threading.Thread(target=work, name=f"fetch-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _grow(self, work: Callable[[], None]) -> None:
        if self._are_needed():
            with contextlib.suppress(RuntimeError):  # the container allows no more; those that exist do all the work
                self._add(self.most, work)

    def _are_needed(self) -> bool:
        """Wait until more threads would help; return False if the download ends before that."""
        used, began = time.process_time(), time.monotonic()
        while not self._latency.is_high:
            if self._ended.wait(_CHECK_EVERY):
                return False
            if (seconds := time.monotonic() - began) > _WINDOW:
                if time.process_time() - used < _IDLE * seconds:
                    return True
                used, began = time.process_time(), time.monotonic()
        return True
