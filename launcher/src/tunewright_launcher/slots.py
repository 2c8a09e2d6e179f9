"""Slots: folders of the volume that are there whole, with a marker, or not at all.

    <workspace>/model/                  committed: `complete.json` is in it
    <workspace>/.staging/model-0-1a2b…  what a fetch of worker 0 is writing, or what a crash left over

A slot is staged on the same volume, verified, marked, flushed to the disk and then renamed into place. A marker is
written after everything that it names and removed before any of it, so a crash never leaves one over missing files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import attrs

from tunewright import wire
from tunewright.errors import ExitCode, FetchError
from tunewright.runner import MARKER, sync, worker_in, write_atomically
from tunewright.wire import WireDocument

API = 1
STAGING = ".staging"


@attrs.frozen(kw_only=True)
class FileRecord:
    """What is known of one file.

    Attributes:
        size: bytes.
        sha256: hexadecimal digest of what was written.
        verified: what the provider could compare with the source: "sha256", or "size" at most.
    """

    size: int = attrs.field(validator=attrs.validators.instance_of(int))
    sha256: str = attrs.field(validator=attrs.validators.instance_of(str))
    verified: str = attrs.field(default="size", validator=attrs.validators.in_(("sha256", "size")))


@attrs.frozen(kw_only=True)
class Marker:
    """The contents of `complete.json`.

    Attributes:
        provider: the plugin's registry name.
        uri: what was asked for.
        request: digest of the request; see `request_digest`.
        revision: what the URI was resolved to, where the source has revisions.
        files: path relative to the slot, with "/" → record.
        fetched_at: time of the commit, ISO 8601, UTC.
    """

    provider: str
    uri: str
    request: str
    revision: str | None
    files: Mapping[str, FileRecord]
    fetched_at: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(record.size for record in self.files.values())

    def dumps(self) -> str:
        """As JSON; names that are not UTF-8 are kept by JSON's escapes."""
        return json.dumps({"api": API, **attrs.asdict(self)}, indent=1, sort_keys=True)

    @classmethod
    def loads(cls, text: str) -> Marker | None:
        """Read what `dumps` wrote; None for anything else, which then marks nothing."""
        try:
            record = json.loads(text)
            if record.pop("api") != API:
                return None
            files = {_relative(name): FileRecord(**fields) for name, fields in record.pop("files").items()}
            return cls(files=files, **record)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def request_digest(document: WireDocument) -> str:
    """What a slot is compared by: provider, distribution and params. Secrets and versions do not change what is fetched."""
    identity = {"provider": document.provider, "distribution": document.distribution, "params": dict(document.params)}
    return hashlib.sha256(wire.dumps(identity).encode()).hexdigest()


