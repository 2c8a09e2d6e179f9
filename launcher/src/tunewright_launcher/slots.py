"""Slots: folders of the volume that are there whole, with a marker, or not at all.

    <workspace>/model/                         committed: `complete.json` is in it
    <workspace>/.staging/model.lease           who fetches; see `tunewright_launcher.lease`
    <workspace>/.staging/model-1a2b…-9f8e…/    what is being fetched: named by request and holder
        files/                                 becomes model/
        journal                                what is there already
    <workspace>/.staging/model-former/         what the last commit has replaced, until the next fetch
    <workspace>/.staging/doomed-…/             what is being removed

A slot is staged on the same volume, verified, flushed to the disk, marked by a file in it, and renamed into place. The marker
comes after everything that it names is flushed, and a folder that is to go is renamed first. So a crash leaves no marker over
missing files, as far as the file system keeps what it has flushed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import attrs

from tunewright.errors import ExitCode, FetchError
from tunewright.runner.checkpoints import MARKER
from tunewright.runner.files import sync
from tunewright_launcher._libc import c_function
from tunewright_launcher.files import sha256_of, walk
from tunewright_launcher.journal import FileRecord
from tunewright_launcher.lease import Lease

API = 1
STAGING = ".staging"
_DOOMED = "doomed-"


@attrs.frozen(kw_only=True)
class CompletionMarker:
    """The contents of `complete.json`.

    Attributes:
        provider: the plugin's registry name.
        uri: what was asked for.
        request: digest of the request; see `WireDocument.request_digest`.
        revision: what the URI was resolved to, where the source has revisions.
        fetched_at: time of the commit, ISO 8601, UTC.
        files: path relative to the slot, with "/" → record.
    """

    provider: str
    uri: str
    request: str
    revision: str | None
    fetched_at: str
    files: Mapping[str, FileRecord] = attrs.field(factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(record.size for record in self.files.values())

    @classmethod
    def loads(cls, text: str) -> CompletionMarker | None:
        """Read what `Staging.commit` wrote; None for anything else, which then marks nothing."""
        try:
            fields = json.loads(text)
            if fields.pop("api") != API:
                return None
            files = {_relative(name): FileRecord.of(record) for name, record in fields.pop("files").items()}
            return cls(files=files, **fields)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def read_marker(folder: Path) -> CompletionMarker | None:
    """The marker of a slot's folder, if it is complete."""
    try:
        return CompletionMarker.loads((folder / MARKER).read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def verify(folder: Path, *, digests: bool = False) -> CompletionMarker:
    """Compare a slot's files with its marker: sizes, and on demand their contents.

    Raises:
        FetchError: BAD_DATA: there is no marker, or a file is missing or is not what it says.
    """
    marker = read_marker(folder)
    if marker is None:
        raise _bad(f"{folder} has no marker.")
    for name, record in marker.files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != record.size:
            found = "is gone" if size is None else f"has {size} bytes"
            raise _bad(f"{path} {found}; the marker says {record.size} bytes.")
        if digests and sha256_of(path) != record.sha256:
            raise _bad(f"{path} has other contents than the marker says.")
    return marker


@attrs.frozen
class Slot:
    """One slot of a workspace.

    Attributes:
        workspace: the volume's folder.
        name: "model", "dataset" or "eval_dataset"; any folder's name where there is no job.
    """

    workspace: Path
    name: str

    @property
    def folder(self) -> Path:
        """Where the slot is, once it is committed."""
        return self.workspace / self.name

    @property
    def former(self) -> Path:
        """Where what a commit has replaced is kept: another job may have it mounted, and read it still."""
        return self.workspace / STAGING / f"{self.name}-former"

    def find(self, request: str, *, digests: bool = False) -> CompletionMarker | None:
        """The marker, if the slot holds what is requested, and its files are there; on demand, with these contents."""
        marker = read_marker(self.folder)
        if marker is None or marker.request != request:
            return None
        try:
            return verify(self.folder, digests=digests)
        except FetchError:
            return None

    @contextlib.contextmanager
    def staged(self, request: str, *, replace: bool = False) -> Iterator[Staging | None]:
        """Where to fetch into, with what an earlier holder has left of the same request. None: another worker was faster.

        Args:
            request: digest of the request.
            replace: the slot holds what is requested, and is to be fetched anew.

        Raises:
            FetchError: USAGE: the slot's folder holds files that no fetch has put there.
                NOT_FOUND: the workspace is read-only.
        """
        with self._writing(), self._lease(request, replace=replace) as held:
            if not held.held:
                yield None
                return
            self._refuse_foreign()
            # Another worker may have been faster while the lease was waited for.
            yield None if held.stop_waiting() else self._take_over(request, held.owner.nonce)
        self._clean()

    def _lease(self, request: str, *, replace: bool) -> Lease:
        """The lease on this slot; it is not waited for once the slot holds what is requested."""
        before = read_marker(self.folder) if replace else None

        def stop_waiting() -> bool:
            found = self.find(request)
            return found is not None and found != before

        return Lease(self.workspace / STAGING / f"{self.name}.lease", stop_waiting)

    def _refuse_foreign(self) -> None:
        if self.folder.is_dir() and read_marker(self.folder) is None and any(self.folder.iterdir()):
            cause = f"{self.folder} has files and no marker: they were not fetched, and are not overwritten."
            remedy = "Move them elsewhere, or use them where they are, with pvc://claim/folder."
            raise FetchError(cause, remedy=remedy, code=ExitCode.USAGE)

    def _take_over(self, request: str, nonce: str) -> Staging:
        """Make the holder's staging folder, of what is left over if it is of this request; other left-overs go."""
        target = self.workspace / STAGING / f"{self.name}-{request[:16]}-{nonce}"
        for left in self._left_over():
            if left.name.startswith(f"{self.name}-{request[:16]}-") and not target.exists():
                with contextlib.suppress(FileNotFoundError):
                    left.rename(target)
            else:
                _discard(left)
        _discard(self.former)
        for doomed in (self.workspace / STAGING).glob(f"{_DOOMED}*"):  # its remover was killed
            shutil.rmtree(doomed, ignore_errors=True)
        (target / "files").mkdir(parents=True, exist_ok=True)
        return Staging(self, target, request)

    def _left_over(self) -> list[Path]:
        ours = re.compile(rf"{re.escape(self.name)}-[0-9a-f]{{16}}-[0-9a-f]{{8}}")
        return sorted(path for path in (self.workspace / STAGING).iterdir() if ours.fullmatch(path.name))

    def _clean(self) -> None:
        with contextlib.suppress(OSError):  # others may be staging
            (self.workspace / STAGING).rmdir()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            cause = f"{self.folder} does not hold what is requested, and the volume is mounted read-only."
            remedy = "Fill the volume first, with a job that may write to it, or name another volume."
            raise FetchError(cause, remedy=remedy, code=ExitCode.NOT_FOUND) from error


class LeaseLost(Exception):  # noqa: N818 - no error: another worker goes on with it
    """The staging folder was taken over while its holder seemed dead."""


@attrs.frozen
class Staging:
    """A staging folder, while its lease is held.

    Attributes:
        slot: the slot that it will become.
        folder: the staging folder itself.
        request: digest of the request.
    """

    slot: Slot
    folder: Path
    request: str

    @property
    def files(self) -> Path:
        """Where to fetch into."""
        return self.folder / "files"

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.folder / "journal"

    def recover(self) -> bool:
        """Put what an earlier holder had staged whole in the slot's place; whether there was such a thing.

        It is read whole: the machine may have been started anew since, and not every file system keeps what it has flushed.
        """
        marker = read_marker(self.files)
        if marker is None or marker.request != self.request:
            (self.files / MARKER).unlink(missing_ok=True)
            return False
        try:
            verify(self.files, digests=True)
        except FetchError:
            self.empty()
            return False
        self._swap_in()
        return True

    def empty(self) -> None:
        """Remove what is there of an earlier try."""
        shutil.rmtree(self.files)
        self.journal.unlink(missing_ok=True)
        self.files.mkdir()

    def discard(self) -> None:
        """Remove it all."""
        _discard(self.folder)

    def commit(self, marker: CompletionMarker, records: Iterator[tuple[str, FileRecord]]) -> tuple[int, int]:
        """Mark what is staged, and put it in the slot's place.

        Args:
            marker: without its files.
            records: of the files; they are written as they come, however many.

        Returns:
            The number of files, and of bytes.

        Raises:
            LeaseLost: another worker has taken the folder over.
        """
        try:
            # Before the marker is among them: the flush of a large model takes minutes, and the power may fail in it.
            with ThreadPoolExecutor(1) as pool:
                flushed = pool.submit(_flush, self.files)
                # Beside the files until it is whole: the records may come from a walk through them.
                counts = _write_marker(self.folder / MARKER, marker, records)
                sync(self.folder / MARKER)
                flushed.result()
            (self.folder / MARKER).rename(self.files / MARKER)
            sync(self.files)
            self._swap_in()
        except FileNotFoundError as error:
            if self.folder.exists():
                raise
            raise LeaseLost from error
        return counts

    def _swap_in(self) -> None:
        former = self.folder / "former"
        if read_marker(self.slot.folder) is not None:
            _discard(former)  # of a holder that was killed after its commit
            self.slot.folder.rename(former)
        self.files.rename(self.slot.folder)
        sync(self.slot.workspace)
        if former.exists():
            former.rename(self.slot.former)
        _discard(self.folder)


def _write_marker(path: Path, marker: CompletionMarker, records: Iterator[tuple[str, FileRecord]]) -> tuple[int, int]:
    """Write it as it comes: a marker of a hundred thousand files would fill the memory."""
    head = json.dumps({"api": API, **attrs.asdict(attrs.evolve(marker, files={}))})
    count = size = 0
    with path.open("w", encoding="utf-8") as stream:
        stream.write(head.removesuffix("{}}"))
        stream.write("{")
        for name, record in records:
            stream.write(f"{',' if count else ''}\n {json.dumps(name)}: {json.dumps(attrs.asdict(record))}")
            count, size = count + 1, size + record.size
        stream.write("\n}}\n")
    return count, size


def _flush(folder: Path) -> None:
    """Bring everything below a folder to the disk: with one call where the system has it, else file by file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        if _syncfs is not None and _syncfs(handle) == 0:
            return
    finally:
        os.close(handle)
    for name in walk(folder):
        sync(folder / name)
    for base, _, _ in os.walk(folder):
        sync(Path(base))


_syncfs = c_function("syncfs")


def _discard(folder: Path) -> None:
    # Under another name first: should its writer still live, its commit must fail.
    with contextlib.suppress(FileNotFoundError):
        doomed = folder.rename(folder.with_name(f"{_DOOMED}{os.urandom(8).hex()}"))
        shutil.rmtree(doomed, ignore_errors=True)


def _relative(name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or path.as_posix() != name or "\0" in name:
        raise ValueError(f"not a path within a slot: {name!r}")
    return name


def _bad(cause: str) -> FetchError:
    return FetchError(cause, remedy="Fetch it again; if it stays so, the source is bad.", code=ExitCode.BAD_DATA)
