"""The fetch engine: download the entries of a snapshot into a folder, in parallel, verified, resuming where it left off.

One thread lists; the others take the largest file that is known. Several of them fetch a large file in ranges, and verify it
once the last range has arrived; a small file is verified while it arrives. A broken connection is resumed at the last byte. The
first error that retrying cannot fix ends the download; the journal keeps what has arrived for the next try.
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
from tunewright_launcher.forked_worker import forked_worker
from tunewright_launcher.journal import FileRecord, Journal, missing, short
from tunewright_launcher.progress import Progress, Report
from tunewright_launcher.rate_limit import RateLimiter, StallDetector
from tunewright_launcher.tasks import MIB, SMALL, Queue, RangedFile, Task, between, range_length
from tunewright_launcher.threads import LatencyTracker, Threads

_BUFFER = MIB // 2
_LONGEST_HELD = 0.1  # seconds for which bytes are held back, to write more of them at once
_MANY = 100  # number of files that makes a second process worthwhile

Records = Iterator[tuple[str, FileRecord]]

Retried = Callable[[FetchError, int, float], None]
"""Receives an error that may pass, how often it has occurred in a row, and the pause in seconds; called from many threads."""


def fetch_snapshot(
    snapshot: Snapshot,
    folder: Path,
    *,
    journal: Journal | None = None,
    limits: FetchLimits | None = None,
    report: Report | None = None,
    retried: Retried | None = None,
) -> Records:
    """Download all entries of a snapshot into a folder.

    Args:
        snapshot: what to download.
        folder: where to; it exists.
        journal: the record of what the folder already has, which is continued; everything else in the folder is removed.
            None for a download that cannot be resumed, and leaves other files alone.
        limits: limits on network use.
        report: called from time to time with the bytes in the folder, and those of all files once they are listed.
        retried: called with each error after which a range is read again.

    Returns:
        Path and record of each file; consume it before the journal is closed.

    Raises:
        FetchError: NO_SPACE, BAD_DATA (a hostile name, or contents that differ from the source's), or the source's own.
        SourceChanged: a file changed during the download.
    """
    if journal is not None:
        if not journal.resumed:
            empty(folder)  # from an earlier download, whose journal never reached the disk
        return _fetch(_Fetch(snapshot, folder, journal, limits or FetchLimits(), report=report, retried=retried))
    with tempfile.TemporaryDirectory() as scratch:
        temporary = Journal(Path(scratch, "journal"))
        try:
            fetch = _Fetch(snapshot, folder, temporary, limits or FetchLimits(), report=report, retried=retried)
            return iter(list(_fetch(fetch)))
        finally:
            temporary.close()


def _fetch(fetch: _Fetch, *, again: bool = True) -> Records:
    fetch.run()
    snapshot, journal = fetch.snapshot, fetch.journal
    if type(snapshot).finish is Snapshot.finish:
        return journal.records()
    try:
        return _finished(snapshot, fetch.folder, dict(journal.records()))
    except FetchError as error:
        if error.code is ExitCode.BAD_DATA and any(record.verified == SIZE for _, record in journal.records()):
            # It may have been damaged in transit, with no digest to detect it.
            journal.forget_all()
            if again:
                return _fetch(fetch.anew(), again=False)
        raise


def _finished(snapshot: Snapshot, folder: Path, fetched: dict[str, FileRecord]) -> Records:
    """Let the snapshot finish. Files that it makes of a single entry take over that entry's version and verification."""
    made = snapshot.finish(folder) or {}
    origin = next(iter(fetched.values())) if len(fetched) == 1 else FileRecord(size=0, sha256="")
    for path, sha256 in made.items():
        fetched[path] = attrs.evolve(origin, size=(folder / path).stat().st_size, sha256=sha256)
    return scan(folder, fetched)


class _Stopped(Exception):  # noqa: N818 - not an error: another thread has one
    """Another thread has ended the download."""


class _Fetch:
    """One download of one snapshot."""

    def __init__(
        self,
        snapshot: Snapshot,
        folder: Path,
        journal: Journal,
        limits: FetchLimits,
        *,
        report: Report | None,
        retried: Retried | None,
    ) -> None:
        self.snapshot = self._snapshot = snapshot
        self.folder = folder
        self.journal = self._journal = journal
        self._files = Files(folder)
        self._limits = limits
        self._report, self._retried = report, retried
        self._queue = Queue()
        self._rate = RateLimiter(limits.rate)
        self._progress = Progress(report)
        self._latency = LatencyTracker()
        self._thread = threading.local()

    def anew(self) -> _Fetch:
        """Return the same download, to be run again."""
        return _Fetch(
            self.snapshot, self.folder, self.journal, self._limits, report=self._report, retried=self._retried
        )

    def run(self) -> None:
        """Download everything; see `fetch_snapshot`."""
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
        """Run the reader threads and processes until there is nothing left to do; start after the snapshot's first requests."""
        count = max(1, self._limits.connections)
        with contextlib.ExitStack() as stack:
            if self._is_for_two(first):
                theirs = Threads(count // 2, self._latency)
                stack.enter_context(forked_worker(self._small, theirs, self._queue, self._progress))
                count -= count // 2
            threads = Threads(count, self._latency)
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
        """Return whether a second process is worthwhile. Two processes cannot share a rate limit."""
        allowed = self._limits.processes > 1 and self._limits.connections > 1 and self._limits.rate is None
        return allowed and self._snapshot.forkable and len(first) == _MANY

    def _list(self, entries: Iterator[Entry]) -> set[bytes]:
        """Queue every entry that is missing; return what was listed, as `short` of the paths."""
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
            cause = "There is nothing to download: the source has no files, or the patterns select none."
            raise FetchError(cause, remedy="Check the URI, and the patterns if there are any.", code=ExitCode.NOT_FOUND)
        self._files.reserve(self._snapshot.extra_space)
        self._progress.total = total
        return listed

    def _begin(self, entry: Entry) -> None:
        if self._journal.expects(entry):
            if self._files.size(entry.path) == entry.size:
                self._progress.add(entry.size)
                return
            self._journal.forget(entry)
        present = self._journal.ranges(entry)
        self._files.reserve(sum(stop - start for start, stop in missing(present, entry.size)))
        small = entry.size <= SMALL and not present
        self._queue.put(Task(entry, small=small), wait=True)

    def _work(self) -> None:
        """Run one thread, until there is nothing left to do."""
        while (task := self._queue.take()) is not None:
            try:
                if task.large is not None:
                    self._range(task.large, task.start, task.stop)
                elif task.small:
                    self._small(task.entry)
                else:
                    self._large(task.entry)
            except _Stopped:
                return
            except BaseException as error:  # `run` raises it
                self._queue.fail(error)
                return
            self._queue.done()

    def _small(self, entry: Entry, *, again: bool = True) -> None:
        """Download a file in one range, and verify it as it arrives."""
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
            # Once more: it may have been damaged in transit.
            self._progress.add(-entry.size)
            self._small(entry, again=False)

    def _large(self, entry: Entry) -> None:
        """Begin a large file. Keep what has arrived, unless it may have been lost with no digest to detect that."""
        checks = Checks(self._describe(entry).digests, entry.size)
        if not (checks.compares or self._journal.same_boot(entry)):
            self._journal.forget(entry)
        self._split(RangedFile(entry, checks))

    def _split(self, large: RangedFile) -> None:
        """Queue its missing ranges."""
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
        """Hash the ranges that have arrived, in order; compare the digests after the last one.

        Ranges arrive out of order, so they are read back, mostly from the page cache. This happens while others are still
        arriving, so that little is left to do at the end.
        """
        while (piece := large.take()) is not None:
            start, stop = piece
            self._read_back(large, start, stop)
            if large.taken(stop):
                self._compare(large)

    def _read_back(self, large: RangedFile, start: int, stop: int) -> None:
        # Larger pieces than the network's: waiting for the interpreter here would delay the end of the download.
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
            # Once more, from the beginning: a range may have been damaged in transit.
            self._progress.add(-entry.size)
            self._split(RangedFile(entry, large.checks.reset(), again=True))

    def _finish(self, entry: Entry, checks: Checks) -> None:
        verified = checks.verify(entry.path)
        self._journal.finished(entry, sha256=checks.sha256, verified=verified)

    def _read(
        self, entry: Entry, start: int, stop: int, sink: Callable[[memoryview, int, tuple[Digest, ...]], None]
    ) -> None:
        """Read a range to its end, resuming after each broken connection."""
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
        """Wait after a transient error; raise any other, or one that has repeated too often."""
        if not error.code.may_pass or failures >= self._limits.tries:
            raise error
        pause = self._rate.pause(0 if at_once else failures, error.retry_after)
        if self._retried is not None and pause > 0:
            self._retried(error, failures, pause)
        self._rate.rest(pause, self._stopped)
        if self._stopped():
            raise _Stopped

    def _pieces(self, entry: Entry, start: int, stop: int) -> Iterator[tuple[memoryview, tuple[Digest, ...]]]:
        """Yield the bytes of a range, in pieces as large as the buffer unless they arrive slowly."""
        self._rate.wait(self._stopped)
        buffer, filled, since = self._buffer(), 0, time.monotonic()
        slow = StallDetector(self._limits)
        with self._snapshot.open(entry, start, stop) as reader:
            self._latency.took(time.monotonic() - since)
            try:
                while start < stop and (count := reader.readinto(buffer[filled : filled + stop - start])):
                    start, filled = start + count, filled + count
                    if self._stopped():
                        raise _Stopped
                    slow.check(count, entry.path)
                    self._rate.spend(count)
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
