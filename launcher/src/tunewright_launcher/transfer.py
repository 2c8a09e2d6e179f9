"""Read ranges of files to their end: opened again where a connection broke, within the limits.

A source without ranges is read in one stream. Where that breaks, the stream begins again, and what has arrived is skipped.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar, cast

from tunewright.errors import ExitCode, FetchError, RangeRefused, SourceChanged
from tunewright.providers.limits import FetchLimits
from tunewright.providers.snapshots import Digest, Entry, Reader, Snapshot
from tunewright_launcher.progress import Progress
from tunewright_launcher.promises import Calls, checked_count, checked_digests
from tunewright_launcher.rate_limit import RateLimiter, StallDetector
from tunewright_launcher.tasks import MIB, Queue
from tunewright_launcher.threads import LatencyTracker

_BUFFER = MIB // 2
_LONGEST_HELD = 0.1  # seconds for which bytes are held back, to write more of them at once

Retried = Callable[[FetchError, int, float], None]
"""Receives an error that may pass, how often it has occurred in a row, and the pause in seconds; called from many threads."""

Sink = Callable[[memoryview, int, tuple[Digest, ...]], None]
"""Receives bytes of a file, their position in it, and the digests that the source reported with them."""

_T = TypeVar("_T")


class Stopped(Exception):  # noqa: N818 - not an error: another thread has one
    """Another thread has ended the download."""


class Transfer:
    """The reads of one download; all threads share it.

    Args:
        snapshot: what is read.
        limits: limits on network use.
        progress: counts the bytes.
        queue: has an error once the download has ended. Not a method of the download: a circle of references would keep what the
            snapshot has on the disk.
        retried: receives each error after which there is a pause.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        limits: FetchLimits,
        progress: Progress,
        queue: Queue,
        retried: Retried | None,
    ) -> None:
        self.latency = LatencyTracker()
        self.calls = Calls(limits.listing)
        self._snapshot = snapshot
        self._limits = limits
        self._progress = progress
        self._retried = retried
        self._queue = queue
        self._rate = RateLimiter(limits.rate)
        self._thread = threading.local()

    def read(
        self,
        entry: Entry,
        start: int,
        stop: int,
        sink: Sink,
        *,
        first: AbstractContextManager[Reader] | None = None,
        in_one: bool = False,
    ) -> None:
        """Read a range to its end, resuming after each broken connection.

        Args:
            entry: the file.
            start: offset of the first byte.
            stop: offset after the last byte.
            sink: receives the bytes, in order.
            first: the range, if it is open already.
            in_one: whether the range is the whole file, which a source without ranges may send again from its beginning.

        Raises:
            FetchError: it cannot be read; RangeRefused: the source does not send the range, and `in_one` is not set.
        """
        position, failures, ranged = start, 0, True
        while position < stop:
            before = position
            try:
                with first or self.open(entry, position if ranged else 0, stop) as reader:
                    first = None
                    digests = checked_digests(entry, reader)
                    skipped = self._skip(entry, reader, position, in_one=in_one, ranged=ranged)
                    for data in self._pieces(entry, reader, position, stop, skipped):
                        sink(data, position, digests)
                        position += len(data)
                        self._progress.add(len(data))
                if position == before:
                    raise _ended_early(entry, position, stop)
                failures = 0
            except SourceChanged:
                raise
            except RangeRefused:
                if not in_one or not ranged:
                    raise
                ranged = False
            except FetchError as error:
                moved = position > before
                failures = 1 if moved else failures + 1
                self._pause(error, failures, at_once=moved)

    def attempt(self, work: Callable[[], _T]) -> _T:
        """Return what a request returns; try again after transient errors.

        Raises:
            FetchError: it fails.
        """
        for failures in itertools.count(1):
            try:
                return work()
            except (SourceChanged, RangeRefused):
                raise
            except FetchError as error:
                self._pause(error, failures)
        raise AssertionError  # for the type checker

    @contextlib.contextmanager
    def open(self, entry: Entry, start: int, stop: int) -> Iterator[Reader]:
        """Open a range of a file once the limits allow it."""
        self._rate.wait(self._stopped)
        since = time.monotonic()
        with contextlib.ExitStack() as stack:
            self.calls.begins("open", entry)
            try:
                reader = stack.enter_context(self._snapshot.open(entry, start, stop))
            finally:
                self.calls.ends()
            self.latency.took(time.monotonic() - since)
            yield reader

    def _pause(self, error: FetchError, failures: int, *, at_once: bool = False) -> None:
        """Wait after a transient error; raise any other, or one that has repeated too often."""
        if not error.code.may_pass or failures >= self._limits.tries:
            raise error
        pause = self._rate.pause(0 if at_once else failures, error.retry_after)
        if self._retried is not None and pause > 0:
            self._retried(error, failures, pause)
        self._rate.rest(pause, self._stopped)
        if self._stopped():
            raise Stopped

    def _skip(self, entry: Entry, reader: Reader, position: int, *, in_one: bool, ranged: bool) -> StallDetector:
        """Skip what a stream of the whole file sends before the position."""
        slow = StallDetector(self._limits)
        whole = is_whole(reader)
        if whole and not in_one:
            raise RangeRefused(f"The source sent the whole of {entry.path}, and not the range that was asked for.")
        left = position if whole or not ranged else 0
        while left:
            left -= self._receive(entry, reader, self._buffer()[:left], slow) or _fail(entry, position - left, position)
        return slow

    def _pieces(self, entry: Entry, reader: Reader, start: int, stop: int, slow: StallDetector) -> Iterator[memoryview]:
        """Yield the bytes of a range, in pieces as large as the buffer unless they arrive slowly."""
        buffer, filled, since = self._buffer(), 0, time.monotonic()
        try:
            while start < stop and (
                count := self._receive(entry, reader, buffer[filled : filled + stop - start], slow)
            ):
                start, filled = start + count, filled + count
                if start == stop or filled == len(buffer) or time.monotonic() - since > _LONGEST_HELD:
                    yield buffer[:filled]
                    filled, since = 0, time.monotonic()
        except FetchError:
            if filled:
                yield buffer[:filled]
            raise
        if filled:  # the range ended early
            yield buffer[:filled]

    def _receive(self, entry: Entry, reader: Reader, buffer: memoryview, slow: StallDetector) -> int:
        self.calls.begins("readinto", entry)
        try:
            count = checked_count(entry, reader.readinto(buffer), len(buffer))
        finally:
            self.calls.ends()
        if self._stopped():
            raise Stopped
        slow.check(count, entry.path)
        self._rate.spend(count)
        return count

    def _stopped(self) -> bool:
        return self._queue.error is not None

    def _buffer(self) -> memoryview:
        if not hasattr(self._thread, "buffer"):
            self._thread.buffer = memoryview(bytearray(_BUFFER))
        return cast("memoryview", self._thread.buffer)


def is_whole(reader: Reader) -> bool:
    """Return whether a reader sends the whole file, from its first byte, in place of the range; see `Reader`."""
    return bool(getattr(reader, "whole", False))


@contextlib.contextmanager
def handed_over(stack: contextlib.ExitStack, reader: Reader) -> Iterator[Reader]:
    """Yield a reader that was opened before, and close it."""
    with stack:
        yield reader


def _fail(entry: Entry, position: int, stop: int) -> int:
    raise _ended_early(entry, position, stop)


def _ended_early(entry: Entry, position: int, stop: int) -> FetchError:
    cause = f"The source sent none of the bytes {position} to {stop} of {entry.path}, which has {entry.size}."
    remedy = "Start it again later; if this persists, the source is damaged."
    return FetchError(cause, remedy=remedy, code=ExitCode.TRY_AGAIN)
