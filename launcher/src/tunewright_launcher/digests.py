"""Digests: computed while a file arrives, and compared with those of the source."""

from __future__ import annotations

import functools
import hashlib
import io
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Protocol, get_args

from tunewright.errors import ExitCode, FetchError
from tunewright.providers.snapshots import Algorithm, Digest, Entry

SIZE = "size"
"""How a file counts as verified if its source has no digest that can be computed here."""

_CrcFunction = Callable[[memoryview, int], int]

_BLOCK = 1 << 20  # bytes per read


class _CrcKind(NamedTuple):
    model: str  # its name in https://reveng.sourceforge.io/crc-catalogue
    width: int  # bytes


_CRCS = {
    "crc32": _CrcKind("CRC32-ISO-HDLC", 4),
    "crc32c": _CrcKind("CRC32-ISCSI", 4),
    "crc64nvme": _CrcKind("CRC64-NVME", 8),
}


class Hasher(Protocol):
    """The interface of hashlib's objects."""

    def update(self, data: memoryview, /) -> None:
        """Hash the next bytes."""

    def digest(self) -> bytes:
        """Return the digest of the bytes so far."""


class Checks:
    """The digests of one file: SHA-256, for the marker, and those of its source.

    Args:
        digests: the source's.
        size: bytes of the whole file.

    Raises:
        FetchError: USAGE: a digest cannot be computed here. It is never passed over: all of them must match.
    """

    def __init__(self, digests: Iterable[Digest], size: int) -> None:
        self._digests, self._size = tuple(digests), size
        self._sha256 = hashlib.sha256()
        self._expected = [(digest, _hasher(digest, size)) for digest in self._digests]

    def reset(self) -> Checks:
        """Return the same digests, of no bytes yet."""
        return Checks(self._digests, self._size)

    def update(self, data: memoryview) -> None:
        """Hash the next bytes."""
        self._sha256.update(data)
        for _, hasher in self._expected:
            if hasher is not _SHA256:
                hasher.update(data)

    @property
    def compares(self) -> bool:
        """Whether the source has a digest to compare with."""
        return bool(self._expected)

    @property
    def sha256(self) -> str:
        """The SHA-256 digest, in hexadecimal digits."""
        return self._sha256.hexdigest()

    def verify(self, what: str) -> str:
        """Compare with the source's digests; return how the file was verified: the algorithm's name, or "size".

        Raises:
            FetchError: BAD_DATA: a digest differs from the source's.
        """
        for expected, hasher in self._expected:
            found = self._sha256.hexdigest() if hasher is _SHA256 else hasher.digest().hex()
            if found != expected.value.lower():
                cause = f"{what} has the {expected.algorithm} digest {found}, but its source says {expected.value}."
                remedy = "It was damaged in transit or at its source; if this persists, the source is damaged."
                raise FetchError(cause, remedy=remedy, code=ExitCode.BAD_DATA)
        return self._expected[0][0].algorithm if self._expected else SIZE


_SHA256: Hasher = hashlib.sha256()  # a placeholder for the one that is computed anyway


def _hasher(digest: Digest, size: int) -> Hasher:
    if digest.part_size is not None:
        return _OfParts(digest.algorithm, digest.part_size)
    if digest.algorithm == "sha256":
        return _SHA256
    if digest.algorithm == "git-blob-sha1":
        return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    return _new(digest.algorithm)


def _new(algorithm: Algorithm) -> Hasher:
    if algorithm in _CRCS:
        if function := _crc_function(algorithm):
            return _Crc(function, _CRCS[algorithm].width)
        remedy = "Install the package that computes it where the step runs: pip install anycrc"
        raise FetchError(
            f"The source's {algorithm} digests cannot be computed here.", remedy=remedy, code=ExitCode.USAGE
        )
    try:
        return hashlib.new(algorithm, usedforsecurity=False)
    except ValueError as error:
        cause = f"The source reports digests of the kind {algorithm!r}, which is not one of {', '.join(get_args(Algorithm))}."
        remedy = "Report this to the author of the source's plugin."
        raise FetchError(cause, remedy=remedy, code=ExitCode.USAGE) from error


@functools.cache
def _crc_function(algorithm: str) -> _CrcFunction | None:
    try:
        import anycrc
    except ImportError:
        return zlib.crc32 if algorithm == "crc32" else None
    calc: _CrcFunction = anycrc.Model(_CRCS[algorithm].model).calc
    return calc


class _Crc:
    def __init__(self, function: _CrcFunction, width: int) -> None:
        self._function = function
        self._width = width
        self._value = 0

    def update(self, data: memoryview, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


class _OfParts:
    """The digest of the concatenated digests of parts; see "Checking object integrity" in Amazon S3's user guide."""

    def __init__(self, algorithm: Algorithm, part_size: int) -> None:
        self._algorithm: Algorithm = algorithm
        self._part_size = part_size
        self._part, self._left = _new(algorithm), part_size
        self._all = _new(algorithm)

    def update(self, data: memoryview, /) -> None:
        while data:
            piece, data = data[: self._left], data[self._left :]
            self._part.update(piece)
            self._left -= len(piece)
            if not self._left:
                self._close_part()

    def _close_part(self) -> None:
        self._all.update(memoryview(self._part.digest()))
        self._part, self._left = _new(self._algorithm), self._part_size

    def digest(self) -> bytes:
        if self._left != self._part_size:
            self._close_part()
        return self._all.digest()


def is_there(entry: Entry | None, content: Path | bytes) -> bool:
    """Return whether a store has a file with these contents, as far as its digests tell."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    if entry is None or entry.size != size:
        return False
    try:
        checks = Checks(entry.digests, entry.size)
        if not checks.compares:
            return False
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as stream:
            while data := stream.read(_BLOCK):
                checks.update(memoryview(data))
        checks.verify(entry.path)
    except FetchError:  # it differs, or the digest cannot be computed here
        return False
    return True
