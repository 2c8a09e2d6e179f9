"""The container half of `output="file:///folder"`: use a folder of the machine, or of a volume, as a store."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from tunewright.errors import ExitCode, FetchError
from tunewright.providers.outputs import Store
from tunewright.providers.snapshots import Digest, Entry, Reader, Snapshot
from tunewright.runner.files import sync


class FileStore(Store):
    """Store outputs in a folder.

    Args:
        folder: the folder, which is created with the first upload.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def entries(self, folder: str) -> Iterator[Entry]:
        """Yield the files below a folder, with the digests of their current contents."""
        root = self._folder / folder
        for path in sorted(root.rglob("*")) if root.is_dir() else ():
            if path.is_file() and not path.is_symlink():
                digest = Digest(algorithm="sha256", value=_sha256(path))
                relative = path.relative_to(self._folder).as_posix()
                yield Entry(path=relative, size=path.stat().st_size, digests=(digest,))

    def upload(self, files: Mapping[str, Path]) -> None:
        """Copy each file to a temporary name, compare it with the original, and rename it."""
        for path, file in files.items():
            target = self._folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
            try:
                shutil.copyfile(file, temporary)
                sync(temporary)
                if _sha256(temporary) != _sha256(file):
                    cause = f"{target} differs from {file} after it was copied."
                    raise FetchError(cause, remedy="Check the disk.", code=ExitCode.TRY_AGAIN)
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
            sync(target.parent)

    def remove(self, folder: str) -> None:
        """Remove a folder."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._folder / folder)

    def remove_files(self, paths: Collection[str]) -> None:
        """Remove files, where they still exist."""
        for path in paths:
            (self._folder / path).unlink(missing_ok=True)

    def snapshot(self, folder: str) -> Snapshot:
        """Return a snapshot of the files of a folder."""
        return _FileSnapshot(self._folder / folder)


class _FileSnapshot(Snapshot):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def entries(self) -> Iterator[Entry]:
        return FileStore(self._folder).entries("")

    @contextlib.contextmanager
    def open(self, entry: Entry, start: int, stop: int) -> Iterator[Reader]:
        with (self._folder / entry.path).open("rb", buffering=0) as stream:
            stream.seek(start)
            yield _Range(stream.fileno(), start, stop)


class _Range:
    digests: tuple[Digest, ...] = ()

    def __init__(self, handle: int, start: int, stop: int) -> None:
        self._handle, self._position, self._stop = handle, start, stop

    def readinto(self, buffer: memoryview, /) -> int:
        data = os.pread(self._handle, min(len(buffer), self._stop - self._position), self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
