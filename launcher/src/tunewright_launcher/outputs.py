"""Outputs: upload the finished model, and checkpoints during the training, to `output=`; download a checkpoint from there.

    <uri>/…                                            the model's files, and then `complete.json`
    <uri>/checkpoints/<key>/checkpoint-<step>/…        a checkpoint's files, and then `complete.json`

`key` identifies model, dataset and trainer, so that a different job with the same output never resumes from there.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import random
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import attrs

from tunewright import _canonical
from tunewright.environment import OUTPUT_SLOT
from tunewright.errors import ExitCode, FetchError
from tunewright.events import Phase, Retry, Uploaded, emit
from tunewright.providers.limits import FetchLimits
from tunewright.providers.mixture import dump_mixture
from tunewright.providers.outputs import OutputTarget, Store
from tunewright.providers.snapshots import Entry, Reader, Snapshot
from tunewright.providers.wire import WireDocument
from tunewright.runner.checkpoints import CHECKPOINTS, MARKER, newest_checkpoint
from tunewright_launcher.digests import is_there
from tunewright_launcher.engine import fetch_snapshot
from tunewright_launcher.fetch import limits_of
from tunewright_launcher.files import result_files, sha256_of
from tunewright_launcher.journal import Journal
from tunewright_launcher.provider import TRAINER, document_file, input_slots, load_source, read_document, read_mixture
from tunewright_launcher.retry import retry, settled
from tunewright_launcher.sent import Sent, lost, marker_of, named_in, not_kept
from tunewright_launcher.slots import CompletionMarker, LeaseLost, Slot
from tunewright_launcher.step import Step, log
from tunewright_launcher.superseded import is_beside_model, superseded

_UPLOADS = 8  # files in parallel
_CHECK_EVERY = 2.0  # seconds
_SHOWN = 5  # names of files in a message
_TRIES_AGAINST_OTHERS = 5
_NO_MIXTURE = dump_mixture(())
_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")

Say = Callable[[str], None]
_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class Output:
    """Where a job's output is uploaded to.

    Attributes:
        store: reads and writes there.
        uri: as the user wrote it.
        key: of the job's checkpoints; see `key_of`.
        limits: how long to retry.
        say: prints a line to the log.
        redact: removes secrets from a text.
    """

    store: Store
    uri: str
    key: str
    limits: FetchLimits
    say: Say
    redact: Callable[[str], str] = str

    def upload_model(self, folder: Path, there: Mapping[str, Entry] | None = None) -> None:
        """Upload the finished model; files that the store has already are not sent again.

        Files of an earlier result that this one lacks are removed, as its shards or its adapter would be loaded too.

        Args:
            folder: the model.
            there: what the store has; None if it was not listed just now.

        Raises:
            FetchError: it cannot be uploaded.
        """
        emit(Phase(name="upload", text=f"uploading the model to {self.uri}"))
        for _ in range(_TRIES_AGAINST_OTHERS):
            began = time.monotonic()
            files = self._files_of(folder)
            sent = self._upload(files, "", there, supersedes=True)
            if self.store.atomic or not (gone := lost(sent, self._listed(""))):
                emit(Uploaded(item="model", uri=self.uri, files=len(files), bytes=_size_of(files)))
                return
            self.say(f"{_few(gone)} in {self.uri} is not what was sent. Uploading again.")
            there = None
            # Two that go on at once would disturb each other again, each for as long as an upload takes.
            time.sleep(random.uniform(0, time.monotonic() - began))  # noqa: S311 - no secret
        raise not_kept(self.uri, _few(gone), _TRIES_AGAINST_OTHERS)

    def refuse_another(self, folder: Path, *, replace: bool) -> Mapping[str, Entry]:
        """Check that uploading a model by hand would neither overwrite another one nor mix with it; return what is there.

        Args:
            folder: the model.
            replace: whether its files may be overwritten, or removed where this one lacks them.

        Raises:
            FetchError: USAGE: there is another one.
        """
        files = self._files_of(folder)
        found = self._listed("")
        there = {path: entry for path, entry in found.items() if not is_beside_model(path)}
        removed = self._superseded(found, files) if replace else set()
        if others := sorted(there.keys() - files.keys() - removed):
            cause = f"{self.uri} holds other files than the result's: {_few(others)}."
            raise FetchError(cause, remedy="Give another URI, or remove those files.", code=ExitCode.USAGE)
        changed = [] if replace else sorted(p for p, entry in there.items() if not is_there(entry, files[p]))
        if changed:
            cause = f"{self.uri} holds another result: {_few(changed)} would be overwritten."
            raise FetchError(cause, remedy="Give another URI, or --replace.", code=ExitCode.USAGE)
        return found

    def upload_checkpoint(self, folder: Path) -> None:
        """Upload a complete checkpoint, and then remove the job's older ones.

        Raises:
            FetchError: it cannot be uploaded.
            FileNotFoundError: it was removed meanwhile, because there are newer ones.
        """
        to = f"{self._checkpoints}/{folder.name}"
        files = {f"{to}/{path}": file for path, file in self._files_of(folder).items()}
        self._upload(files, to)
        for name in self._names() - {folder.name}:
            self._retry(functools.partial(self.store.remove, f"{self._checkpoints}/{name}"))
        emit(Uploaded(item=folder.name, uri=self.uri, files=len(files), bytes=_size_of(files)))

    def fetch_checkpoint(self, folder: Path) -> None:
        """Download the newest complete checkpoint into a folder, unless the folder has it or a newer one.

        Raises:
            FetchError: it cannot be downloaded.
        """
        name = max(self._complete_ones(), key=_step_of, default=None)
        local = newest_checkpoint(folder)
        if name is None or (local is not None and _step_of(local.name) >= _step_of(name)):
            return
        emit(Phase(name="fetch", text=f"downloading {name} from {self.uri}, to resume from it"))
        self.say(f"downloading {name} from {self.uri}, to resume from it")
        self._retry(lambda: self._fetch(name, folder))

    def check_writable(self) -> None:
        """Check that it is writable, before hours of training.

        Raises:
            FetchError: NO_PERMISSION, NOT_FOUND: it is not.
        """
        emit(Phase(name="check", text=f"checking whether {self.uri} is writable"))
        self._retry(self.store.check_writable)

    @property
    def _checkpoints(self) -> str:
        return f"{CHECKPOINTS}/{self.key}"

    def _names(self) -> set[str]:
        return {name for name, rest in self._checkpoint_files() if rest}

    def _complete_ones(self) -> set[str]:
        if self.store.atomic:
            return self._names()
        return {name for name, rest in self._checkpoint_files() if rest == [MARKER]}

    def _checkpoint_files(self) -> list[tuple[str, list[str]]]:
        """Return, for each file, the name of its checkpoint and the parts of its path in there."""
        paths = self._retry(lambda: [entry.path for entry in self.store.entries(self._checkpoints)])
        parts = (path.split("/") for path in paths)
        return [(name, rest) for _, _, name, *rest in parts if _CHECKPOINT.fullmatch(name)]

    def _fetch(self, name: str, folder: Path) -> None:
        place = Slot(folder, name)
        request = _canonical.digest([self.uri, self.key, name])
        with contextlib.suppress(LeaseLost), place.staged(request) as staging:
            if staging is None or staging.recover():
                return
            snapshot = _Unmarked(self.store.snapshot(f"{self._checkpoints}/{name}"))
            with contextlib.closing(Journal(staging.journal)) as journal:
                records = fetch_snapshot(snapshot, staging.files, journal=journal, limits=self.limits)
                marker = CompletionMarker(
                    provider="output", uri=self.uri, request=request, revision=name, fetched_at=""
                )
                staging.commit(marker, records)

    def _files_of(self, folder: Path) -> dict[str, Path]:
        files, left_out = result_files(folder)
        if left_out:
            self.say(f"{folder} is uploaded without {_few(left_out)}.")
        files.pop(MARKER, None)
        return files

    def _listed(self, folder: str) -> dict[str, Entry]:
        return self._retry(settled(lambda: {entry.path: entry for entry in self.store.entries(folder)}))

    def _superseded(self, there: Mapping[str, Entry], files: Mapping[str, Path]) -> set[str]:
        """Return the files of an earlier result that these replace."""
        has_marker = MARKER in there and not self.store.atomic
        named = self._retry(settled(lambda: self._named_by(self._listed("").get(MARKER)))) if has_marker else set()
        return {path for path in superseded(there, named, files) if not is_beside_model(path)}

    def _named_by(self, marker: Entry | None) -> set[str]:
        if marker is None:
            return set()
        with self.store.snapshot("").open(marker, 0, marker.size) as reader:
            return named_in(_read(reader, marker.size))

    def _upload(
        self, files: Mapping[str, Path], to: str, there: Mapping[str, Entry] | None = None, *, supersedes: bool = False
    ) -> Mapping[str, Sent]:
        """Upload files, by their paths in the store, and mark them; return what was sent, if the store needs a marker.

        Args:
            files: path → file.
            to: the folder that all of them are in; "" for the model.
            there: what the folder has; None if it was not listed just now.
            supersedes: whether they replace an earlier result.
        """
        there = self._listed(to) if there is None else there
        missing = {path: file for path, file in files.items() if not is_there(there.get(path), file)}
        if self.store.atomic:
            old = sorted(self._superseded(there, files)) if supersedes else []
            if missing or old:
                self._retry(lambda: self.store.replace(missing, old))
            return {}
        versions = {path: there[path].validator for path in files.keys() - missing.keys()}
        with ThreadPoolExecutor(_UPLOADS) as pool, ThreadPoolExecutor(1) as hashing:
            digests = {path: hashing.submit(sha256_of, file) for path, file in files.items()}
            for found in pool.map(lambda item: self._send(dict([item])), missing.items()):
                versions.update(found)
        if supersedes:  # before the marker: an upload that is repeated finds them in the earlier one
            old = sorted(self._superseded(self._listed(to), files))
            if old:
                self._retry(lambda: self.store.remove_files(old))
        sent = {path: Sent.of(file, versions.get(path), digests[path].result()) for path, file in files.items()}
        return {**sent, **self._mark(sent, f"{to}/" if to else "")}

    def _mark(self, sent: Mapping[str, Sent], prefix: str) -> Mapping[str, Sent]:
        content, path = marker_of(sent, prefix), f"{prefix}{MARKER}"
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, MARKER)
            file.write_bytes(content)
            version = self._send({path: file}).get(path)
        return {path: Sent.of(content, version, hashlib.sha256(content).hexdigest())}

    def _send(self, files: Mapping[str, Path]) -> Mapping[str, str | None]:
        return self._retry(lambda: self.store.upload(files)) or {}

    def _retry(self, work: Callable[[], _T]) -> _T:
        def say(error: FetchError, failures: int, pause: float) -> None:
            cause = self.redact(error.cause)
            emit(Retry(about="output", cause=cause, attempt=failures, seconds=round(pause, 1)))
            self.say(f"{error.cause} Trying again in {pause:.0f} s.")

        return retry(work, self.limits.retry_for, say)


def load_output(step: Step, say: Callable[[str], None]) -> Output | None:
    """Return where the job's output is uploaded to; None if it stays on the volume. Raises as `load_source`."""
    if not document_file(step, OUTPUT_SLOT).is_file():
        return None
    document = read_document(step, OUTPUT_SLOT)
    provider = load_source(step, document)
    if not isinstance(provider, OutputTarget):
        cause = f"{provider.uri} is not writable."
        raise FetchError(cause, remedy="Use the same release of the plugin on both sides.", code=ExitCode.USAGE)
    return Output(
        store=provider.store(),
        uri=provider.uri,
        key=job_key(step),
        limits=limits_of(step),
        say=lambda text: say(step.secrets.redact(text)),
        redact=step.secrets.redact,
    )


