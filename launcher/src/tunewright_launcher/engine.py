"""The fetch engine: download the entries of a snapshot into a folder, in parallel, verified, resuming where it left off.

One thread lists; the others take the largest file that is known. Several of them fetch a large file in ranges, and verify it
once the last range has arrived; a small file is verified while it arrives. A broken connection is resumed at the last byte. The
first error that retrying cannot fix ends the download; the journal keeps what has arrived for the next try.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import attrs

from tunewright.errors import ExitCode, FetchError, RangeRefused
from tunewright.providers.limits import FetchLimits
from tunewright.providers.snapshots import Digest, Entry, Reader, Snapshot
from tunewright_launcher.digests import SIZE, Checks
from tunewright_launcher.files import Files, allocate, begin_to_flush, check_path, empty, hostile, scan, write
from tunewright_launcher.forked_worker import forked_worker
from tunewright_launcher.in_time import in_time
from tunewright_launcher.journal import FileRecord, Journal, missing, short
from tunewright_launcher.progress import Progress, Report
from tunewright_launcher.promises import checked_entry, checked_made, checked_space
from tunewright_launcher.stream import LargeStream, Stream, hash_written
from tunewright_launcher.tasks import SMALL, Queue, RangedFile, Task, between, range_length
from tunewright_launcher.threads import Threads
from tunewright_launcher.transfer import Retried, Stopped, Transfer, handed_over, is_whole

_MANY = 100  # number of files that makes a second process worthwhile

Records = Iterator[tuple[str, FileRecord]]


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
    for path, sha256 in checked_made(snapshot, folder, made):
        fetched[path] = attrs.evolve(origin, size=(folder / path).stat().st_size, sha256=sha256)
    return scan(folder, fetched)


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
        self._progress = Progress(report)
        self._transfer = Transfer(snapshot, limits, self._progress, self._queue, retried)

    def anew(self) -> _Fetch:
        """Return the same download, to be run again."""
        return _Fetch(
            self.snapshot, self.folder, self.journal, self._limits, report=self._report, retried=self._retried
        )

    def run(self) -> None:
        """Download everything; see `fetch_snapshot`."""
        self._snapshot.use_limits(self._limits)
        entries = in_time(iter(self._snapshot.entries()), self._limits.listing, "The source's listing")
        # Closed here: it has set an alarm, which only this thread can take back.
        with self._progress, self._files, contextlib.closing(entries):
            try:
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
                theirs = Threads(count // 2, self._transfer.latency)
                stack.enter_context(forked_worker(self._small, theirs, self._queue, self._progress))
                count -= count // 2
            threads = Threads(count, self._transfer.latency, self._transfer.calls.hangs)
            stack.enter_context(self._transfer.calls.watched(self._queue.fail))
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
            check_path(checked_entry(self._snapshot, entry).path)
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
        self._files.reserve(checked_space(self._snapshot))
        self._progress.total = total
        return listed

    def _begin(self, entry: Entry) -> None:
        if self._journal.expects(entry):
            if self._files.size(entry.path) == entry.size:
                self._progress.add(entry.size)
                return
            self._journal.forget(entry)
        present = self._journal.ranges(entry)
        self._files.reserve(self._space(entry, present))
        small = entry.size <= SMALL and not present
        self._queue.put(Task(entry, small=small), wait=True)

    def _space(self, entry: Entry, present: list[tuple[int, int]]) -> int:
        """Return the bytes that a file still needs on the volume, if those ranges of it are there."""
        left = sum(stop - start for start, stop in missing(present, entry.size))
        if not self._journal.resumed:
            return left
        # What was begun may have its space already, though little of it was written; so may another version.
        return min(left, max(0, entry.size - self._files.allocated(entry.path)))

    def _work(self) -> None:
        """Run one thread, until there is nothing left to do."""
        while (task := self._queue.take()) is not None:
            try:
                if task.large is not None:
                    self._range(task.large, task.start, task.stop)
                elif task.small:
                    self._whole(task.entry, task.entry.digests)
                else:
                    self._large(task.entry)
            except Stopped:
                return
            except BaseException as error:  # `run` raises it
                self._queue.fail(error)
                return
            self._queue.done()

    def _small(self, entry: Entry) -> None:
        """Download a small file; called in the second process."""
        self._whole(entry, entry.digests)

    def _whole(
        self,
        entry: Entry,
        digests: tuple[Digest, ...],
        first: AbstractContextManager[Reader] | None = None,
        *,
        again: bool = True,
    ) -> None:
        """Download a file in one stream, and verify it as it arrives; once more if it may have been damaged in transit.

        Args:
            entry: the file.
            digests: those that the source reported before.
            first: the stream, if it is open already.
            again: whether it may be downloaded once more.
        """
        with self._files.create(entry.path) as handle:
            with self._stream(handle, entry, digests) as stream:
                self._transfer.read(entry, 0, entry.size, stream.sink, first=first, in_one=True)
            self._files.begin_to_flush(handle, entry.size)
        try:
            self._finish(entry, stream.checks)
        except FetchError:
            if not again:
                raise
            self._progress.add(-entry.size)
            self._whole(entry, digests, again=False)

    def _stream(self, handle: int, entry: Entry, digests: tuple[Digest, ...]) -> Stream:
        if entry.size <= SMALL:
            return Stream(handle, entry, digests)
        allocate(handle, entry.size)
        return LargeStream(handle, entry, digests, self._stopped)

    def _large(self, entry: Entry) -> None:
        """Begin a large file. Keep what has arrived, unless it may have been lost with no digest to detect that."""
        described = self._transfer.attempt(lambda: self._snapshot.describe(entry))
        digests = checked_entry(self._snapshot, described, "describe").digests
        large = RangedFile(entry, Checks(digests, entry.size), digests)
        if not (large.checks.compares or self._journal.same_boot(entry)):
            self._journal.forget(entry)
        self._files.create_large(entry.path, entry.size)
        gaps = missing(self._journal.ranges(entry), entry.size)
        for start, stop in between(gaps, entry.size):
            large.arrived(start, stop)
            large.count(stop - start)
            self._progress.add(stop - start)
        length = range_length(entry.size, self._limits.connections)
        ranges = [(p, min(p + length, stop)) for start, stop in gaps for p in range(start, stop, length)]
        if ranges:
            self._begin_ranges(large, ranges)
        else:
            self._range(large, entry.size, entry.size)

    def _begin_ranges(self, large: RangedFile, ranges: list[tuple[int, int]]) -> None:
        """Read the first range. The others follow once the answer shows that the source has ranges; or else it is the file."""
        start, stop = ranges[0]
        with contextlib.ExitStack() as stack:
            try:
                reader = self._transfer.attempt(
                    lambda: stack.enter_context(self._transfer.open(large.entry, start, stop))
                )
            except RangeRefused:
                self._in_one(large)
                return
            first = handed_over(stack.pop_all(), reader)
        if is_whole(reader):
            self._in_one(large, first)
            return
        for position, end in ranges[1:]:
            self._queue.put(Task(large.entry, large=large, start=position, stop=end))
        self._range(large, start, stop, first)

    def _in_one(
        self, large: RangedFile, first: AbstractContextManager[Reader] | None = None, *, again: bool = True
    ) -> None:
        """Download a large file in one stream: its source has no ranges, or what came in ranges is wrong."""
        self._journal.forget(large.entry)
        self._progress.add(-large.counted)
        self._whole(large.entry, large.digests, first, again=again)

    def _range(
        self, large: RangedFile, start: int, stop: int, first: AbstractContextManager[Reader] | None = None
    ) -> None:
        """Download a range of a large file, unless a range of it was refused; the last thread to find that out reads it whole."""
        if not large.enter():
            return
        try:
            self._read_range(large, start, stop, first)
            self._verify(large)
        except RangeRefused:
            large.refuse()
        if large.leave():
            self._in_one(large)

    def _read_range(
        self, large: RangedFile, start: int, stop: int, first: AbstractContextManager[Reader] | None
    ) -> None:
        with self._files.open(large.entry.path) as handle, self._journal.recording(large.entry, start) as recording:

            def sink(data: memoryview, position: int, _: tuple[Digest, ...]) -> None:
                if large.refused:
                    raise RangeRefused(f"Another range of {large.entry.path} was refused.")
                write(handle, data, position)
                large.count(len(data))
                recording.wrote(position + len(data))

            self._transfer.read(large.entry, start, stop, sink, first=first)
            begin_to_flush(handle, start, stop)
        if start < stop:
            large.arrived(start, stop)

    def _verify(self, large: RangedFile) -> None:
        """Hash the ranges that have arrived, in order; compare the digests after the last one.

        Ranges arrive out of order, so they are read back, mostly from the page cache. This happens while others are still
        arriving, so that little is left to do at the end.
        """
        while (piece := large.take()) is not None:
            start, stop = piece
            with self._files.open(large.entry.path) as handle:
                hash_written(handle, start, stop, large.checks, self._stopped)
            if large.taken(stop):
                self._compare(large)

    def _compare(self, large: RangedFile) -> None:
        try:
            self._finish(large.entry, large.checks)
        except FetchError:
            # Once more, in one stream: a range may have been damaged in transit, or have been another one than it said.
            self._in_one(large, again=False)

    def _finish(self, entry: Entry, checks: Checks) -> None:
        verified = checks.verify(entry.path)
        self._journal.finished(entry, sha256=checks.sha256, verified=verified)

    def _stopped(self) -> bool:
        return self._queue.error is not None
