"""Files that list the digests of the files beside them: SHA256SUMS, as `sha256sum` writes it, and an output's marker."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable

import attrs

from tunewright.errors import ExitCode, FetchError
from tunewright.providers.snapshots import Digest

SUMS_NAME = "SHA256SUMS"
LONGEST_SUMS = 64 << 20
"""Bytes of a file with digests that are read at most."""

_LINE = re.compile(rb"(\\?)([0-9a-fA-F]{64}) [ *](?:\./)?(.+)")
_ESCAPED = re.compile(rb"\\([\\nr])")
_CONTROL = {b"\\": b"\\", b"n": b"\n", b"r": b"\r"}


@attrs.frozen(eq=False)
class Sums:
    """The digests in such a file, and which of the files in it have been seen.

    Attributes:
        name: name of the file with the digests.
        known: path → SHA-256.
        all: whether the file lists all files.
    """

    name: str = SUMS_NAME
    known: dict[str, bytes] = attrs.field(factory=dict)
    all: bool = False
    _seen: set[str] = attrs.field(factory=set)

    @classmethod
    def read(cls, text: bytes, name: str = SUMS_NAME) -> Sums:
        """Read a SHA256SUMS file; lines that are not digests are ignored."""
        return cls(name, dict(_pairs(text.splitlines())))

    @classmethod
    def of_marker(cls, name: str, text: bytes) -> Sums | None:
        """Read the marker that completes an upload; None for another file with that name."""
        try:
            marker = json.loads(text)
            files = {str(path): bytes.fromhex(record["sha256"]) for path, record in marker["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        return cls(name, files, all=True) if marker.get("api") == 1 else None

    def see(self, path: str) -> tuple[Digest, ...] | None:
        """Note that a file exists, and return its digest if it is listed; None for a file that does not belong here."""
        if (value := self.known.get(path)) is None:
            return None if self.all else ()
        self._seen.add(path)
        return (Digest(algorithm="sha256", value=value.hex()),)

    def check_complete(self, uri: str, selects: Callable[[str], bool]) -> None:
        """Raise an error if a listed file does not exist.

        Raises:
            FetchError: BAD_DATA.
        """
        lacking = [path for path in self.known if path not in self._seen and selects(path)]
        if lacking:
            cause = f"{self.name} of {uri} lists {len(lacking)} files that do not exist, among them {min(lacking)!r}."
            remedy = f"Upload the missing files, or write {self.name} again."
            raise FetchError(cause, remedy=remedy, code=ExitCode.BAD_DATA)


def _pairs(lines: Iterable[bytes]) -> Iterable[tuple[str, bytes]]:
    for line in lines:
        if match := _LINE.fullmatch(line):
            name = _ESCAPED.sub(lambda m: _CONTROL[m[1]], match[3]) if match[1] else match[3]
            yield name.decode(errors="surrogateescape"), bytes.fromhex(match[2].decode())
