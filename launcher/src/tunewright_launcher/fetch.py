"""`fetch`: download a model or dataset into its slot, once."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from tunewright.environment import fetch_container
from tunewright.errors import ExitCode, FetchError, SourceChanged
from tunewright.events import Event, Fetched, Pace, Phase, Progress, Retry, announced, emit
from tunewright.providers.base import DatasetProvider, ModelProvider
from tunewright.providers.limits import FetchLimits
from tunewright.providers.snapshots import Snapshot, SnapshotSource
from tunewright.providers.wire import WireDocument
from tunewright_launcher.engine import fetch_snapshot
from tunewright_launcher.failure import FULL
from tunewright_launcher.files import scan
from tunewright_launcher.in_time import in_time
from tunewright_launcher.journal import FileRecord, Journal, fingerprint
from tunewright_launcher.promises import checked_snapshot
from tunewright_launcher.provider import load_source, read_document
from tunewright_launcher.retry import retry
from tunewright_launcher.shared_cache import CachedItem, SharedCache
from tunewright_launcher.slots import CompletionMarker, LeaseLost, Slot, Staging
from tunewright_launcher.step import Step, log

_WAITS_LONG = 1.0  # seconds after which a wait for another worker is worth an event

Emit = Callable[[Event], None]
Source = ModelProvider | DatasetProvider


def fetch(step: Step, slot: str) -> None:
    """Run the command: download what the slot's document requests, and retry after transient errors.

    If the slot holds it already, no plugin, no network and no writable volume are needed.

    Raises:
        FetchError, PluginError, RequestError, OSError: it cannot be downloaded.
    """
    document = read_document(step, slot)
    folder = step.paths.slot(slot).parent
    place, request = Slot(folder, slot), document.request_digest()
    full = document.params.get("verify") == "full"
    if document.params.get("policy") != "Always" and (marker := place.find(request, digests=full)):
        emit(_fetched(slot, marker))
        return
    tell = _redacting(step)
    asked = document.params.get("uri") or document.provider
    tell(Phase(name="list", text=f"{slot}: asking {asked} what to fetch"))
    provider = load_source(step, document)
    # A second process only here: this one does nothing else.
    limits = attrs.evolve(limits_of(step), processes=2 if _has_two_processors() else 1)

    cache = SharedCache.read(step.env)

    def work() -> None:
        item = cache.item(provider, request) if cache else None
        if item is None or not _can_hold(item):
            fetch_into(provider, document, folder, slot, tell, limits=limits)
        else:
            _fetch_shared(item, provider, document, place, tell, limits=limits)

    def say(error: FetchError, failures: int, pause: float) -> None:
        tell(Retry(about=slot, cause=error.cause, attempt=failures, seconds=round(pause, 1)))
        log(fetch_container(slot), step.secrets.redact(f"{error.cause} Trying again in {pause:.0f} s."))

    retry(work, limits.retry_for, say)


def _redacting(step: Step) -> Emit:
    """Return what prints an event without secrets, which a URI or the words of a server may hold."""

    def tell(event: Event) -> None:
        if isinstance(event, Retry):
            event = attrs.evolve(event, cause=step.secrets.redact(event.cause))
        emit(attrs.evolve(event, text=step.secrets.redact(event.text)) if isinstance(event, Phase) else event)

    return tell


def _can_hold(item: CachedItem) -> bool:
    """Create the folder of a request in the cache, and return whether that worked: a job needs no cache."""
    try:
        item.folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # what is gated is for its owner
        item.folder.mkdir(exist_ok=True)
        if not os.access(item.folder, os.R_OK | os.W_OK | os.X_OK):  # of another user
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        place, why = item.folder.parent, error.strerror or error
        log(
            "fetch",
            f"The cache {place} is not used, as it cannot be written to ({why}). TUNEWRIGHT_CACHE names another.",
        )
        return False
    return True


@contextlib.contextmanager
def _in_cache(item: CachedItem) -> Iterator[None]:
    """Say where the cache is if it has no space left."""
    try:
        yield
    except (FetchError, OSError) as error:
        full = error.code is ExitCode.NO_SPACE if isinstance(error, FetchError) else error.errno in FULL
        if not full:
            raise
        cause = error.cause if isinstance(error, FetchError) else f"{error.strerror}."
        remedy = "Free some space there, such as by tunewright cache prune, or name another folder: TUNEWRIGHT_CACHE."
        where = f"{cause} It is about {item.folder.parent}, the cache that jobs share."
        raise FetchError(where, remedy=remedy, code=ExitCode.NO_SPACE) from error


def _fetch_shared(
    item: CachedItem, provider: Source, document: WireDocument, place: Slot, emit: Emit, *, limits: FetchLimits
) -> None:
    """Fetch into the cache that jobs share, unless it has what is current, and link its files into a slot."""
    fetched: list[Event] = []

    def tell(event: Event) -> None:
        if isinstance(event, Fetched):
            fetched.append(event)
        else:
            emit(event)

    def get() -> CompletionMarker | None:
        item.folder.mkdir(parents=True, exist_ok=True)
        where = item.slot
        with _in_cache(item):
            fetch_into(
                provider, document, where.workspace, where.name, tell, limits=limits, shown=place.name, shared=True
            )
        item.protect()
        item.drop_former()
        return item.give_to(place, document.request_digest())

    if get() is None and get() is None:  # once more: a job had changed a file
        cause = f"The cached files in {item.folder} change all the time."
        raise FetchError(cause, remedy="Find out which job writes to its inputs.", code=ExitCode.TRY_AGAIN)
    emit(fetched[-1])


def fetch_into(
    provider: Source,
    document: WireDocument,
    workspace: Path,
    slot: str,
    emit: Emit,
    *,
    limits: FetchLimits | None = None,
    shown: str | None = None,
    shared: bool = False,
) -> None:
    """Download once: stage, download, verify, commit. A slot that holds what is requested stays as it is.

    Args:
        provider: downloads by itself, or lists what the engine downloads.
        document: the request, which the slot is compared with.
        workspace: the volume's folder, which contains the slot.
        slot: name of the slot.
        emit: receives the events `progress` and `fetched`.
        limits: limits on network use.
        shown: the slot's name in events, if that is another one.
        shared: whether others share the slot: the source is asked whether it has changed, whatever the provider's policy is.

    Raises:
        FetchError: it cannot be downloaded. Other errors of the provider pass through.
    """
    place, request, name = Slot(workspace, slot), document.request_digest(), shown or slot
    for again in (True, False):
        marker = place.find(request)
        if marker and not _is_outdated(provider, place, marker, shared=shared):
            emit(_fetched(name, marker))
            return
        try:
            _stage(_Job(provider, document, place, request, emit, limits or FetchLimits(), name), keep=marker)
            return
        except LeaseLost:
            continue  # another worker took over: wait for its marker
        except SourceChanged:
            if not again:
                raise
    raise FetchError(
        f"Other workers repeatedly took over the download of {slot}.",
        remedy="Check whether the volume's file system hangs for long periods.",
        code=ExitCode.TRY_AGAIN,
    )


@attrs.frozen
class _Job:
    """The context of one try."""

    provider: Source
    document: WireDocument
    place: Slot
    request: str
    emit: Emit
    limits: FetchLimits
    name: str


def _stage(job: _Job, *, keep: CompletionMarker | None) -> None:
    """Download into a staging folder and commit it; `keep` is the marker of an outdated slot to replace."""
    slot, began = job.name, time.monotonic()
    waiting = Phase(name="wait", text=f"{slot}: waiting for another worker, which is fetching it")
    with contextlib.ExitStack() as stack:
        with announced(job.emit, waiting, after=_WAITS_LONG):
            staging = stack.enter_context(job.place.staged(job.request, replace=keep is not None))
        if staging is None or (keep is None and staging.recover()):
            marker = job.place.find(job.request)
            if marker is None:
                raise LeaseLost
            job.emit(_fetched(slot, marker))
            return
        with _discarded(staging, job.provider), contextlib.closing(Journal(staging.journal)) as journal:
            revision, records = _download(job, staging, journal)
            marker = CompletionMarker(
                provider=job.document.provider,
                uri=job.provider.uri,
                request=job.request,
                revision=revision,
                fetched_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            )
            files, size = staging.commit(marker, records)
    seconds = round(time.monotonic() - began, 3)
    job.emit(Fetched(slot=slot, files=files, bytes=size, revision=revision, seconds=seconds))


@contextlib.contextmanager
def _discarded(staging: Staging, provider: Source) -> Iterator[None]:
    """Discard what a failed download leaves, unless the engine continues it."""
    try:
        yield
    except BaseException:
        if not isinstance(provider, SnapshotSource):
            staging.discard()
        raise


def _download(job: _Job, staging: Staging, journal: Journal) -> tuple[str | None, Iterator[tuple[str, FileRecord]]]:
    if isinstance(job.provider, SnapshotSource):
        snapshot = _snapshot(job.provider, job.limits)
        told = _Told(job.name, job.emit, job.limits)
        return snapshot.revision, fetch_snapshot(
            snapshot,
            staging.files,
            journal=journal,
            limits=job.limits,
            report=told.report,
            retried=told.retried,
        )
    staging.empty()  # only the engine can resume
    with _progress(job.name, staging.files, job.emit):
        if isinstance(job.provider, ModelProvider):
            job.provider.download_model(staging.files)
        else:
            job.provider.download_dataset(staging.files)
    return None, scan(staging.files)


def _snapshot(provider: SnapshotSource, limits: FetchLimits) -> Snapshot:
    """Return the snapshot of a source, in time."""
    (snapshot,) = in_time((provider.snapshot() for _ in range(1)), limits.listing, "The source's snapshot()")
    return checked_snapshot(snapshot)


def _is_outdated(provider: Source, place: Slot, marker: CompletionMarker, *, shared: bool) -> bool:
    """Return whether the slot is damaged, or the source has changed, as far as the provider's settings ask for that check."""
    if provider.verify == "full" and place.find(marker.request, digests=True) is None:
        return True
    if provider.policy != "Always" and not shared:
        return False
    if not isinstance(provider, SnapshotSource):
        return not shared  # in the shared cache, the key says the version
    try:
        return not _is_same(provider.snapshot(), marker)
    except FetchError as error:
        if provider.policy == "Always" or error.code is not ExitCode.UNAVAILABLE:
            raise
        log("fetch", f"{error.cause} What was fetched from it on {marker.fetched_at} is used.")
        return False


