"""Unpack untrusted archives: no path leaves the folder, no link is created, and no file is larger than listed.

Intel's ISA-L decompresses in half the time of zlib, also on other vendors' processors.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import lzma
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
from typing import IO, Protocol, cast

import attrs
from isal import isal_zlib

from tunewright import ExitCode, FetchError
from tunewright_launcher.http import Files, begin_to_flush, check_path, hostile, write

_BLOCK = 1 << 20
_GZIP = b"\x1f\x8b"
_GZIP_WITH_CHECKSUM = zlib.MAX_WBITS | 16
_THREADS = min(4, os.cpu_count() or 1)
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    cast("type[Exception]", isal_zlib.error),  # its stub says that this is an exception
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,  # a method that zipfile does not have
    RuntimeError,  # encrypted
)


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


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
    archive: Path, folder: Path, listed: Mapping[str, int], selects: Callable[[str], bool], *, vouched: bool = False
) -> dict[str, str]:
    """Unpack the selected files of a zip or a tar into a folder, and compare them with what was listed.

    Args:
        archive: the archive.
        folder: the folder to unpack into.
        listed: path → size in bytes of every file that the source lists.
        selects: returns whether to unpack a path; other members are skipped, whatever they are.
        vouched: whether the archive has matched a digest of its source, so that members that are not listed belong to it, too.

    Returns:
        SHA-256 of each unpacked file, by path.

    Raises:
        FetchError: BAD_DATA: it is not an archive, is damaged, has an unsafe path or a link, or a file in it is not listed,
            larger than listed, duplicate or missing. NO_SPACE: it does not fit.
    """
    wanted = {path: size for path, size in listed.items() if selects(path)}
    with Files(folder) as files, _damaged():
        files.reserve(sum(wanted.values()))
        unpacking = _Unpacking(files, wanted, vouched=vouched)
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                unpacking.run(filter(lambda member: selects(member.path), _of_zip(opened)), threads=_THREADS)
        else:
            with _opened(archive) as stream:
                tar = _Bounded(
                    stream,
                    limit=(shutil.disk_usage(folder).free if vouched else 0) + 2 * sum(listed.values()) + 16 * _BLOCK,
                )
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
            with zipfile.ZipFile(archive) as opened:
                return path in opened.namelist()
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
        vouched: whether the archive itself says what else there is.
    """

    def __init__(self, files: Files, wanted: Mapping[str, int], *, vouched: bool) -> None:
        self._vouched = vouched
        self.digests: dict[str, str] = {}
        self._files = files
        self._wanted = dict(wanted)
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
        if path not in self._wanted:
            # Skipped, it might be most of the data: Kaggle's listings have been incomplete before.
            if not self._vouched:  # nothing says that it belongs there, and which size it should have
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
            while data := source.read(_BLOCK):
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
        member._decompressor = isal_zlib.decompressobj(-zlib.MAX_WBITS)  # type: ignore[attr-defined]
    return member


def _of_tar(stream: _Source) -> Iterator[Member]:
    # As a stream: seeking back one byte, as tarfile does in a file, would decompress everything again.
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK) as tar:  # type: ignore[call-overload]
        for info in tar:
            if info.isdir():
                continue
            path, problem = info.name.removeprefix("./"), None if info.isreg() else _NO_FILE
            yield Member(path, info.size, problem, lambda info=info: tar.extractfile(info))  # type: ignore[misc]
            tar.members.clear()  # otherwise tarfile keeps them all
    while stream.read(_BLOCK):  # gzip's checksum is at the very end
        pass


_NO_FILE = "is a link, or something else that is not a regular file"


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[_Source]:
    with archive.open("rb", buffering=_BLOCK) as raw:
        compressed = raw.read(len(_GZIP)) == _GZIP
        raw.seek(0)
        if not compressed:
            yield raw
            return
        with ThreadPoolExecutor(1) as pool:
            yield _Ahead(_Inflated(raw), pool)


class _Inflated:
    """The contents of a gzip file. Python's own module decompresses slowly, 8 KB at a time."""

    def __init__(self, raw: _Source) -> None:
        self._raw = raw
        self._zlib = isal_zlib.decompressobj(_GZIP_WITH_CHECKSUM)

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        while True:
            data = self._zlib.unconsumed_tail or self._zlib.unused_data or self._raw.read(_BLOCK // 4)
            if self._zlib.eof:
                if not data.lstrip(b"\0"):  # nothing, or the padding of a tape's block
                    return b""
                self._zlib = isal_zlib.decompressobj(_GZIP_WITH_CHECKSUM)  # another gzip member follows
            elif not data:
                raise EOFError("it ends too early")
            if found := self._zlib.decompress(data, size):
                return found


class _Ahead:
    """A stream that reads one block ahead: it is decompressed while the previous one is hashed and written."""

    def __init__(self, stream: _Source, pool: ThreadPoolExecutor) -> None:
        self._stream = stream
        self._pool = pool
        self._next = pool.submit(stream.read, _BLOCK)

    def read(self, _: int, /) -> bytes:
        """Return the next block, whatever its length; tarfile reads until it has enough."""
        data = self._next.result()
        if data:
            self._next = self._pool.submit(self._stream.read, _BLOCK)
        return data


class _Bounded:
    """A stream that raises an error once it is much longer than everything listed."""

    def __init__(self, stream: _Source, limit: int) -> None:
        self._stream = stream
        self._left = limit

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _bad("The archive unpacks to more than twice the listed size.")
        return data


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
