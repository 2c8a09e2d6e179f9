"""Files that list the digests of the files beside them: SHA256SUMS and its kind, and an output's marker.

`sha256sum` writes `DIGEST  NAME`, with `--tag` and on BSD `SHA256 (NAME) = DIGEST`, and openssl `SHA2-256(NAME)= DIGEST`. The length of
a digest says which algorithm it is of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from tunewright.errors import ExitCode, FetchError
from tunewright.providers.snapshots import Algorithm, Digest

SUMS_NAME = "SHA256SUMS"
LONGEST_SUMS = 64 << 20
"""Bytes of a file with digests that are read at most."""

# In order of preference, if a file has several digests of one name: SHA-256 is computed anyway.
_OF_BYTES: Mapping[int, Algorithm] = {32: "sha256", 64: "sha512", 20: "sha1", 16: "md5"}
_HEX = rb"(?P<hex>[0-9a-fA-F]{128}|[0-9a-fA-F]{64}|[0-9a-fA-F]{40}|[0-9a-fA-F]{32})"
_LINES = (
    re.compile(rb"(?P<escaped>\\?)" + _HEX + rb" [ *](?:\./)?(?P<name>.+)"),
    re.compile(rb"(?P<escaped>\\?)" + _HEX + rb"[ \t]+\*?(?:\./)?(?P<name>.+)"),  # by other programs, or by hand
    re.compile(rb"(?P<escaped>\\?)[A-Z0-9-]+ ?\((?:\./)?(?P<name>.+)\) ?= ?" + _HEX),
)
_SIGNED = re.compile(rb"-----BEGIN PGP SIGNED MESSAGE-----.*?\n\r?\n(.*?)-----BEGIN PGP SIGNATURE-----", re.DOTALL)
_BOM = b"\xef\xbb\xbf"
_ESCAPED = re.compile(rb"\\([\\nr])")
_CONTROL = {b"\\": b"\\", b"n": b"\n", b"r": b"\r"}


@attrs.frozen(eq=False)
class Sums:
    """The digests in such a file, and which of the files in it have been seen.

    Attributes:
        name: name of the file with the digests.
        known: path → digest.
        all: whether the file lists all files.
        unread: the first line that is none of a digest, such as one of another kind; None if there is none.
    """

    name: str = SUMS_NAME
    known: dict[str, bytes] = attrs.field(factory=dict)
    all: bool = False
    unread: str | None = None
    _seen: set[str] = attrs.field(factory=set)

    @classmethod
    def read(cls, text: bytes, name: str = SUMS_NAME) -> Sums:
        """Read a list of digests; empty lines, comments, a signature around it, and its own digest do not count."""
        if signed := _SIGNED.search(text):
            text = signed[1]
        known: dict[str, bytes] = {}
        unread: str | None = None
        for line in _lines(text):
            path, digest = _pair(line) or ("", b"")
            if not path:
                unread = line.decode(errors="replace") if unread is None else unread
            elif path != name and _is_better(digest, known.get(path)):
                known[path] = digest
        return cls(name, known, unread=unread)

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
        return (Digest(algorithm=_OF_BYTES[len(value)], value=value.hex()),)

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


def _lines(text: bytes) -> Iterator[bytes]:
    lines: Iterable[bytes] = text.removeprefix(_BOM).splitlines()
    return (line for line in lines if line.strip() and not line.startswith((b"#", b";")))


def _pair(line: bytes) -> tuple[str, bytes] | None:
    """Return the path and the digest in a line; None if it has none."""
    match = next((match for form in _LINES if (match := form.fullmatch(line))), None)
    if match is None:
        return None
    name = _ESCAPED.sub(lambda found: _CONTROL[found[1]], match["name"]) if match["escaped"] else match["name"]
    return name.decode(errors="surrogateescape"), bytes.fromhex(match["hex"].decode())


def _is_better(digest: bytes, other: bytes | None) -> bool:
    order = list(_OF_BYTES)
    return other is None or order.index(len(digest)) <= order.index(len(other))
