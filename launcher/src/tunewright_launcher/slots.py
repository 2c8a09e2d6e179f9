"""Slots: folders of the volume that are complete, with a marker, or do not exist.

    <workspace>/model/                         committed: contains `complete.json`
    <workspace>/.staging/model.lease           who is downloading; see `tunewright_launcher.lease`
    <workspace>/.staging/model-1a2b…-9f8e…/    a download, named after request and holder
        files/                                 becomes model/
        journal                                what has arrived; see `tunewright_launcher.journal`
    <workspace>/.staging/model-former/         what the last commit replaced, until the next download
    <workspace>/.staging/doomed-…/             being removed

A slot is staged on the same volume, verified, flushed to the disk, marked by a file in it, and renamed into place. The marker
is written after everything that it names is flushed, and a folder is renamed before it is removed. So no crash leaves a marker
with missing files, as far as the file system keeps what it has flushed.
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
        uri: the requested URI.
        request: digest of the request; see `WireDocument.request_digest`.
        revision: what the URI was resolved to, if the source has revisions.
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
        """Read what `Staging.commit` wrote; None for anything else, which does not count as a marker."""
        try:
            fields = json.loads(text)
            if fields.pop("api") != API:
                return None
            files = {_relative(name): FileRecord.of(record) for name, record in fields.pop("files").items()}
            return cls(files=files, **fields)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def read_marker(folder: Path) -> CompletionMarker | None:
    """Return the marker of a slot's folder, if it is complete."""
    try:
        return CompletionMarker.loads((folder / MARKER).read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def verify(folder: Path, *, digests: bool = False) -> CompletionMarker:
    """Compare a slot's files with its marker: their sizes and, with `digests`, their contents.

    Raises:
        FetchError: BAD_DATA: there is no marker, or a file is missing or differs from it.
    """
    marker = read_marker(folder)
    if marker is None:
        raise _bad(f"{folder} has no marker.")
    for name, record in marker.files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != record.size:
            found = "is missing" if size is None else f"has {size} bytes"
            raise _bad(f"{path} {found}; the marker says {record.size} bytes.")
        if digests and sha256_of(path) != record.sha256:
            raise _bad(f"The contents of {path} differ from the marker.")
    return marker


@attrs.frozen
class Slot:
    """One slot of a workspace.

    Attributes:
        workspace: the volume's folder.
        name: "model", "adapter", "dataset" or "eval_dataset"; any folder name outside of jobs.
    """

    workspace: Path
    name: str

    @property
    def folder(self) -> Path:
        """The folder of the committed slot."""
        return self.workspace / self.name

    @property
    def former(self) -> Path:
        """The folder that a commit replaced; it is kept, because another job may have it mounted."""
        return self.workspace / STAGING / f"{self.name}-former"

    def find(self, request: str, *, digests: bool = False) -> CompletionMarker | None:
        """Return the marker if the slot holds what is requested, with all files and, with `digests`, their contents."""
        marker = read_marker(self.folder)
        if marker is None or marker.request != request:
            return None
        try:
            return verify(self.folder, digests=digests)
        except FetchError:
            return None

    @contextlib.contextmanager
    def staged(self, request: str, *, replace: bool = False) -> Iterator[Staging | None]:
        """Yield a staging folder, with what an earlier holder left of the same request; None if another worker was faster.

        Args:
            request: digest of the request.
            replace: download again although the slot holds what is requested.

        Raises:
            FetchError: USAGE: the slot's folder contains files that were not downloaded.
                NOT_FOUND: the workspace is read-only.
        """
        mine = False
        try:
            with self._writing(), self._lease(request, replace=replace) as held:
                if not held.held:
                    yield None
                    return
                mine = True
                self._refuse_foreign()
                # Another worker may have finished while this one waited for the lease.
                yield None if held.stop_waiting() else self._take_over(request, held.owner.nonce)
        finally:
            if mine:
                self._clean()

    def _lease(self, request: str, *, replace: bool) -> Lease:
        """Return the lease on this slot, whose wait ends once the slot holds what is requested."""
        before = read_marker(self.folder) if replace else None

        def stop_waiting() -> bool:
            found = self.find(request)
            return found is not None and found != before

        return Lease(self.workspace / STAGING / f"{self.name}.lease", stop_waiting)

    def _refuse_foreign(self) -> None:
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            cause = f"{self.folder} is a {'link' if self.folder.is_symlink() else 'file'}, where a folder is to be."
            raise FetchError(cause, remedy="Move it elsewhere.", code=ExitCode.USAGE)
        if self.folder.is_dir() and read_marker(self.folder) is None and any(self.folder.iterdir()):
            cause = f"{self.folder} contains files but no marker: they were not downloaded, and are not overwritten."
            remedy = "Move them elsewhere, or use them in place with pvc://claim/folder."
            raise FetchError(cause, remedy=remedy, code=ExitCode.USAGE)

    def _take_over(self, request: str, nonce: str) -> Staging:
        """Create the holder's staging folder, from what is left of this request; remove what is left of others."""
        target = self.workspace / STAGING / f"{self.name}-{request[:16]}-{nonce}"
        for left in self._left_over():
            if left.name.startswith(f"{self.name}-{request[:16]}-") and not target.exists():
                with contextlib.suppress(FileNotFoundError):
                    left.rename(target)
            else:
                discard(left)
        discard(self.former)
        for doomed in (self.workspace / STAGING).glob(f"{_DOOMED}*"):  # the process that was removing it was killed
            shutil.rmtree(doomed, ignore_errors=True)
        (target / "files").mkdir(parents=True, exist_ok=True)
        return Staging(self, target, request)

    def _left_over(self) -> list[Path]:
        ours = re.compile(rf"{re.escape(self.name)}-[0-9a-f]{{16}}-[0-9a-f]{{8}}")
        return sorted(path for path in (self.workspace / STAGING).iterdir() if ours.fullmatch(path.name))

    def _clean(self) -> None:
        with contextlib.suppress(OSError):  # others may be using it
            (self.workspace / STAGING).rmdir()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            cause = f"{self.folder} does not hold what is requested, and the volume is mounted read-only."
            remedy = "Fill the volume first, with a job that can write to it, or choose another volume."
            raise FetchError(cause, remedy=remedy, code=ExitCode.NOT_FOUND) from error


class LeaseLost(Exception):  # noqa: N818 - not an error: another worker continues
    """Another worker took over the staging folder, because this one seemed dead."""


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
        """The folder to download into."""
        return self.folder / "files"

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.folder / "journal"

    def recover(self) -> bool:
        """Commit what an earlier holder had staged completely; return whether it had.

        Everything is read: the machine may have been restarted since, and not every file system keeps what it has flushed.
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
        """Remove what an earlier try left."""
        shutil.rmtree(self.files)
        self.journal.unlink(missing_ok=True)
        self.files.mkdir()

    def discard(self) -> None:
        """Remove the staging folder."""
        discard(self.folder)

    def commit(self, marker: CompletionMarker, records: Iterator[tuple[str, FileRecord]]) -> tuple[int, int]:
        """Mark what is staged, and move it into place.

        Args:
            marker: the marker, without files.
            records: of the files; written one by one, as there may be many.

        Returns:
            The number of files, and their bytes.

        Raises:
            LeaseLost: another worker has taken over the folder.
        """
        try:
            # Before the marker is added: flushing a large model takes minutes, in which the power may fail.
            with ThreadPoolExecutor(1) as pool:
                flushed = pool.submit(_flush, self.files)
                # Beside the files until it is complete: the records may come from a walk through them.
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
            discard(former)  # left by a holder that was killed after its commit
            self.slot.folder.rename(former)
        self.files.rename(self.slot.folder)
        sync(self.slot.workspace)
        if former.exists():
            former.rename(self.slot.former)
        discard(self.folder)


def _write_marker(path: Path, marker: CompletionMarker, records: Iterator[tuple[str, FileRecord]]) -> tuple[int, int]:
    """Write the marker record by record: one with a hundred thousand files would fill the memory."""
    head = json.dumps({"api": API, **attrs.asdict(attrs.evolve(marker, files={}))})
    count = size = 0
    with path.open("w", encoding="utf-8") as stream:
        stream.write(head.removesuffix("{}}"))
        stream.write("{")
        for name, record in records:
            stream.write(f"{',' if count else ''}\n {json.dumps(name)}: {record.as_json()}")
            count, size = count + 1, size + record.size
        stream.write("\n}}\n")
    return count, size


def _flush(folder: Path) -> None:
    """Flush everything below a folder to the disk: with one call if the system has it, or else file by file."""
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


def discard(folder: Path) -> None:
    """Remove a folder, if it is there."""
    # Renamed first: if its writer is still alive, its commit must fail.
    with contextlib.suppress(FileNotFoundError):
        doomed = folder.rename(folder.with_name(f"{_DOOMED}{os.urandom(8).hex()}"))
        shutil.rmtree(doomed, ignore_errors=True)


def _relative(name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or path.as_posix() != name or "\0" in name:
        raise ValueError(f"not a path within a slot: {name!r}")
    return name


def _bad(cause: str) -> FetchError:
    remedy = "Download it again; if this persists, the source is damaged."
    return FetchError(cause, remedy=remedy, code=ExitCode.BAD_DATA)