def _is_same(snapshot: Snapshot, marker: CompletionMarker) -> bool:
    if snapshot.revision is not None:
        return snapshot.revision == marker.revision
    versions = {record.version for record in marker.files.values()}
    return versions == {fingerprint(entry).hex() for entry in snapshot.entries()}


def limits_of(step: Step) -> FetchLimits:
    """Return the limits that the container's environment sets.

    Raises:
        FetchError: USAGE: a variable is not a number.
    """
    try:
        return FetchLimits.read(step.env)
    except ValueError as error:
        cause = f"A variable TUNEWRIGHT_FETCH_… or TUNEWRIGHT_RETRY_FOR is not a number: {error}."
        raise FetchError(cause, remedy="Correct it in init_env.", code=ExitCode.USAGE) from error


def _has_two_processors() -> bool:
    return sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1


def _fetched(slot: str, marker: CompletionMarker) -> Event:
    return Fetched(slot=slot, files=len(marker.files), bytes=marker.size, revision=marker.revision, cached=True)


class _Told:
    """Emits how far a download is, and why it gets no further.

    Args:
        slot: the input.
        emit: receives the events.
        limits: those of the download.
    """

    def __init__(self, slot: str, emit: Emit, limits: FetchLimits) -> None:
        self._slot, self._emit, self._limits = slot, emit, limits
        self._lock = threading.Lock()
        self._pace: Pace | None = None
        self._last: tuple[int, int | None] | None = None
        self._known = False  # whether the last event says why nothing arrives

    def report(self, done: int, total: int | None) -> None:
        """Emit `progress`; for the same numbers again that nothing arrives, unless a retry has said why."""
        if (done, total) != self._last:
            self._last, self._known = (done, total), False
            self._emit(Progress(slot=self._slot, done=done, total=total))
        elif not self._known and total is not None and done < total:
            self._known = True
            when = f"a connection is dropped after {self._limits.stall:.0f} s without data, and opened again"
            self._emit(Phase(name="stall", text=f"{self._slot}: nothing arrives from the source; {when}"))

    def retried(self, error: FetchError, failures: int, pause: float) -> None:
        """Emit `retry` for the first error at once, and for others at a `Pace`: all connections may fail again and again."""
        with self._lock:
            due, self._pace = self._pace is None or self._pace.is_due(), self._pace or Pace()
        if due:
            self._known = True
            self._emit(Retry(about=self._slot, cause=error.cause, attempt=failures, seconds=round(pause, 1)))


@contextlib.contextmanager
def _progress(slot: str, folder: Path, emit: Emit) -> Iterator[None]:
    """Report how much is on the disk while a provider downloads by itself."""
    done = threading.Event()

    def report(size: int, total: int | None) -> None:
        emit(Progress(slot=slot, done=size, total=total))

    thread = threading.Thread(target=_watch, args=(folder, report, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _watch(folder: Path, report: Callable[[int, int | None], None], done: threading.Event) -> None:
    last, pace = -1, Pace()
    while not done.is_set():
        began = time.monotonic()
        size = _size(folder)
        if size != last:
            with contextlib.suppress(OSError):  # nobody reads it any more
                report(size, None)
        last = size
        # Measuring a folder with very many files takes long; downloading must stay the main work.
        done.wait(max(pace.pause(), 10 * (time.monotonic() - began)))


def _size(folder: Path) -> int:
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(base, name)).st_size  # noqa: PTH118 - many files
    return total
