"""The files that a download writes: safe names, free space, and a scan of the result."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from tunewright.errors import ExitCode, FetchError
from tunewright.runner.checkpoints import MARKER
from tunewright_launcher._libc import c_function
from tunewright_launcher.journal import FileRecord, short

_LONGEST_NAME = 255  # bytes, on most file systems
_COLLISION = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
# Bytes that a file system needs for its own metadata.
_SPARE = 1 << 20
_BLOCK = 512  # bytes that st_blocks counts in; see inode(7)
# Bytes of small files that are left to the commit's flush: about a second for a disk.
_LEFT = 1 << 28


class Files:
    """Write files below one folder, which nobody else writes to.

    Methods that open files raise FetchError (TRY_AGAIN) once the folder was renamed: another worker took it over while this one
    was suspended, and may have committed it.

    Args:
        folder: the folder; it exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._identity = os.fstat(self._root)
        self._parents = {""}
        self._left = 0
        self._free = _free_bytes(folder)
        self._reserved = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the folder."""
        os.close(self._root)

    def size(self, path: str) -> int | None:
        """Return the bytes of a regular file; None if there is none."""
        found = self._stat(path)
        return found.st_size if found and stat.S_ISREG(found.st_mode) else None

    def reserve(self, count: int) -> None:
        """Reserve space for that many bytes.

        Raises:
            FetchError: NO_SPACE: the total does not fit.
        """
        self._reserved += count
        if self._reserved > self._free:
            cause = f"The volume has {self._free} bytes free, but the download needs at least {self._reserved}."
            raise FetchError(cause, remedy="Ask for a larger volume: storage={'size': …}.", code=ExitCode.NO_SPACE)

    def create(self, path: str) -> contextlib.AbstractContextManager[int]:
        """Create or truncate a file, and its folders; yield its descriptor, for reading and writing."""
        return self._open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def allocated(self, path: str) -> int:
        """Return the bytes that a file takes up on the volume, however much of them was written; 0 if there is none."""
        found = self._stat(path)
        return found.st_blocks * _BLOCK if found else 0

    def _stat(self, path: str) -> os.stat_result | None:
        try:
            return os.stat(path, dir_fd=self._root, follow_symlinks=False)
        except OSError:
            return None

    def create_large(self, path: str, size: int) -> None:
        """Create a file of that size, with its space where the file system can allocate it; the contents of an existing one stay."""
        with self._open(path, os.O_WRONLY | os.O_CREAT) as handle:
            os.ftruncate(handle, size)
            allocate(handle, size)

    def open(self, path: str) -> contextlib.AbstractContextManager[int]:
        """Open an existing file for reading and writing; yield its descriptor."""
        return self._open(path, os.O_RDWR)

    @contextlib.contextmanager
    def _open(self, path: str, flags: int) -> Iterator[int]:
        self._refuse_lost_lease()
        try:
            self._make_parent(path)
            handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=self._root)
        except OSError as error:
            if error.errno in _COLLISION:
                raise hostile(path, "has the name of a folder, or is in a folder with the name of a file") from error
            raise
        try:
            yield handle
        finally:
            os.close(handle)

    def begin_to_flush(self, handle: int, size: int) -> None:
        """Let the kernel start to flush a small file, if many were written before it.

        A call takes 0.15 ms of CPU time, a third of everything else for 100 KB. If the commit flushes the small files together,
        1,000 of them and one of 400 MB are downloaded from a near source in 4% less time.
        """
        self._left += size
        if self._left > _LEFT:
            begin_to_flush(handle, 0, size)

    def _make_parent(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if parent not in self._parents:
            for folder in itertools.accumulate(parent.split("/"), "{}/{}".format):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder, dir_fd=self._root)
            self._parents.add(parent)

    def _refuse_lost_lease(self) -> None:
        # This is not a lock: a file that is open, or is opened just now, is still written to. It receives the bytes that it
        # has already, unless the source has changed since.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(self._folder.stat(), self._identity):
                return
        cause = f"Another worker has taken {self._folder} over, while this one was suspended."
        raise FetchError(cause, remedy="That worker will finish it; this one retries.", code=ExitCode.TRY_AGAIN)

    def keep_only(self, listed: set[bytes]) -> None:
        """Remove all other files.

        Args:
            listed: `short` of their paths.
        """
        self._refuse_lost_lease()
        for path in list(walk(self._folder)):
            if short(path) not in listed:
                os.unlink(path, dir_fd=self._root)


def empty(folder: Path) -> None:
    """Remove everything in a folder."""
    for path in list(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def write(handle: int, data: memoryview, position: int) -> None:
    """Write data at a position of a file."""
    while data:
        written = os.pwrite(handle, data, position)
        data, position = data[written:], position + written


def begin_to_flush(handle: int, start: int, stop: int) -> None:
    """Let the kernel start to flush a range of a file, where it can, so that the commit has less to wait for."""
    if _sync_file_range is not None:
        _sync_file_range(handle, ctypes.c_int64(start), ctypes.c_int64(stop - start), _BEGIN)


def allocate(handle: int, size: int) -> None:
    """Let the file system choose the blocks of a file before it is written: ext4 takes a third less CPU time for the writes then.

    Where that fails, the blocks are chosen as always. `os.posix_fallocate` would write to each block of a file system that lacks it.
    """
    if _fallocate is not None:
        _fallocate(handle, 0, ctypes.c_int64(0), ctypes.c_int64(size))


_fallocate = c_function("fallocate")
_BEGIN = 2  # SYNC_FILE_RANGE_WRITE; see sync_file_range(2)
_sync_file_range = c_function("sync_file_range")


def check_path(path: str) -> None:
    """Refuse a path that is not that of a file below its folder.

    Raises:
        FetchError: BAD_DATA.
    """
    parts = path.split("/")
    if not path or path.startswith("/") or "\0" in path or not {"", ".", ".."}.isdisjoint(parts):
        raise hostile(path, "does not have the path of a file within a folder")
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in parts):
        raise hostile(path, f"has a name of more than {_LONGEST_NAME} bytes")
    if path == MARKER:
        raise hostile(path, "has the name of the slot's marker")


def hostile(path: str, problem: str) -> FetchError:
    """Return the error for a file of the source with an unacceptable name or type."""
    name = path.encode(errors="backslashreplace").decode()
    remedy = "Exclude it with ignore_patterns, or rename it at its source."
    return FetchError(f"The source's file {name!r} {problem}.", remedy=remedy, code=ExitCode.BAD_DATA)


def scan(folder: Path, fetched: Mapping[str, FileRecord] | None = None) -> Iterator[tuple[str, FileRecord]]:
    """Yield relative path and record of each file in a folder, in order.

    Args:
        folder: the folder.
        fetched: records of files that need not be read again.

    Raises:
        FetchError: BAD_DATA: there are no files, something is neither a file nor a folder, or a file has the marker's name.
    """
    known, empty = fetched or {}, True
    for path in sorted(walk(folder)):
        check_path(path)
        empty = False
        yield path, known.get(path) or _record(folder / path)
    if empty:
        raise FetchError(
            "The provider downloaded no files.",
            remedy="Check the URI, and the patterns if there are any.",
            code=ExitCode.BAD_DATA,
        )


def walk(folder: Path) -> Iterator[str]:
    """Yield the relative paths of all files below a folder.

    Raises:
        FetchError: BAD_DATA: something is neither a file nor a folder.
    """
    for base, folders, names in os.walk(folder, onerror=_raise):
        for name in (*folders, *names):
            path = Path(base, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                yield path.relative_to(folder).as_posix()
            elif not stat.S_ISDIR(mode):
                kind = "a link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
                raise hostile(path.relative_to(folder).as_posix(), f"is {kind}")


def result_files(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Find the files of a result, as they are to be uploaded: with what links lead to in place of links.

    Returns:
        Relative path → file, in order; and the paths that have no file, with the reason: links that lead nowhere or into a circle,
        and what is neither a file nor a folder.
    """
    found: dict[str, Path] = {}
    left_out: list[str] = []

    def add(inside: Path, name: str, above: tuple[Path, ...]) -> None:
        for path in sorted(inside.iterdir()):
            relative = f"{name}{path.name}"
            if path.is_file():
                found[relative] = path
            elif path.is_dir() and (real := path.resolve()) not in above:
                add(path, f"{relative}/", (*above, real))
            else:
                reason = "a link that leads nowhere, or to a folder around it" if path.is_symlink() else "not a file"
                left_out.append(f"{relative} ({reason})")

    add(folder, "", (folder.resolve(),))
    return dict(sorted(found.items())), left_out


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _record(path: Path) -> FileRecord:
    return FileRecord(size=path.stat().st_size, sha256=sha256_of(path))


def _raise(error: OSError) -> None:
    raise error


def _free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return max(0, found.f_bavail * found.f_frsize - _SPARE)
