"""The fetch engine: brings the entries of a snapshot into a folder, in parallel, verified, and from where it was.

One thread lists; the others take the largest file that is known. A large file is read in ranges by several of them and
verified when the last one is there; a small one is verified while it comes in. Whatever breaks off goes on at its last
byte. The first error that waiting cannot mend ends it all; the journal keeps what is there for the next try.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import attrs

from tunewright.errors import ExitCode, FetchError, SourceChanged
from tunewright.providers.limits import FetchLimits
from tunewright.providers.snapshots import Digest, Entry, Snapshot
from tunewright_launcher.digests import SIZE, Checks
from tunewright_launcher.files import Files, begin_to_flush, check_path, empty, hostile, scan, write
from tunewright_launcher.helper import helped
from tunewright_launcher.journal import FileRecord, Journal, missing, short
from tunewright_launcher.pace import Progress, RateLimiter, StallDetector, Tell
from tunewright_launcher.threads import LatencyTracker, Threads
from tunewright_launcher.work import MIB, SMALL, Queue, RangedFile, Task, between, range_length

_BUFFER = MIB // 2
_LONGEST_HELD = 0.1  # seconds for which bytes are kept back, to write more of them at once
_MANY = 100  # files from which on a second process is worth its while

Records = Iterator[tuple[str, FileRecord]]


def fetch_snapshot(
    snapshot: Snapshot,
    folder: Path,
    *,
    journal: Journal | None = None,
    limits: FetchLimits | None = None,
    tell: Tell | None = None,
) -> Records:
    """Bring all entries of a snapshot into a folder.

    Args:
        snapshot: what to fetch.
        folder: where to; it exists.
        journal: what is there already, and where the finished files are recorded: whatever else is in the folder is
            removed. None for a fetch that is not resumed, and leaves other files alone.
        limits: how to behave towards the network.
        tell: is called now and then with the bytes that are there, and with those of all files once they are listed.

    Returns:
        Path and record of each file; to be used up before the journal is closed.

    Raises:
        FetchError: NO_SPACE, BAD_DATA (a hostile name, other contents than the source says), or the source's own.
        SourceChanged: a file changed while it was fetched.
    """
    if journal is not None:
        if not journal.resumed:
            empty(folder)  # of an earlier fetch, whose journal has not got to the disk
        return _fetch(snapshot, folder, journal, limits or FetchLimits(), tell)
    with tempfile.TemporaryDirectory() as scratch:
        temporary = Journal(Path(scratch, "journal"))
        try:
            return iter(list(_fetch(snapshot, folder, temporary, limits or FetchLimits(), tell)))
        finally:
            temporary.close()


def _fetch(
    snapshot: Snapshot, folder: Path, journal: Journal, limits: FetchLimits, tell: Tell | None, *, again: bool = True
) -> Records:
    _Fetch(snapshot, folder, journal, limits, tell).run()
    if type(snapshot).finish is Snapshot.finish:
        return journal.records()
    try:
        return _finished(snapshot, folder, dict(journal.records()))
    except FetchError as error:
        if error.code is ExitCode.BAD_DATA and any(record.verified == SIZE for _, record in journal.records()):
            # It may have been damaged on its way, without a digest that would have shown it.
            journal.forget_all()
            if again:
                return _fetch(snapshot, folder, journal, limits, tell, again=False)
        raise


def _finished(snapshot: Snapshot, folder: Path, fetched: dict[str, FileRecord]) -> Records:
    """Let the snapshot finish; what it has made of a single entry is of that entry's version, and as well verified."""
    made = snapshot.finish(folder) or {}
    origin = next(iter(fetched.values())) if len(fetched) == 1 else FileRecord(size=0, sha256="")
    for path, sha256 in made.items():
        fetched[path] = attrs.evolve(origin, size=(folder / path).stat().st_size, sha256=sha256)
    return scan(folder, fetched)


class _Stopped(Exception):  # noqa: N818 - no error: another thread has one
    """The fetch has ended in another thread."""


