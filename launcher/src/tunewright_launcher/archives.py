"""The public API for archives of strangers: unpack them, with no path out of the folder, no link, and no file larger than stated."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import attrs

from tunewright.errors import ExitCode, FetchError
from tunewright_launcher.decompress import BLOCK, DAMAGE, Stream, fast_zlib, opened
from tunewright_launcher.files import Files, begin_to_flush, check_path, hostile, write

__all__ = ["holds", "is_archive", "unpack"]

_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz", ".zip")
_THREADS = min(4, os.cpu_count() or 1)
# What an archive without a listing may unpack to, at most: text is packed to a fifth, and rows of zeros to a thousandth.
_MOST_TIMES, _MOST_MORE = 100, 1 << 30
_DAMAGE: tuple[type[Exception], ...] = (
    *DAMAGE,
    zipfile.BadZipFile,
    tarfile.TarError,
    struct.error,
    OverflowError,
    NotImplementedError,  # a method that zipfile does not have
    RuntimeError,  # encrypted
)


def is_archive(name: str) -> bool:
    """Return whether a file is an archive that `unpack` unpacks, by the end of its name."""
    return name.lower().endswith(_SUFFIXES)


@attrs.frozen
class Member:
    """A file of an archive.

    Attributes:
        path: the member's path in the archive.
        size: bytes, as the archive says.
        problem: why it is refused, unless it is a regular file.
        open: opens its contents.
    """

    path: str
    size: int
    problem: str | None
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path,
    folder: Path,
    listed: Mapping[str, int] | None,
    selects: Callable[[str], bool],
    *,
    vouched: bool = False,
) -> dict[str, str]:
    """Unpack the selected files of a zip or a tar into a folder, and compare them with what was listed.

    Args:
        archive: the archive; it may be in the folder.
        folder: the folder to unpack into.
        listed: path → size in bytes of every file that the source lists. None for a source that lists none: the archive itself says
            what is in it, and unpacks to at most 100 times its size and 1 GiB.
        selects: returns whether to unpack a path; other members are skipped, whatever they are.
        vouched: whether the archive has matched a digest of its source, so that members that are not listed belong to it, too.

    Returns:
        SHA-256 of each unpacked file, by path.

    Raises:
        FetchError: BAD_DATA: it is not an archive, is damaged, has an unsafe path or a link, unpacks to too much, or a file in it is
            not listed, larger than listed, duplicate or missing. NO_SPACE: it does not fit. USAGE: nothing here decompresses it.
    """
    wanted = {path: size for path, size in (listed or {}).items() if selects(path)}
    with Files(folder) as files, _damaged():
        files.reserve(sum(wanted.values()))
        own = archive.relative_to(folder).as_posix() if archive.is_relative_to(folder) else None
        unpacking = _Unpacking(files, wanted, own=own, only_wanted=not vouched and listed is not None)
        if listed is None:
            limit, why = _MOST_TIMES * archive.stat().st_size + _MOST_MORE, f"{_MOST_TIMES} times its size and 1 GiB"
        else:
            room = shutil.disk_usage(folder).free if vouched else 0
            limit, why = room + 2 * sum(listed.values()), "twice the listed size"
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as found:
                members = filter(lambda member: selects(member.path), _of_zip(found))
                unpacking.run(_bounded(members, limit, why) if listed is None else members, threads=_THREADS)
        else:
            with opened(archive) as stream:
                tar = _Bounded(stream, limit + 16 * BLOCK, why)
                unpacking.run(filter(lambda member: selects(member.path), _of_tar(tar)), threads=1)
    if lacking := wanted.keys() - unpacking.digests.keys():
        raise _bad(f"The archive lacks {len(lacking)} of the listed files, for example {min(lacking)!r}.")
    return unpacking.digests


def holds(archive: Path, path: str) -> bool:
    """Return whether a file is an archive with a member of that path, rather than the file itself.

    Raises:
        FetchError: BAD_DATA: it is a damaged archive.
    """
    with _damaged():
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                return path in zipped.namelist()
        if not tarfile.is_tarfile(archive):
            return False
        with tarfile.open(archive) as tar:
            return any(info.name.removeprefix("./") == path for info in tar)
    raise AssertionError  # for the type checker


class _Unpacking:
    """Writes the members of an archive.

    Args:
        files: creates the files.
        wanted: path → size in bytes.
        own: path of the archive itself, if it is in the same folder.
        only_wanted: whether there must be nothing else; otherwise the archive itself says what else there is.
    """

    def __init__(self, files: Files, wanted: Mapping[str, int], *, own: str | None, only_wanted: bool) -> None:
        self.digests: dict[str, str] = {}
        self._files = files
        self._wanted = dict(wanted)
        self._own, self._only_wanted = own, only_wanted
        self._begun: set[str] = set()
        self._lock = threading.Lock()

    def run(self, members: Iterator[Member], *, threads: int) -> None:
        """Write all members; with one thread, each one before the next is read from the archive."""
        with ThreadPoolExecutor(threads) as pool:
            for future in [pool.submit(self._work, members) for _ in range(threads)]:
                future.result()

    def _work(self, members: Iterator[Member]) -> None:
        while True:
            with self._lock:  # instead of a future for each member, as a dataset may have a million
                member = next(members, None)
                if member is None:
                    return
                self._check(member)
            self.digests[member.path] = self._write(member)

    def _check(self, member: Member) -> None:
        path = member.path
        check_path(path)
        if member.problem is not None:
            raise hostile(path, member.problem)
        if path == self._own:
            raise hostile(path, "has the temporary name of the archive itself")
        if path not in self._wanted:
            # Skipped, it might be most of the data: Kaggle's listings have been incomplete before.
            if self._only_wanted:  # nothing says that it belongs there, and which size it should have
                raise hostile(path, "is in the archive, but not listed, and the store gives no digest of the archive")
            self._files.reserve(member.size)
            self._wanted[path] = member.size
        if path in self._begun:
            raise hostile(path, "is in the archive twice")
        self._begun.add(path)

    def _write(self, member: Member) -> str:
        """Write a member, and return its SHA-256."""
        size, position, digest = self._wanted[member.path], 0, hashlib.sha256()
        with member.open() as source, self._files.create(member.path) as handle:
            while data := source.read(BLOCK):
                if position + len(data) > size:
                    raise hostile(member.path, f"is larger than the {size} bytes that are listed")
                write(handle, memoryview(data), position)
                digest.update(data)
                position += len(data)
            begin_to_flush(handle, 0, position)
        if position != size:
            raise _bad(f"{member.path} has {position} bytes in the archive, but {size} bytes are listed.")
        return digest.hexdigest()


def _of_zip(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        if info.is_dir():
            continue
        # zipfile truncates a name at a NUL; the original name counts.
        path = info.orig_filename if "\0" in info.orig_filename else info.filename
        is_file = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
        yield Member(path, info.file_size, None if is_file else _NO_FILE, lambda info=info: _inflated(archive, info))  # type: ignore[misc]


def _inflated(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    member = archive.open(info)
    if info.compress_type == zipfile.ZIP_DEFLATED:
        # zipfile has no public hook for it. If a release renames the attribute, zipfile's own decompressor is used.
        member._decompressor = fast_zlib.decompressobj(-zlib.MAX_WBITS)  # type: ignore[attr-defined]
    return member


def _of_tar(stream: Stream) -> Iterator[Member]:
    # As a stream: seeking back one byte, as tarfile does in a file, would decompress everything again.
    with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK) as tar:  # type: ignore[call-overload]
        for info in tar:
            if info.isdir():
                continue
            path, problem = info.name.removeprefix("./"), None if info.isreg() else _NO_FILE
            yield Member(path, info.size, problem, lambda info=info: tar.extractfile(info))  # type: ignore[misc]
            tar.members.clear()  # otherwise tarfile keeps them all
    while stream.read(BLOCK):  # gzip's checksum is at the very end
        pass


_NO_FILE = "is a link, or something else that is not a regular file"


def _bounded(members: Iterator[Member], limit: int, why: str) -> Iterator[Member]:
    """Yield members, whose sizes the archive states, as long as they are not too much together."""
    for member in members:
        limit -= member.size
        if limit < 0:
            raise _too_much(why)
        yield member


class _Bounded:
    """A stream that raises an error once it is longer than it may be."""

    def __init__(self, stream: Stream, limit: int, why: str) -> None:
        self._stream = stream
        self._left, self._why = limit, why

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _too_much(self._why)
        return data


def _too_much(why: str) -> FetchError:
    remedy = "If you trust it, fetch it as it is, and unpack it yourself."
    return FetchError(f"The archive unpacks to more than {why}.", remedy=remedy, code=ExitCode.BAD_DATA)


@contextlib.contextmanager
def _damaged() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # The disk's errors have a number; those of gzip and bz2 have none, and a position outside of the file is EINVAL.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise _bad(f"The archive is damaged: {error}.") from error
    except _DAMAGE as error:
        raise _bad(
            f"The archive is damaged, encrypted, or of an unknown kind: {error or type(error).__name__}."
        ) from error


def _bad(cause: str) -> FetchError:
    return FetchError(cause, remedy="Fetch it again. If this persists, tell its author.", code=ExitCode.BAD_DATA)
