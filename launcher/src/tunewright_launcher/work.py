"""What the threads of a fetch share: the queue of what is to be done, the largest first."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Iterator

import attrs

from tunewright.providers.snapshots import Entry
from tunewright_launcher.digests import Checks

MIB = 1 << 20
SMALL = 8 * MIB  # a file up to here is one range
_LARGEST_RANGE = 64 * MIB
_MOST_WAITING = 4096  # entries that are listed and not begun; more would only cost memory

_Ranked = tuple[bool, int, int, "Task"]


@attrs.define(eq=False)
class RangedFile:
    """A file that is read in ranges, which come in any order, and whose digests take them in from its beginning on.

    Attributes:
        entry: the file, as it was listed: that is what the journal knows it by.
        checks: of what is known of it since it was described.
        again: whether it was fetched before and did not match its digests.
    """

    entry: Entry
    checks: Checks
    again: bool = False
    _there: dict[int, int] = attrs.field(factory=dict, init=False)  # start → stop
    _position: int = attrs.field(default=0, init=False)
    _busy: bool = attrs.field(default=False, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def arrived(self, start: int, stop: int) -> None:
        """A range is there."""
        with self._lock:
            self._there[start] = stop

    def take(self) -> tuple[int, int] | None:
        """The next range for the digests; None if it is not there yet, or if another thread is at one."""
        with self._lock:
            if self._busy or self._position not in self._there:
                return None
            self._busy = True
            return self._position, self._there.pop(self._position)

    def taken(self, stop: int) -> bool:
        """The digests have it; whether they have all of the file."""
        with self._lock:
            self._busy, self._position = False, stop
            return stop == self.entry.size


@attrs.frozen(eq=False)
class Task:
    """One thing to do: an entry to begin, or a range of a large file.

    Attributes:
        entry: what it is a part of.
        small: whether it is a whole file that comes in one range.
        large: the file that it is a range of.
        start: of the range.
        stop: of the range.
    """

    entry: Entry
    small: bool = False
    large: RangedFile | None = None
    start: int = 0
    stop: int = 0


class Queue:
    """What is to be done. The lister waits while it is full, so that memory stays bounded."""

    def __init__(self) -> None:
        self._large: list[_Ranked] = []
        self._small: list[_Ranked] = []
        self._count = itertools.count()
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        # Apart, for each call wakes one thread: one that takes small files alone would sleep on a call for a large one.
        self._filled_small = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._open = 1  # the lister, and every piece of work that is not done
        self.error: BaseException | None = None

    def put(self, work: Task, *, wait: bool = False) -> None:
        """Add something to do, which is open until `done`."""
        with self._lock:
            while wait and len(self._large) + len(self._small) >= _MOST_WAITING and self.error is None:
                self._room.wait()
            self._open += 1
            self._push(work)

    def put_back(self, work: Task) -> None:
        """What was taken is still to be done."""
        with self._lock:
            self._push(work)

    def _push(self, work: Task) -> None:
        # The ranges of a file that was begun come before other files.
        rank = (work.large is None, -work.entry.size, next(self._count), work)
        heapq.heappush(self._small if work.small else self._large, rank)
        self._filled.notify()
        if work.small:
            self._filled_small.notify()

    def take(self) -> Task | None:
        """The next thing to do; None when everything is done, or a thread has failed."""
        with self._lock:
            while not (self._large or self._small) and self._open and self.error is None:
                self._filled.wait()
            if self.error is not None or not (self._large or self._small):
                return None
            self._room.notify()
            return heapq.heappop(self._large or self._small)[3]

    def take_small(self, most: int, *, wait: bool) -> list[Task]:
        """So many small files at most; none if there are none now, or after waiting when everything is done."""
        with self._lock:
            while wait and not self._small and self._open and self.error is None:
                self._filled_small.wait()
            if self.error is not None:
                return []
            self._room.notify()
            return [heapq.heappop(self._small)[3] for _ in range(min(most, len(self._small)))]

    def done(self) -> None:
        """The lister, or a piece of work, is done."""
        with self._lock:
            self._open -= 1
            if not self._open:
                self._call_all()

    def fail(self, error: BaseException) -> None:
        """A thread has failed: all end. The first error stays."""
        with self._lock:
            self.error = self.error or error
            self._call_all()

    def _call_all(self) -> None:
        for condition in (self._filled, self._filled_small, self._room):
            condition.notify_all()


def between(gaps: list[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    """What is there of a file, between its gaps."""
    position = 0
    for start, stop in [*gaps, (size, size)]:
        if start > position:
            yield position, start
        position = stop


def range_length(size: int, connections: int) -> int:
    """Bytes of the ranges of a large file: few requests, and yet enough for all connections, and to share the end."""
    return max(SMALL, min(_LARGEST_RANGE, -(-size // (2 * connections))))