def upload(step: Step, folder: Path, *, replace: bool) -> None:
    """Upload a finished model by hand, as a job does at its end.

    Args:
        step: its configuration names the output.
        folder: the model.
        replace: whether files of another result may be overwritten.

    Raises:
        FetchError, PluginError, RequestError: it cannot be uploaded, or there is something else already.
    """
    output = load_output(step, lambda text: log("upload", text))
    if output is None:
        cause = "There is no output in the configuration."
        raise FetchError(cause, remedy="Run `tunewright push`, which writes one.", code=ExitCode.USAGE)
    there = output.refuse_another(folder, replace=replace)
    output.check_writable()
    output.upload_model(folder, there)


class CheckpointUploads:
    """Upload each new complete checkpoint during the training; a context manager for one rank.

    Args:
        output: where to; None uploads nothing.
        folder: the folder of the checkpoints.
    """

    def __init__(self, output: Output | None, folder: Path) -> None:
        self._output = output
        self._folder = folder
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        if self._output is not None:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        """Wait for an upload that has begun."""
        self._ended.set()
        if self._output is not None:
            self._thread.join()

    def _run(self) -> None:
        assert self._output is not None  # noqa: S101 - for the type checker: checked before the thread starts
        last: Path | None = None
        ended = False
        while not ended:
            ended = self._ended.wait(_CHECK_EVERY)
            newest = newest_checkpoint(self._folder)
            if newest is None or newest == last:
                continue
            try:
                self._output.upload_checkpoint(newest)
                last = newest
            except FileNotFoundError:
                continue  # a newer one has replaced it
            except (FetchError, OSError) as error:
                # The training continues: the next checkpoint may succeed.
                self._output.say(f"{newest.name} was not uploaded: {error}")


