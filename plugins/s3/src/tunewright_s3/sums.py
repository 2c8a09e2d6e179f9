"""SHA256SUMS: what `sha256sum` writes, beside the objects that it names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from tunewright import ExitCode, FetchError
from tunewright.snapshots import Digest

NAME = "SHA256SUMS"
LONGEST = 64 << 20  # bytes

_LINE = re.compile(rb"(\\?)([0-9a-fA-F]{64}) [ *](?:\./)?(.+)")
_ESCAPED = re.compile(rb"\\([\\nr])")
_CONTROL = {b"\\": b"\\", b"n": b"\n", b"r": b"\r"}


class Sums:
    """The digests that a SHA256SUMS file names, and which of its files have been seen.

    Args:
        text: the file's contents; b"" for none. Other lines than digests are ignored.
    """

    def __init__(self, text: bytes = b"") -> None:
        self._known = dict(_pairs(text.splitlines()))
        self._seen: set[str] = set()

    def of(self, path: str) -> tuple[Digest, ...]:
        """The digest of a file that is there; none if the SHA256SUMS file does not name it."""
        if (value := self._known.get(path)) is None:
            return ()
        self._seen.add(path)
        return (Digest(algorithm="sha256", value=value.hex()),)

    def check_complete(self, uri: str, selects: Callable[[str], bool]) -> None:
        """Raise if a file is named that is not there.

        Raises:
            FetchError: BAD_DATA.
        """
        lacking = [path for path in self._known if path not in self._seen and selects(path)]
        if lacking:
            cause = f"{NAME} of {uri} names {len(lacking)} files that are not there, among them {min(lacking)!r}."
            remedy = f"Upload what is missing, or write {NAME} anew."
            raise FetchError(cause, remedy=remedy, code=ExitCode.BAD_DATA)


def _pairs(lines: Iterable[bytes]) -> Iterable[tuple[str, bytes]]:
    for line in lines:
        if match := _LINE.fullmatch(line):
            name = _ESCAPED.sub(lambda m: _CONTROL[m[1]], match[3]) if match[1] else match[3]
            yield name.decode(errors="surrogateescape"), bytes.fromhex(match[2].decode())
