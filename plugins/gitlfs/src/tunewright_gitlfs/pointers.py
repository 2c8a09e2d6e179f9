"""LFS pointers: short texts that represent large files in a repository.

See https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md.
"""

from __future__ import annotations

import re

import attrs

LARGEST = 1023
"""Bytes; a longer blob is not a pointer."""

# The second and third are names from before the specification was published; git-lfs still accepts them.
_VERSIONS = (
    "https://git-lfs.github.com/spec/v1",
    "https://hawser.github.com/spec/v1",
    "http://git-media.io/v/2",
)
_POINTER = re.compile(r"version (?P<version>\S+)\noid sha256:(?P<oid>[0-9a-f]{64})\nsize (?P<size>[0-9]{1,18})")


@attrs.frozen
class Pointer:
    """The pointer to a file.

    Attributes:
        oid: SHA-256 of the file, in hexadecimal.
        size: size of the file in bytes.
    """

    oid: str
    size: int


def looks_like_pointer(blob: bytes) -> bool:
    """Return whether a blob is meant as a pointer, even if it is malformed."""
    return blob.lstrip().startswith(tuple(f"version {v}".encode() for v in _VERSIONS))


def read_pointer(blob: bytes) -> Pointer | None:
    """Parse a pointer; None for a blob that is not a pointer, is damaged, or needs an extension (`ext-0-…`)."""
    text = blob.decode(errors="replace").replace("\r\n", "\n").strip()
    match = _POINTER.fullmatch(text)
    if match is None or match["version"] not in _VERSIONS:
        return None
    return Pointer(oid=match["oid"], size=int(match["size"]))
