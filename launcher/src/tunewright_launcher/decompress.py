"""Streams of compressed archives: by what the bytes are, and not by what the file is called."""

from __future__ import annotations

import bz2
import contextlib
import importlib
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Protocol, cast

from tunewright.errors import ExitCode, FetchError

try:
    from isal import isal_zlib as fast_zlib  # Intel's ISA-L: half the time of zlib, also on other vendors' processors
except ImportError:
    import zlib as fast_zlib  # type: ignore[no-redef]

__all__ = ["BLOCK", "DAMAGE", "Stream", "fast_zlib", "opened"]

BLOCK = 1 << 20
DAMAGE: tuple[type[Exception], ...] = (
    zlib.error,
    cast("type[Exception]", fast_zlib.error),  # its stub says that this is an exception
    lzma.LZMAError,
    EOFError,
    ValueError,
)
"""What reading a damaged stream raises, besides an OSError without a number."""

_GZIP_WITH_CHECKSUM = zlib.MAX_WBITS | 16


class Stream(Protocol):
    """What can be read from its beginning to its end."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most `size`, none at the end."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Stream]:
    """Open a file, decompressed if it is compressed by gzip, bzip2, xz or Zstandard.

    Raises:
        FetchError: USAGE: nothing here decompresses it.
    """
    with path.open("rb", buffering=BLOCK) as raw:
        first = raw.read(_LONGEST_MAGIC)
        raw.seek(0)
        make = next((make for magic, make in _KINDS.items() if magic.match(first)), None)
        if make is None:
            yield raw
            return
        with ThreadPoolExecutor(1) as pool:
            yield _Ahead(make(raw), pool)


class _Inflated:
    """The contents of a gzip file. Python's own module decompresses slowly, 8 KB at a time."""

    def __init__(self, raw: Stream) -> None:
        self._raw = raw
        self._zlib = fast_zlib.decompressobj(_GZIP_WITH_CHECKSUM)

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        while True:
            data = self._zlib.unconsumed_tail or self._zlib.unused_data or self._raw.read(BLOCK // 4)
            if self._zlib.eof:
                if not data.lstrip(b"\0"):  # nothing, or the padding of a tape's block
                    return b""
                self._zlib = fast_zlib.decompressobj(_GZIP_WITH_CHECKSUM)  # another gzip member follows
            elif not data:
                raise EOFError("it ends too early")
            if found := self._zlib.decompress(data, size):
                return found


class _Zstd:
    """The contents of a Zstandard file, by Python's own module from 3.14 on, and before by its backport."""

    def __init__(self, raw: IO[bytes]) -> None:
        module = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
        try:
            zstd = importlib.import_module(module)
        except ImportError as error:
            cause = "The archive is compressed by Zstandard, and nothing decompresses that here."
            remedy = "Install the package backports.zstd where the step runs."
            raise FetchError(cause, remedy=remedy, code=ExitCode.USAGE) from error
        self._file: Stream = zstd.ZstdFile(raw)
        self._damaged: type[Exception] = zstd.ZstdError

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        try:
            return self._file.read(size)
        except self._damaged as error:
            raise ValueError(str(error)) from error


class _Ahead:
    """A stream that reads one block ahead: it is decompressed while the previous one is hashed and written."""

    def __init__(self, stream: Stream, pool: ThreadPoolExecutor) -> None:
        self._stream = stream
        self._pool = pool
        self._next = pool.submit(stream.read, BLOCK)

    def read(self, _: int, /) -> bytes:
        """Return the next block, whatever its length; tarfile reads until it has enough."""
        data = self._next.result()
        if data:
            self._next = self._pool.submit(self._stream.read, BLOCK)
        return data


# A tar begins with the name of a file, which might be "BZh…".
_KINDS: Mapping[re.Pattern[bytes], Callable[[IO[bytes]], Stream]] = {
    re.compile(rb"\x1f\x8b"): _Inflated,
    re.compile(rb"\x28\xb5\x2f\xfd"): _Zstd,
    re.compile(rb"BZh[1-9]1AY&SY"): bz2.BZ2File,
    re.compile(rb"\xfd7zXZ\x00"): lzma.LZMAFile,
}
_LONGEST_MAGIC = 10
