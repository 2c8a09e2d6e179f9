"""LFS pointers: the short texts that stand in a repository for large files.

See https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md.
"""

from __future__ import annotations

import re

import attrs

LARGEST = 1023
"""Bytes; a longer blob is no pointer."""

# The second and third are its names before it was published; git-lfs still takes them.
_VERSIONS = (
    "https://git-lfs.github.com/spec/v1",
    "https://hawser.github.com/spec/v1",
    "http://git-media.io/v/2",
)
_POINTER = re.compile(r"version (?P<version>\S+)\noid sha256:(?P<oid>[0-9a-f]{64})\nsize (?P<size>[0-9]{1,18})")


@attrs.frozen
class Pointer:
    """What stands in place of a file.

    Attributes:
        oid: SHA-256 of the file, in hexadecimal digits.
        size: bytes of the file.
    """

    oid: str
    size: int


def looks_like_pointer(blob: bytes) -> bool:
    """Whether a blob is meant as a pointer, even if it cannot be read as one."""
    return blob.lstrip().startswith(tuple(f"version {v}".encode() for v in _VERSIONS))


def read_pointer(blob: bytes) -> Pointer | None:
    """The pointer that a blob is; None for a blob that is none, is damaged, or needs a program of its own (`ext-0-…`)."""
    text = blob.decode(errors="replace").replace("\r\n", "\n").strip()
    match = _POINTER.fullmatch(text)
    if match is None or match["version"] not in _VERSIONS:
        return None
    return Pointer(oid=match["oid"], size=int(match["size"]))
