"""The tasks of a download: the queue that its threads share, largest first, and the ranges of large files."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Iterator

import attrs

from tunewright.providers.snapshots import Digest, Entry
from tunewright_launcher.digests import Checks

MIB = 1 << 20
SMALL = 8 * MIB  # a file of up to this size is fetched in one range
_LARGEST_RANGE = 64 * MIB
_MOST_WAITING = 4096  # entries that are listed but not begun; more would only cost memory

_Ranked = tuple[bool, int, int, "Task"]


@attrs.define(eq=False)
class RangedFile:
    """A file that is fetched in ranges. They arrive in any order, and are hashed in order.

    Attributes:
        entry: the file as it was listed, which is how the journal identifies it.
        checks: compares its digests.
        digests: all that the source reports.
        counted: bytes that the progress of the download has counted for it.
        refused: whether the source refused a range, so that the file has to be read in one stream.
    """

    entry: Entry
    checks: Checks
    digests: tuple[Digest, ...]
    counted: int = attrs.field(default=0, init=False)
    refused: bool = attrs.field(default=False, init=False)
    _active: int = attrs.field(default=0, init=False)
    _there: dict[int, int] = attrs.field(factory=dict, init=False)  # start → stop
    _position: int = attrs.field(default=0, init=False)
    _busy: bool = attrs.field(default=False, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def enter(self) -> bool:
        """Record that a thread begins with a range; return whether it should."""
        with self._lock:
            self._active += not self.refused
            return not self.refused

    def leave(self) -> bool:
        """Record that a thread is done with a range; return whether it has to read the file: a range was refused, and no other reads."""
        with self._lock:
            self._active -= 1
            return self.refused and not self._active

    def refuse(self) -> None:
        """Record that the source refused a range; ranges that are being read end, and no other begins."""
        with self._lock:
            self.refused = True

    def count(self, size: int) -> None:
        """Record how many bytes the progress has counted."""
        with self._lock:
            self.counted += size

    def arrived(self, start: int, stop: int) -> None:
        """Record that a range is on the volume."""
        with self._lock:
            self._there[start] = stop

    def take(self) -> tuple[int, int] | None:
        """Return the next range to hash; None if it has not arrived, or another thread is hashing one."""
        with self._lock:
            if self._busy or self._position not in self._there:
                return None
            self._busy = True
            return self._position, self._there.pop(self._position)

    def taken(self, stop: int) -> bool:
        """Record that the range is hashed; return whether the whole file is."""
        with self._lock:
            self._busy, self._position = False, stop
            return stop == self.entry.size


@attrs.frozen(eq=False)
class Task:
    """One task: an entry to begin, or a range of a large file.

    Attributes:
        entry: the file.
        small: whether it is a whole file that is fetched in one range.
        large: the file of which it is a range; None for a whole file.
        start: first byte of the range.
        stop: end of the range.
    """

    entry: Entry
    small: bool = False
    large: RangedFile | None = None
    start: int = 0
    stop: int = 0


class Queue:
    """The tasks that are left. The lister waits while the queue is full, so that memory stays bounded."""

    def __init__(self) -> None:
        self._large: list[_Ranked] = []
        self._small: list[_Ranked] = []
        self._count = itertools.count()
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        # A condition of its own: notify() wakes one thread, and one that takes only small files would ignore a large one.
        self._filled_small = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._open = 1  # the lister, and every task that is not done
        self.error: BaseException | None = None

    def put(self, task: Task, *, wait: bool = False) -> None:
        """Add a task, which is open until `done`."""
        with self._lock:
            while wait and len(self._large) + len(self._small) >= _MOST_WAITING and self.error is None:
                self._room.wait()
            self._open += 1
            self._push(task)

    def put_back(self, task: Task) -> None:
        """Put back a task that was taken."""
        with self._lock:
            self._push(task)

    def _push(self, task: Task) -> None:
        # Ranges of a file that was begun come before other files.
        rank = (task.large is None, -task.entry.size, next(self._count), task)
        heapq.heappush(self._small if task.small else self._large, rank)
        self._filled.notify()
        if task.small:
            self._filled_small.notify()

    def take(self) -> Task | None:
        """Return the next task; None once everything is done, or a thread has failed."""
        with self._lock:
            while not (self._large or self._small) and self._open and self.error is None:
                self._filled.wait()
            if self.error is not None or not (self._large or self._small):
                return None
            self._room.notify()
            return heapq.heappop(self._large or self._small)[3]

    def take_small(self, most: int, *, wait: bool) -> list[Task]:
        """Return up to `most` small files; none if there are none now or, after waiting, once everything is done."""
        with self._lock:
            while wait and not self._small and self._open and self.error is None:
                self._filled_small.wait()
            if self.error is not None:
                return []
            self._room.notify()
            return [heapq.heappop(self._small)[3] for _ in range(min(most, len(self._small)))]

    def done(self) -> None:
        """Record that a task, or the lister, is done."""
        with self._lock:
            self._open -= 1
            if not self._open:
                self._wake_all()

    def fail(self, error: BaseException) -> None:
        """Record an error, which ends all threads. The first one is kept."""
        with self._lock:
            self.error = self.error or error
            self._wake_all()

    def _wake_all(self) -> None:
        for condition in (self._filled, self._filled_small, self._room):
            condition.notify_all()


def between(gaps: list[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a file between its gaps."""
    position = 0
    for start, stop in [*gaps, (size, size)]:
        if start > position:
            yield position, start
        position = stop


def range_length(size: int, connections: int) -> int:
    """Return the length of a large file's ranges: few requests, but enough for all connections to share, also at the end."""
    return max(SMALL, min(_LARGEST_RANGE, -(-size // (2 * connections))))
