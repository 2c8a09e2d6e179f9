"""Unpacking what a stranger has packed: no name leaves the folder, no link is made, and nothing is larger than listed.

Intel's ISA-L decompresses in half the time of zlib, on other makers' processors too.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import lzma
import os
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
        path: as it is named there.
        problem: what it is, if it is not a file.
        open: gives its contents.
    """

    path: str
    problem: str | None
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, listed: Mapping[str, int], selects: Callable[[str], bool]) -> dict[str, str]:
    """Unpack the selected files of a zip or a tar into a folder, and compare them with what was listed.

    Args:
        archive: the archive.
        folder: where to.
        listed: path → bytes, of every file that the source lists.
        selects: whether a path is wanted; what is not is passed over, whatever it is.

    Returns:
        SHA-256 of each file that was unpacked, by path.

    Raises:
        FetchError: BAD_DATA: it is no archive, is damaged, has a hostile name, a link, a file that was not listed, is
            larger than listed or comes twice, or lacks one. NO_SPACE: it does not fit.
    """
    wanted = {path: size for path, size in listed.items() if selects(path)}
    with Files(folder) as files, _damaged():
        files.reserve(sum(wanted.values()))
        unpacking = _Unpacking(files, wanted)
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                unpacking.run(filter(lambda member: selects(member.path), _of_zip(opened)), threads=_THREADS)
        else:
            with _opened(archive) as stream:
                tar = _Bounded(stream, limit=2 * sum(listed.values()) + 16 * _BLOCK)
                unpacking.run(filter(lambda member: selects(member.path), _of_tar(tar)), threads=1)
    if lacking := wanted.keys() - unpacking.digests.keys():
        raise _bad(f"The archive lacks {len(lacking)} of the listed files, for example {min(lacking)!r}.")
    return unpacking.digests


class _Unpacking:
    """Writes members.

    Args:
        files: where to.
        wanted: path → bytes.
    """

    def __init__(self, files: Files, wanted: Mapping[str, int]) -> None:
        self.digests: dict[str, str] = {}
        self._files = files
        self._wanted = wanted
        self._begun: set[str] = set()
        self._lock = threading.Lock()

    def run(self, members: Iterator[Member], *, threads: int) -> None:
        """Write them all; with one thread, each before the next one is looked for."""
        with ThreadPoolExecutor(threads) as pool:
            for future in [pool.submit(self._work, members) for _ in range(threads)]:
                future.result()

    def _work(self, members: Iterator[Member]) -> None:
        while True:
            with self._lock:  # not one future a member: a dataset may have a million
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
            # Passed over, it might be most of the data: Kaggle's listings have been incomplete before. And nothing says
            # what it should be.
            raise hostile(path, "is in the archive, and is not listed")
        if path in self._begun:
            raise hostile(path, "is in the archive twice")
        self._begun.add(path)

    def _write(self, member: Member) -> str:
        """Write a member; returns its SHA-256."""
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
            raise _bad(f"{member.path} has {position} bytes in the archive, and {size} are listed.")
        return digest.hexdigest()


def _of_zip(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        if info.is_dir():
            continue
        # zipfile cuts a name at a NUL; what it was before counts.
        path = info.orig_filename if "\0" in info.orig_filename else info.filename
        is_file = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
        yield Member(path, None if is_file else _NO_FILE, lambda info=info: _inflated(archive, info))  # type: ignore[misc]


def _inflated(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    member = archive.open(info)
    if info.compress_type == zipfile.ZIP_DEFLATED:
        # zipfile has no door for it. Were it to call it otherwise one day, its own would do the work as before.
        member._decompressor = isal_zlib.decompressobj(-zlib.MAX_WBITS)  # type: ignore[attr-defined]
    return member


def _of_tar(stream: _Source) -> Iterator[Member]:
    # As a stream: to go back one byte, as tarfile does with a file, would mean to decompress from the beginning.
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK) as tar:  # type: ignore[call-overload]
        for info in tar:
            if info.isdir():
                continue
            path, problem = info.name.removeprefix("./"), None if info.isreg() else _NO_FILE
            yield Member(path, problem, lambda info=info: tar.extractfile(info))  # type: ignore[misc]
            tar.members.clear()  # or it keeps them all
    while stream.read(_BLOCK):  # gzip's checksum comes at the very end
        pass


_NO_FILE = "is a link, or something else that is no file"


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
    """What a gzip file holds. Python's own module decompresses 8 KB at a time, and slowly."""

    def __init__(self, raw: _Source) -> None:
        self._raw = raw
        self._zlib = isal_zlib.decompressobj(_GZIP_WITH_CHECKSUM)

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""
        while True:
            data = self._zlib.unconsumed_tail or self._zlib.unused_data or self._raw.read(_BLOCK // 4)
            if self._zlib.eof:
                if not data.lstrip(b"\0"):  # nothing, or what fills up a tape's block
                    return b""
                self._zlib = isal_zlib.decompressobj(_GZIP_WITH_CHECKSUM)  # another one follows
            elif not data:
                raise EOFError("it ends too early")
            if found := self._zlib.decompress(data, size):
                return found


class _Ahead:
    """A stream of which one block is read ahead: decompressed, while the one before is hashed and written."""

    def __init__(self, stream: _Source, pool: ThreadPoolExecutor) -> None:
        self._stream = stream
        self._pool = pool
        self._next = pool.submit(stream.read, _BLOCK)

    def read(self, _: int, /) -> bytes:
        """The next block, however long it is; tarfile asks until it has enough."""
        data = self._next.result()
        if data:
            self._next = self._pool.submit(self._stream.read, _BLOCK)
        return data


class _Bounded:
    """A stream that ends with an error where it becomes much longer than all that is listed."""

    def __init__(self, stream: _Source, limit: int) -> None:
        self._stream = stream
        self._left = limit

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _bad("The archive unpacks to more than twice of what is listed.")
        return data


@contextlib.contextmanager
def _damaged() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # The disk's own errors have a number; those of gzip and bz2 have none, and a place outside of the file is EINVAL.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise _bad(f"The archive is damaged: {error}.") from error
    except _DAMAGE as error:
        raise _bad(
            f"The archive is damaged, encrypted, or of an unknown kind: {error or type(error).__name__}."
        ) from error


def _bad(cause: str) -> FetchError:
    return FetchError(cause, remedy="Fetch it again; if it stays so, tell its author.", code=ExitCode.BAD_DATA)
