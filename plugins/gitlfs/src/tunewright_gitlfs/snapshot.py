"""A commit's files as a snapshot: LFS objects through the batch API, all others from git."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path

from tunewright import ExitCode, FetchError
from tunewright.errors import SourceChanged
from tunewright.providers import Digest, Entry, Reader
from tunewright_gitlfs.lfs import BATCH, Action, Batch, Lfs
from tunewright_gitlfs.origin import Origin
from tunewright_gitlfs.pointers import LARGEST, Pointer, looks_like_pointer, read_pointer
from tunewright_gitlfs.repository import Blob, Repository
from tunewright_launcher.http import Headers, Http, HttpRequest, HttpSnapshot, check_path

_REFUSED = (401, 403, 404, 410)


class GitSnapshot(HttpSnapshot):
    """One commit of a repository, or a folder of it.

    Args:
        origin: the origin.
        http: sends requests.
        ref: a branch, a tag or a commit; None for the default branch.
        folder: the folder to fetch; None for the whole commit.
        include: patterns of the LFS files to fetch; none for all.
        exclude: patterns of the files to leave out.
    """

    def __init__(
        self,
        origin: Origin,
        http: Http,
        *,
        ref: str | None,
        folder: str | None,
        include: Iterable[str],
        exclude: Iterable[str],
    ) -> None:
        super().__init__(http)
        # TMPDIR may be relative, and git runs elsewhere.
        scratch = Path(tempfile.mkdtemp(prefix="tunewright-git-")).absolute()
        weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
        self._lfs = Lfs(origin, http)
        self._repository = Repository(origin, scratch)
        self._folder = folder
        self._include, self._exclude = _one_by_one(include), _one_by_one(exclude)
        self._batches: list[Batch] = []
        self._prepared: set[int] = set()
        self._thread = threading.local()
        self.revision: str = self._repository.fetch(ref, whole=not (folder or self._exclude))

    def entries(self) -> Iterator[Entry]:
        """See `Snapshot.entries`. Plain files are checked out first; LFS objects are only looked up."""
        pointers: list[tuple[str, Pointer]] = []
        blobs = list(self._repository.check_out(self.revision, self._folder, self._exclude))
        wanted = self._repository.matching(self._include) if self._include else None
        for blob in blobs:
            check_path(blob.path)
            size, text = self._look_at(blob)
            if not looks_like_pointer(text):
                yield Entry(path=blob.path, size=size, digests=(Digest(algorithm="git-blob-sha1", value=blob.oid),))
            elif wanted is None or blob.path in wanted:
                pointers.append((blob.path, self._follow(blob, text)))
        if wanted is not None and not pointers:
            cause = f"include= selects no LFS file of {self.revision}."
            raise FetchError(cause, remedy="Check its patterns. Plain files need none.", code=ExitCode.NOT_FOUND)
        # Largest first, as the engine fetches them: so the objects of a batch are needed at the same time.
        pointers.sort(key=lambda item: -item[1].size)
        for start in range(0, len(pointers), BATCH):
            group = pointers[start : start + BATCH]
            self._batches.append(Batch(self._lfs, (pointer for _, pointer in group)))
            for path, pointer in group:
                digest = Digest(algorithm="sha256", value=pointer.oid)
                yield Entry(path=path, size=pointer.size, digests=(digest,), source=str(len(self._batches) - 1))

    def request(self, entry: Entry) -> HttpRequest:
        """See `HttpSnapshot.request`."""
        number = int(entry.source)
        self._thread.action = self._batches[number].action(_oid(entry))
        self._prepare(number + 1)
        return self._action.request

    def _prepare(self, number: int) -> None:
        """Let another thread ask for a batch that will be needed soon."""
        if number not in self._prepared and number < len(self._batches):
            self._prepared.add(number)  # two threads that get here at once do no harm: the batch has a lock
            threading.Thread(target=self._batches[number].prepare, name="lfs-batch", daemon=True).start()

    def refusal(self, entry: Entry, status: int, headers: Headers, body: bytes) -> FetchError | None:
        """See `HttpSnapshot.refusal`: an action's URL may have expired, and the next one works."""
        del headers, body
        if status in _REFUSED and self._batch(entry).renew(_oid(entry), self._action):
            cause = f"{entry.path} was answered with {status}: its URL may have expired."
            return FetchError(cause, remedy="LFS will be asked for a new one.", code=ExitCode.TRY_AGAIN)
        return None

    @contextlib.contextmanager
    def open(self, entry: Entry, start: int, stop: int) -> Iterator[Reader]:
        """See `Snapshot.open`."""
        if not entry.source:
            with (self._repository.files / entry.path).open("rb", buffering=0) as file:
                file.seek(start)
                yield _Part(file, stop - start)
            return
        try:
            with super().open(entry, start, stop) as reader:
                yield _NoPointer(reader, entry.path) if entry.size <= LARGEST else reader
        except SourceChanged as error:  # an object is named by its digest: it cannot change, only be damaged
            remedy = "It was damaged at its source: push it again."
            raise FetchError(error.cause, remedy=remedy, code=ExitCode.BAD_DATA) from error

    def _look_at(self, blob: Blob) -> tuple[int, bytes]:
        """Return a file's size, and its contents if it may be a pointer."""
        with (self._repository.files / blob.path).open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            return size, file.read() if size <= LARGEST else b""

    def _follow(self, blob: Blob, text: bytes) -> Pointer:
        pointer = read_pointer(text)
        if pointer is None:
            raise _left_over(blob.path)
        return pointer

    def _batch(self, entry: Entry) -> Batch:
        return self._batches[int(entry.source)]

    @property
    def _action(self) -> Action:
        """The action that this thread used last."""
        action: Action = self._thread.action
        return action


class _Part:
    """A `Reader` of a range of a file on this machine."""

    def __init__(self, file: FileIO, length: int) -> None:
        self.digests: tuple[Digest, ...] = ()
        self._file = file
        self._left = length

    def readinto(self, buffer: memoryview, /) -> int:
        """See `Reader.readinto`."""
        count = self._file.readinto(buffer[: self._left]) or 0
        self._left -= count
        return count


class _NoPointer:
    """A `Reader` of a short LFS file that refuses a pointer: a file that was committed through LFS twice contains one."""

    def __init__(self, reader: Reader, path: str) -> None:
        self.digests = reader.digests
        self.whole = bool(getattr(reader, "whole", False))
        self._reader = reader
        self._path = path
        self._text = b""

    def readinto(self, buffer: memoryview, /) -> int:
        """See `Reader.readinto`."""
        count = self._reader.readinto(buffer)
        self._text += bytes(buffer[:count])
        if looks_like_pointer(self._text):
            raise _left_over(self._path)
        return count


def _oid(entry: Entry) -> str:
    return entry.digests[0].value


def _one_by_one(patterns: Iterable[str]) -> tuple[str, ...]:
    """Split patterns at commas, as git-lfs does."""
    return tuple(part for pattern in patterns for part in pattern.split(",") if part)


def _left_over(path: str) -> FetchError:
    cause = (
        f"{path} is an LFS pointer without an available file: it is damaged, of another kind, or was committed twice."
    )
    remedy = "Commit the file itself again through git-lfs, or leave it out with exclude=."
    return FetchError(cause, remedy=remedy, code=ExitCode.BAD_DATA)
