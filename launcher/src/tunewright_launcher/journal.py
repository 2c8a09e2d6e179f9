"""The journal of a download: which files, and which ranges of large ones, are already on the disk.

It is beside the staged files and append-only. Each line is written after the bytes that it records, so a process that is killed
loses only what it was working on. The lines are not flushed: after a crash of the machine they may record bytes that never
reached the disk. So whatever was written before the machine's last boot (`boot_id`) counts as ranges that still have to be
verified, never as finished, and as nothing if the source has no digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import attrs

from tunewright.providers.snapshots import Entry

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DONE, _FORGET = b'"done"', b'"forget"'
_AT_ONCE = 500  # lines that are parsed together
_TOGETHER, _LATEST = 4 << 20, 0.05  # bytes of a range, or seconds, whose record a process loses at most that is killed
_OF_PATH = 8  # bytes of a fingerprint that all versions of a file share


@attrs.frozen(kw_only=True)
class FileRecord:
    """The record of one file of a slot.

    Attributes:
        size: bytes.
        sha256: hexadecimal digest of its contents.
        verified: how it was compared with its source: an algorithm ("sha256", "md5", …), or only its "size".
        version: `fingerprint` of its entry, in hexadecimal digits; None if the source lists no entries.
    """

    size: int = attrs.field(validator=attrs.validators.instance_of(int))
    sha256: str = attrs.field(validator=attrs.validators.instance_of(str))
    verified: str = attrs.field(default="size", validator=attrs.validators.instance_of(str))
    version: str | None = None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Read JSON values; unknown ones are ignored.

        Raises:
            KeyError, TypeError: a value is missing, or has the wrong type.
        """
        return cls(size=fields["size"], sha256=fields["sha256"], verified=fields["verified"], version=fields["version"])

    def as_json(self) -> str:
        """Return the record as JSON, which `of` reads; `json.dumps` of its fields takes four times as long."""
        sha256, verified, version = map(json.dumps, (self.sha256, self.verified, self.version))
        return f'{{"size": {self.size}, "sha256": {sha256}, "verified": {verified}, "version": {version}}}'


def fingerprint(entry: Entry) -> bytes:
    """Identify a version of a file: hash its path into 8 bytes, and everything else that is known about it into 8 more."""
    known = (entry.size, entry.validator, *((d.algorithm, d.value) for d in entry.digests))
    return short(entry.path)[:_OF_PATH] + short(repr(known))[:_OF_PATH]