def read_marker(folder: Path) -> Marker | None:
    """The marker of a slot's folder, if it is complete."""
    try:
        return Marker.loads((folder / MARKER).read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def verify(folder: Path, *, digests: bool = False) -> Marker:
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
            raise _bad(
                f"{path} has {'gone' if size is None else f'{size} bytes'}; the marker says {record.size} bytes."
            )
        if digests and _digest(path) != record.sha256:
            raise _bad(f"{path} has other contents than the marker says.")
    return marker


@attrs.frozen
class Slot:
    """One slot of a workspace.

    Attributes:
        workspace: the volume's folder.
        name: "model", "dataset" or "eval_dataset"; any folder's name where there is no job.
        worker: who stages; others' staging folders are not touched, for they may be at work.
    """

    workspace: Path
    name: str
    worker: str = attrs.field(factory=lambda: worker_in(os.environ))

    @property
    def folder(self) -> Path:
        """Where the slot is, once it is committed."""
        return self.workspace / self.name

    def find(self, request: str) -> Marker | None:
        """The marker, if the slot holds what is requested, and its files are there."""
        return _holds(self.folder, request)

    def recover(self, request: str) -> Marker | None:
        """Clean up after a crash: commit what was staged whole and is requested, and remove the rest.

        Raises:
            FetchError: NOT_FOUND: the workspace is read-only.
        """
        with self._writing():
            for left in self._left_over():
                if _holds(left, request):
                    self._swap_in(left, request)
                else:
                    self._discard(left)
        return self.find(request)

    @contextlib.contextmanager
    def staged(self) -> Iterator[Path]:
        """A new empty folder to fetch into; if it is not committed, it is removed with all that is in it.

        Raises:
            FetchError: USAGE: the slot's folder holds files that no fetch has put there.
                NOT_FOUND: the workspace is read-only.
        """
        if self.folder.is_dir() and read_marker(self.folder) is None and any(self.folder.iterdir()):
            cause = f"{self.folder} has files and no marker: they were not fetched, and are not overwritten."
            remedy = "Move them elsewhere, or use them where they are, with pvc://claim/folder."
            raise FetchError(cause, remedy=remedy, code=ExitCode.USAGE)
        target = self._new_name()
        with self._writing():
            target.mkdir(parents=True)
        try:
            yield target
        finally:
            self._discard(target)
            with contextlib.suppress(OSError):  # others may be staging
                target.parent.rmdir()

    def commit(self, staged: Path, marker: Marker) -> Marker:
        """Mark what is staged, and put it in the slot's place. Returns the slot's marker."""
        for base, _, _ in os.walk(staged):
            sync(Path(base))
        write_atomically(staged / MARKER, marker.dumps())
        self._swap_in(staged, marker.request)
        return self.find(marker.request) or marker

    def _swap_in(self, staged: Path, request: str) -> None:
        if self.find(request):
            return  # another worker was first
        former = self._new_name()
        if self.folder.exists():
            self.folder.rename(former)
        try:
            staged.rename(self.folder)
        except OSError:
            if not self.find(request):
                raise
        sync(self.workspace)
        self._discard(former)

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

    def _left_over(self) -> list[Path]:
        ours = re.compile(rf"{re.escape(self.name)}-{re.escape(self.worker)}-[0-9a-f]{{8}}")
        staging = self.workspace / STAGING
        return sorted(path for path in staging.iterdir() if ours.fullmatch(path.name)) if staging.is_dir() else []

    def _new_name(self) -> Path:
        return self.workspace / STAGING / f"{self.name}-{self.worker}-{os.urandom(4).hex()}"

    def _discard(self, folder: Path) -> None:
        # Under another name first: should its writer still live, its commit must fail.
        with contextlib.suppress(FileNotFoundError):
            doomed = folder.rename(self._new_name())
            (doomed / MARKER).unlink(missing_ok=True)
            sync(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def take_stock(folder: Path) -> dict[str, FileRecord]:
    """Every file of a staged folder, by its path relative to the folder; each is flushed to the disk.

    Raises:
        FetchError: BAD_DATA: there are no files, or something that is neither a file nor a folder, or a file that is
            named as the marker.
    """
    files = {name: _record(folder / name) for name in sorted(_walk(folder))}
    if not files:
        raise FetchError(
            "The provider has fetched nothing: there is not one file.",
            remedy="Check the URI, and the patterns if there are some.",
            code=ExitCode.BAD_DATA,
        )
    if MARKER in files:
        cause = f"The source has a file {MARKER}, and that is the name of the slot's marker."
        raise FetchError(cause, remedy="Leave it out with ignore_patterns, or rename it.", code=ExitCode.BAD_DATA)
    return files


def _walk(folder: Path) -> Iterator[str]:
    for base, folders, names in os.walk(folder, onerror=_raise):
        for name in (*folders, *names):
            path = Path(base, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                yield path.relative_to(folder).as_posix()
            elif not stat.S_ISDIR(mode):
                kind = "a link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
                shown = path.relative_to(folder).as_posix().encode(errors="backslashreplace").decode()
                raise _bad(f"The provider has left {shown!r}, which is {kind}.")


def _raise(error: OSError) -> None:
    raise error


def _record(path: Path) -> FileRecord:
    record = FileRecord(size=path.stat().st_size, sha256=_digest(path))
    sync(path)
    return record


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _holds(folder: Path, request: str) -> Marker | None:
    marker = read_marker(folder)
    if marker is None or marker.request != request:
        return None
    try:
        return verify(folder)
    except FetchError:
        return None


def _relative(name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or path.as_posix() != name or "\0" in name:
        raise ValueError(f"not a path within a slot: {name!r}")
    return name


def _bad(cause: str) -> FetchError:
    return FetchError(cause, remedy="Fetch it again; if it stays so, the source is bad.", code=ExitCode.BAD_DATA)
