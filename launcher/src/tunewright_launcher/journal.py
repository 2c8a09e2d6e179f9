"""The journal of a fetch: which files, and which ranges of large ones, are on the disk already.

It lies beside the staged files and is only ever appended to, a line at once, after the bytes that the line tells of. So a
process that is killed loses what it had in its hands, and no more. The lines are not flushed to the disk: after a crash of
the machine they may tell of bytes that never got there. So what another start of a machine has written (`boot_id`) counts
as ranges that are still to be verified, never as finished; and where the source has no digest, as nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import attrs

from tunewright.providers.snapshots import Entry

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DONE, _FORGET = b'"done"', b'"forget"'
_OF_PATH = 8  # bytes of a fingerprint, which all versions of a file have in common


@attrs.frozen(kw_only=True)
class FileRecord:
    """What is known of one file of a slot.

    Attributes:
        size: bytes.
        sha256: hexadecimal digest of what was written.
        verified: how it was compared with its source: an algorithm ("sha256", "md5", …), or "size" at the least.
        version: `fingerprint` of its entry, in hexadecimal digits; None where the source lists no entries.
    """

    size: int = attrs.field(validator=attrs.validators.instance_of(int))
    sha256: str = attrs.field(validator=attrs.validators.instance_of(str))
    verified: str = attrs.field(default="size", validator=attrs.validators.instance_of(str))
    version: str | None = None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """From JSON's values; others are ignored.

        Raises:
            KeyError, TypeError: one is missing, or of the wrong type.
        """
        return cls(size=fields["size"], sha256=fields["sha256"], verified=fields["verified"], version=fields["version"])


def fingerprint(entry: Entry) -> bytes:
    """What tells one version of a file from another: 8 bytes over its path, and 8 over all else that is known of it."""
    known = (entry.size, entry.validator, *((d.algorithm, d.value) for d in entry.digests))
    return short(entry.path)[:_OF_PATH] + short(repr(known))[:_OF_PATH]


def short(text: str) -> bytes:
    """16 bytes that stand for a text: a set of them takes little memory."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


class Journal:
    """One journal, for appending and for reading what an earlier process has left.

    Args:
        file: where it is; made if it is not there.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._done: set[bytes] = set()
        self._wanted: set[bytes] = set()
        self._versions: dict[bytes, bytes] = {}  # of a file, by its path: what lies there
        self._ranges: dict[bytes, dict[int, int]] = {}  # of a file: stop → start
        self._unflushed: set[bytes] = set()  # what another start of the machine has written of them may be lost
        self._read()
        self.resumed = bool(self._done or self._ranges)
        self._handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(self._handle, b"\n")  # a process that was killed may have left half a line
        self._append({"boot": _boot_id()})

    def expects(self, entry: Entry) -> bool:
        """The file is wanted; whether this version of it was written whole and verified.

        What is known of another version of it is forgotten: it will be written over.
        """
        key = fingerprint(entry)
        self._wanted.add(key)
        if (former := self._versions.pop(key[:_OF_PATH], key)) != key:
            self._forget(former)
        return key in self._done

    def ranges(self, entry: Entry) -> list[tuple[int, int]]:
        """The ranges (start, stop) of this version of the file that were written."""
        return [(start, stop) for stop, start in self._ranges.get(fingerprint(entry), {}).items()]

    def same_boot(self, entry: Entry) -> bool:
        """Whether all that is there of this version of the file was written since the machine was started."""
        return fingerprint(entry) not in self._unflushed

    def wrote(self, entry: Entry, start: int, stop: int) -> None:
        """A range of a file is on the disk."""
        self._append({"of": fingerprint(entry).hex(), "start": start, "stop": stop})

    def finished(self, entry: Entry, *, sha256: str, verified: str) -> None:
        """A file is on the disk and verified."""
        record = FileRecord(size=entry.size, sha256=sha256, verified=verified, version=fingerprint(entry).hex())
        self._append({"done": record.version, "path": entry.path, **attrs.asdict(record)})

    def forget(self, entry: Entry) -> None:
        """What was written of a file is not to be trusted."""
        self._forget(fingerprint(entry))

    def forget_all(self) -> None:
        """Nothing that was written of what is wanted is to be trusted."""
        for key in self._wanted:
            self._forget(key)
        self.resumed = True

    def records(self) -> Iterator[tuple[str, FileRecord]]:
        """Path and record of each file that is wanted and finished; of one that was finished twice, the last."""
        forgotten = {line["forget"]: -1 for line in self._lines(_FORGET) if "forget" in line}
        if forgotten:
            forgotten |= {key: n for n, line in enumerate(self._lines(_DONE)) if (key := line.get("done")) in forgotten}
        left = set(self._wanted)
        for number, line in enumerate(self._lines(_DONE)):
            key = bytes.fromhex(str(line.get("done", "")))
            if key in left and forgotten.get(line["done"], number) == number:
                left.discard(key)
                yield str(line["path"]), FileRecord.of(line)

    def close(self) -> None:
        """Nothing more is appended."""
        os.close(self._handle)

    def _forget(self, key: bytes) -> None:
        self._done.discard(key)
        self._ranges.pop(key, None)
        self._unflushed.discard(key)
        self._append({"forget": key.hex()})

    def _append(self, line: dict[str, object]) -> None:
        # One write to the end of a file is never mixed with another one's. A lock would make all threads wait for each other.
        os.write(self._handle, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def _lines(self, among: bytes = b"") -> Iterator[dict[str, object]]:
        """The lines, in order; only those in which certain bytes are. Parsing them is what reading a journal costs."""
        with contextlib.suppress(FileNotFoundError), self._file.open("rb") as stream:
            for line in stream:
                if among in line:
                    with contextlib.suppress(ValueError):  # the last line of a process that was killed, or had no space
                        yield json.loads(line)

    def _read(self) -> None:
        finished: dict[bytes, int] = {}
        same_boot = False
        for line in self._lines():
            key = bytes.fromhex(str(line.get("of") or line.get("done") or line.get("forget") or ""))
            if "boot" in line:
                same_boot = line["boot"] == _boot_id()
                continue
            if not same_boot:
                self._unflushed.add(key)
            self._versions[key[:_OF_PATH]] = key
            if "of" in line:
                self._add_range(key, int(line["start"]), int(line["stop"]))  # type: ignore[call-overload]
            elif "done" in line:
                finished[key] = int(line["size"])  # type: ignore[call-overload]
                self._ranges.pop(key, None)
            elif "forget" in line:
                finished.pop(key, None)
                self._ranges.pop(key, None)
                self._unflushed.discard(key)
        self._done.update(finished.keys() - self._unflushed)
        self._ranges.update({key: {size: 0} for key, size in finished.items() if key in self._unflushed and size})

    def _add_range(self, key: bytes, start: int, stop: int) -> None:
        ranges = self._ranges.setdefault(key, {})
        ranges[stop] = ranges.pop(start, start)  # it goes on where another one ended


def missing(ranges: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """The gaps of a file of that size between the ranges that are there, in order."""
    gaps, position = [], 0
    for start, stop in sorted(ranges):
        if start > position:
            gaps.append((position, start))
        position = max(position, stop)
    return [*gaps, (position, size)] if position < size else gaps


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text("utf-8").strip()
    except OSError:
        return ""