def short(text: str) -> bytes:
    """Hash a text into 16 bytes, of which a set takes little memory."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


class Journal:
    """A journal, for appending and for reading what an earlier process recorded.

    Args:
        file: its file, which is created if it does not exist.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._done: set[bytes] = set()
        self._wanted: set[bytes] = set()
        self._versions: dict[bytes, bytes] = {}  # path of a file → the version that is on the disk
        self._ranges: dict[bytes, dict[int, int]] = {}  # file → stop → start
        self._unflushed: set[bytes] = set()  # files written before the last boot, parts of which may be lost
        self._read()
        self.resumed = bool(self._done or self._ranges)
        self._handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(self._handle, b"\n")  # a process that was killed may have left half a line
        self._append({"boot": _boot_id()})

    def expects(self, entry: Entry) -> bool:
        """Record that a file is wanted; return whether this version of it is finished.

        Another version is forgotten: it will be overwritten.
        """
        key = fingerprint(entry)
        self._wanted.add(key)
        if (former := self._versions.pop(key[:_OF_PATH], key)) != key:
            self._forget(former)
        return key in self._done

    def ranges(self, entry: Entry) -> list[tuple[int, int]]:
        """Return the ranges (start, stop) of this version of the file that were written."""
        if not self._ranges:
            return []
        return [(start, stop) for stop, start in self._ranges.get(fingerprint(entry), {}).items()]

    def same_boot(self, entry: Entry) -> bool:
        """Return whether everything of this version of the file was written since the machine's last boot."""
        return fingerprint(entry) not in self._unflushed

    def wrote(self, entry: Entry, start: int, stop: int) -> None:
        """Record a range of a file."""
        self._append({"of": fingerprint(entry).hex(), "start": start, "stop": stop})

    @contextlib.contextmanager
    def recording(self, entry: Entry, start: int) -> Iterator[Recording]:
        """Record a range as it is written: some of it together, and the rest at the end, also of one that breaks off."""
        found = Recording(self, entry, start)
        try:
            yield found
        finally:
            found.record()

    def finished(self, entry: Entry, *, sha256: str, verified: str) -> None:
        """Record that a file is complete and verified."""
        version = fingerprint(entry).hex()
        record = FileRecord(size=entry.size, sha256=sha256, verified=verified, version=version).as_json()
        self._write(f'{{"done": "{version}", "path": {json.dumps(entry.path)}, {record[1:]}')

    def forget(self, entry: Entry) -> None:
        """Record that the contents of a file cannot be trusted."""
        self._forget(fingerprint(entry))

    def forget_all(self) -> None:
        """Record that the contents of all wanted files cannot be trusted."""
        for key in self._wanted:
            self._forget(key)
        self.resumed = True

    def records(self) -> Iterator[tuple[str, FileRecord]]:
        """Yield path and record of each file that is wanted and finished; of one that was finished twice, the last record."""
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
        """Close the file."""
        os.close(self._handle)

    def _forget(self, key: bytes) -> None:
        self._done.discard(key)
        self._ranges.pop(key, None)
        self._unflushed.discard(key)
        self._append({"forget": key.hex()})

    def _append(self, line: dict[str, object]) -> None:
        self._write(json.dumps(line, separators=(",", ":")))

    def _write(self, line: str) -> None:
        # A single write in append mode is never mixed with another. A lock would make all threads wait for each other.
        os.write(self._handle, f"{line}\n".encode())

    def _lines(self, among: bytes = b"") -> Iterator[dict[str, object]]:
        """Yield the lines in order, or only those that contain certain bytes, as parsing is the slow part."""
        with contextlib.suppress(FileNotFoundError), self._file.open("rb") as stream:
            lines = (line for line in stream if among in line and not line.isspace())
            while some := list(itertools.islice(lines, _AT_ONCE)):
                yield from _parsed(some)

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
        ranges[stop] = ranges.pop(start, start)  # it continues a range that ended there


class Recording:
    """The record of a range while it is written.

    Args:
        journal: the journal.
        entry: the file.
        start: offset of the range's first byte.
    """

    def __init__(self, journal: Journal, entry: Entry, start: int) -> None:
        self._journal, self._entry = journal, entry
        self._recorded = self._written = start
        self._since = time.monotonic()

    def wrote(self, stop: int) -> None:
        """Note that the range is written up to that offset."""
        self._written = stop
        if stop - self._recorded >= _TOGETHER or time.monotonic() - self._since > _LATEST:
            self.record()

    def record(self) -> None:
        """Record what was written since the last time."""
        if self._recorded < self._written:
            self._journal.wrote(self._entry, self._recorded, self._written)
        self._recorded, self._since = self._written, time.monotonic()


def missing(ranges: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Return the gaps between the ranges of a file of that size, in order."""
    gaps, position = [], 0
    for start, stop in sorted(ranges):
        if start > position:
            gaps.append((position, start))
        position = max(position, stop)
    return [*gaps, (position, size)] if position < size else gaps


def _parsed(lines: list[bytes]) -> Iterator[dict[str, object]]:
    """Yield the values of lines. Parsed together they take a third of the time, which a fetch of many files spends at its end."""
    with contextlib.suppress(ValueError):
        found = json.loads(b"[%s]" % b",".join(lines))
        if len(found) == len(lines):
            yield from found
            return
    for line in lines:
        with contextlib.suppress(ValueError):  # the last line of a process that was killed, or ran out of space
            yield json.loads(line)


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text("utf-8").strip()
    except OSError:
        return ""