class _Fetch:
    """One fetch of one snapshot."""

    def __init__(
        self, snapshot: Snapshot, folder: Path, journal: Journal, limits: FetchLimits, tell: Tell | None
    ) -> None:
        self._snapshot = snapshot
        self._files = Files(folder)
        self._journal = journal
        self._limits = limits
        self._queue = Queue()
        self._pace = RateLimiter(limits.rate)
        self._progress = Progress(tell)
        self._answers = LatencyTracker()
        self._thread = threading.local()

    def run(self) -> None:
        """Fetch everything; see `fetch_snapshot`."""
        self._snapshot.use_limits(self._limits)
        with self._progress, self._files:
            try:
                entries = self._snapshot.entries()
                first = list(itertools.islice(entries, _MANY))
                with self._workers(first):
                    listed = self._list(itertools.chain(first, entries))
            except BaseException as error:
                self._queue.fail(error)
                raise
            if self._queue.error is not None:
                raise self._queue.error
            if self._journal.resumed:
                self._files.keep_only(listed)

    @contextlib.contextmanager
    def _workers(self, first: list[Entry]) -> Iterator[None]:
        """All that read, until there is nothing left to do; begun when the snapshot has looked around."""
        count = max(1, self._limits.connections)
        with contextlib.ExitStack() as stack:
            if self._is_for_two(first):
                helpers = Threads(count // 2, self._answers)
                stack.enter_context(helped(self._small, helpers, self._queue, self._progress))
                count -= count // 2
            threads = Threads(count, self._answers)
            threads.start(self._work)
            try:
                yield
            except BaseException as error:
                self._queue.fail(error)
                raise
            finally:
                self._queue.done()
                threads.join()

    def _is_for_two(self, first: list[Entry]) -> bool:
        """Whether there is enough to do for a second process; its rate could not be limited together with this one's."""
        allowed = self._limits.processes > 1 and self._limits.connections > 1 and self._limits.rate is None
        return allowed and self._snapshot.forkable and len(first) == _MANY

    def _list(self, entries: Iterator[Entry]) -> set[bytes]:
        """Let the workers have every entry that is not there; returns what was listed, as `short` of the paths."""
        listed: set[bytes] = set()
        total = 0
        for entry in entries:
            check_path(entry.path)
            if (key := short(entry.path)) in listed:
                raise hostile(entry.path, "is listed twice")
            listed.add(key)
            total += entry.size
            self._begin(entry)
            if self._stopped():
                return listed
        if not listed:
            cause = "There is nothing to fetch: not one file is there, or the patterns select none."
            raise FetchError(
                cause, remedy="Check the URI, and the patterns if there are some.", code=ExitCode.NOT_FOUND
            )
        self._files.reserve(self._snapshot.extra_space)
        self._progress.total = total
        return listed

    def _begin(self, entry: Entry) -> None:
        if self._journal.expects(entry):
            if self._files.size(entry.path) == entry.size:
                self._progress.add(entry.size)
                return
            self._journal.forget(entry)
        there = self._journal.ranges(entry)
        self._files.reserve(sum(stop - start for start, stop in missing(there, entry.size)))
        small = entry.size <= SMALL and not there
        self._queue.put(Task(entry, small=small), wait=True)

    def _work(self) -> None:
        """What each thread does, until there is nothing left to do."""
        while (work := self._queue.take()) is not None:
            try:
                if work.large is not None:
                    self._range(work.large, work.start, work.stop)
                elif work.small:
                    self._small(work.entry)
                else:
                    self._large(work.entry)
            except _Stopped:
                return
            except BaseException as error:  # whatever it is, `run` raises it
                self._queue.fail(error)
                return
            self._queue.done()

    def _small(self, entry: Entry, *, again: bool = True) -> None:
        """Fetch a file in one range, and verify it on its way."""
        checks: Checks | None = None

        def sink(data: memoryview, position: int, digests: tuple[Digest, ...]) -> None:
            nonlocal checks
            checks = checks or Checks((*entry.digests, *digests), entry.size)
            checks.update(data)
            write(handle, data, position)

        with self._files.create(entry.path) as handle:
            self._read(entry, 0, entry.size, sink)
            self._files.begin_to_flush(handle, entry.size)
        try:
            self._finish(entry, checks or Checks(entry.digests, 0))
        except FetchError:
            if not again:
                raise
            # Once more: it may have been damaged on its way.
            self._progress.add(-entry.size)
            self._small(entry, again=False)

    def _large(self, entry: Entry) -> None:
        """Begin a large file, with what is there of it, unless that may be lost and nothing would show it."""
        checks = Checks(self._describe(entry).digests, entry.size)
        if not (checks.compares or self._journal.same_boot(entry)):
            self._journal.forget(entry)
        self._split(RangedFile(entry, checks))

    def _split(self, large: RangedFile) -> None:
        """Put the ranges that it lacks into the queue."""
        entry = large.entry
        self._files.create_sparse(entry.path, entry.size)
        gaps = missing(self._journal.ranges(entry), entry.size)
        length = range_length(entry.size, self._limits.connections)
        for start, stop in between(gaps, entry.size):
            large.arrived(start, stop)
            if not large.again:
                self._progress.add(stop - start)
        for start, stop in gaps:
            for position in range(start, stop, length):
                part = Task(entry, large=large, start=position, stop=min(position + length, stop))
                self._queue.put(part)
        self._verify(large)

    def _range(self, large: RangedFile, start: int, stop: int) -> None:
        def sink(data: memoryview, position: int, _: tuple[Digest, ...]) -> None:
            write(handle, data, position)
            self._journal.wrote(large.entry, position, position + len(data))

        with self._files.open(large.entry.path) as handle:
            self._read(large.entry, start, stop, sink)
            begin_to_flush(handle, start, stop)
        large.arrived(start, stop)
        self._verify(large)

    def _verify(self, large: RangedFile) -> None:
        """Let the digests take in what is there; compare them when they have all of it.

        It is read once more, from the page cache mostly: it came in another order. While the file is not whole, so that
        there is little left to do when it is.
        """
        while (piece := large.take()) is not None:
            start, stop = piece
            self._read_back(large, start, stop)
            if large.taken(stop):
                self._compare(large)

    def _read_back(self, large: RangedFile, start: int, stop: int) -> None:
        # Larger pieces than the network's: whoever waits here for the interpreter keeps the end of the fetch waiting.
        buffer = memoryview(bytearray(MIB))
        with self._files.open(large.entry.path) as handle:
            while start < stop and (count := os.preadv(handle, [buffer[: stop - start]], start)):
                large.checks.update(buffer[:count])
                start += count
                if self._stopped():
                    raise _Stopped

    def _compare(self, large: RangedFile) -> None:
        entry = large.entry
        try:
            self._finish(entry, large.checks)
        except FetchError:
            self._journal.forget(entry)
            if large.again:
                raise
            # Once more, from the beginning: a range may have been damaged on its way.
            self._progress.add(-entry.size)
            self._split(RangedFile(entry, large.checks.anew(), again=True))

    def _finish(self, entry: Entry, checks: Checks) -> None:
        verified = checks.verify(entry.path)
        self._journal.finished(entry, sha256=checks.sha256, verified=verified)

    def _read(
        self, entry: Entry, start: int, stop: int, sink: Callable[[memoryview, int, tuple[Digest, ...]], None]
    ) -> None:
        """Read a range to its end, going on where it breaks off."""
        position, failures = start, 0
        while position < stop:
            before = position
            try:
                for data, digests in self._pieces(entry, position, stop):
                    sink(data, position, digests)
                    position += len(data)
                    self._progress.add(len(data))
            except SourceChanged:
                raise
            except FetchError as error:
                moved = position > before
                failures = 1 if moved else failures + 1
                self._pause(error, failures, at_once=moved)

    def _describe(self, entry: Entry) -> Entry:
        for failures in itertools.count(1):
            try:
                return self._snapshot.describe(entry)
            except SourceChanged:
                raise
            except FetchError as error:
                self._pause(error, failures)
        raise AssertionError  # for the type checker

    def _pause(self, error: FetchError, failures: int, *, at_once: bool = False) -> None:
        """Wait after an error; raise it if that does not help, or has not helped so often in a row."""
        if not error.code.may_pass or failures >= self._limits.tries:
            raise error
        self._pace.pause(0 if at_once else failures, error.retry_after, self._stopped)
        if self._stopped():
            raise _Stopped

    def _pieces(self, entry: Entry, start: int, stop: int) -> Iterator[tuple[memoryview, tuple[Digest, ...]]]:
        """What is read of a range, in pieces that are as large as they may be, unless they are long in coming."""
        self._pace.wait(self._stopped)
        buffer, filled, since = self._buffer(), 0, time.monotonic()
        slow = StallDetector(self._limits)
        with self._snapshot.open(entry, start, stop) as reader:
            self._answers.took(time.monotonic() - since)
            try:
                while start < stop and (count := reader.readinto(buffer[filled : filled + stop - start])):
                    start, filled = start + count, filled + count
                    if self._stopped():
                        raise _Stopped
                    slow.check(count, entry.path)
                    self._pace.spend(count)
                    if start == stop or filled == len(buffer) or time.monotonic() - since > _LONGEST_HELD:
                        yield buffer[:filled], reader.digests
                        filled, since = 0, time.monotonic()
            except FetchError:
                if filled:
                    yield buffer[:filled], reader.digests
                raise

    def _buffer(self) -> memoryview:
        if not hasattr(self._thread, "buffer"):
            self._thread.buffer = memoryview(bytearray(_BUFFER))
        return cast("memoryview", self._thread.buffer)

    def _stopped(self) -> bool:
        return self._queue.error is not None