def job_key(step: Step) -> str:
    """Return the key of this job; see `key_of`. Raises as `read_document`."""
    slots = (slot for slot in (*input_slots(step), TRAINER) if document_file(step, slot).is_file())
    return key_of((read_document(step, slot) for slot in slots), dump_mixture(read_mixture(step)))


def key_of(documents: Iterable[WireDocument], mixture: str = _NO_MIXTURE) -> str:
    """Return a key for model, datasets and trainer: 16 hexadecimal digits of a hash over the job's documents."""
    requests = sorted(document.request_digest() for document in documents)
    return _canonical.digest(requests if mixture == _NO_MIXTURE else [requests, mixture])[:16]


class _Unmarked(Snapshot):
    """A snapshot without the marker of its upload, as the slot gets its own."""

    def __init__(self, marked: Snapshot) -> None:
        self._marked = marked

    def entries(self) -> Iterator[Entry]:
        return (entry for entry in self._marked.entries() if entry.path != MARKER)

    def open(self, entry: Entry, start: int, stop: int) -> AbstractContextManager[Reader]:
        return self._marked.open(entry, start, stop)

    def describe(self, entry: Entry) -> Entry:
        return self._marked.describe(entry)


def _size_of(files: Mapping[str, Path]) -> int:
    return sum(file.stat().st_size for file in files.values())


def _read(reader: Reader, size: int) -> bytes:
    content, count = bytearray(size), 0
    while count < size and (more := reader.readinto(memoryview(content)[count:])):
        count += more
    return bytes(content[:count])


def _few(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more


def _step_of(name: str) -> int:
    return int(name.rpartition("-")[2])
