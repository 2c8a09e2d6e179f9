"""What a snapshot gives is checked as it comes: a plugin that breaks its contract is told so, and nothing wrong is stored."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import attrs

from tunewright.errors import ExitCode, FetchError
from tunewright.providers.snapshots import DIGITS, Digest, Entry, Reader, Snapshot

_REMEDY = "The source's plugin breaks its contract: tell its author."
_HEXADECIMAL = re.compile("[0-9A-Fa-f]+")
_LOOKS = 4  # how often the clock is looked at within the limit


def checked_snapshot(snapshot: Snapshot) -> Snapshot:
    """Return what a source says is a snapshot.

    Raises:
        FetchError: SOFTWARE: it is none, or its revision is not text.
    """
    if not isinstance(snapshot, Snapshot):
        _broken(snapshot, f"snapshot() returns {snapshot!r}, which is not a Snapshot")
    if not isinstance(snapshot.revision, str | None):
        _broken(snapshot, f"revision is {snapshot.revision!r}, which is neither a str nor None")
    return snapshot


def checked_space(snapshot: Snapshot) -> int:
    """Return the bytes that a snapshot needs besides its entries.

    Raises:
        FetchError: SOFTWARE: it is not a number of bytes.
    """
    if type(snapshot.extra_space) is not int or snapshot.extra_space < 0:
        _broken(snapshot, f"extra_space is {snapshot.extra_space!r}; give a whole number of bytes, 0 or more")
    return snapshot.extra_space


def checked_entry(snapshot: Snapshot, entry: Entry, method: str = "entries") -> Entry:
    """Return an entry of a snapshot, whatever its author's type checker has said of it.

    Raises:
        FetchError: SOFTWARE: it is not an entry, or one of its fields has a value that nothing can be compared with.
    """
    if not isinstance(entry, Entry):
        _broken(snapshot, f"{method}() gives {entry!r}, which is not an Entry")
    if not isinstance(entry.path, str):
        _broken(snapshot, f"{method}() gives an entry whose path is {entry.path!r}, which is not a str")
    if type(entry.size) is not int or entry.size < 0:
        _broken(
            snapshot, f"{method}() says that {entry.path!r} has {entry.size!r} bytes; give a whole number, 0 or more"
        )
    for digest in entry.digests:
        if problem := digest_problem(digest):
            _broken(snapshot, f"{method}() gives {entry.path!r} {problem}")
    return entry


def digest_problem(digest: Digest) -> str | None:
    """Return what is wrong with the form of a digest, whatever it is compared with; None for nothing."""
    if not isinstance(digest, Digest):
        return f"the digest {digest!r}, which is not a Digest"
    digits = DIGITS.get(digest.algorithm)
    if digits is None:
        return f"a digest of the kind {digest.algorithm!r}, which is not one of {', '.join(DIGITS)}"
    value = digest.value
    if not isinstance(value, str) or len(value) != digits or not _HEXADECIMAL.fullmatch(value):
        return f"the {digest.algorithm} digest {value!r}, which is not {digits} hexadecimal digits"
    if digest.part_size is not None and (type(digest.part_size) is not int or digest.part_size < 1):
        return f"a digest of parts of {digest.part_size!r} bytes"
    return None


def checked_digests(entry: Entry, reader: Reader) -> tuple[Digest, ...]:
    """Return the digests that a source reports with its answer; none of a reader that has no such attribute.

    Raises:
        FetchError: SOFTWARE: nothing can be compared with one of them.
    """
    digests = tuple(getattr(reader, "digests", ()))
    for digest in digests:
        if problem := digest_problem(digest):
            raise FetchError(f"The reader of {entry.path} has {problem}.", remedy=_REMEDY, code=ExitCode.SOFTWARE)
    return digests


def checked_count(entry: Entry, count: int, room: int) -> int:
    """Return how many bytes a reader has read into a buffer.

    Raises:
        FetchError: SOFTWARE: it cannot have read so many, so nobody knows what is in the buffer.
    """
    if isinstance(count, int) and 0 <= count <= room:
        return count
    cause = f"readinto() of {entry.path} says that it has read {count!r} bytes into a buffer of {room}."
    raise FetchError(cause, remedy=_REMEDY, code=ExitCode.SOFTWARE)


def checked_made(snapshot: Snapshot, folder: Path, made: object) -> Iterator[tuple[str, str]]:
    """Yield path and digest of each file that `finish` says it has written.

    Raises:
        FetchError: SOFTWARE: it has not.
    """
    if not isinstance(made, Mapping):
        _broken(snapshot, f"finish() returns {made!r}; it has to return a mapping of paths to SHA-256 digests, or None")
    for path, sha256 in made.items():
        problem = digest_problem(Digest(algorithm="sha256", value=sha256))
        if problem:
            _broken(snapshot, f"finish() gives {path!r} {problem}")
        if not isinstance(path, str) or not {"", ".", ".."}.isdisjoint(path.split("/")):
            _broken(snapshot, f"finish() names {path!r}, which is not the path of a file within the folder")
        if not (folder / path).is_file():
            _broken(snapshot, f"finish() names {path!r}, which is not a file in the folder")
        yield path, sha256.lower()


def _broken(snapshot: object, problem: str) -> NoReturn:
    name = f"{type(snapshot).__module__}.{type(snapshot).__qualname__}"
    raise FetchError(f"{name}: {problem}.", remedy=_REMEDY, code=ExitCode.SOFTWARE)


@attrs.define(eq=False)
class Calls:
    """The calls of a snapshot that have not returned, one a thread: one that never does would hold the job without a word.

    Attributes:
        limit: seconds that a call may take.
    """

    limit: float
    _since: dict[int, tuple[float, str, Entry]] = attrs.field(factory=dict, init=False)  # of each thread
    _over: threading.Event = attrs.field(factory=threading.Event, init=False)

    def begins(self, method: str, entry: Entry) -> None:
        """Record that this thread calls a method."""
        self._since[threading.get_ident()] = (time.monotonic(), method, entry)

    def ends(self) -> None:
        """Record that the method has returned, or raised."""
        del self._since[threading.get_ident()]

    def hangs(self, thread: int | None) -> bool:
        """Return whether a thread's call has taken longer than it may."""
        call = self._since.get(thread or 0)
        return call is not None and time.monotonic() - call[0] > self.limit

    @contextmanager
    def watched(self, fail: Callable[[BaseException], None]) -> Iterator[None]:
        """Call `fail` once a call takes too long. A thread cannot be interrupted: the download ends without it."""
        threading.Thread(target=self._watch, args=(fail,), name="fetch-watch", daemon=True).start()
        try:
            yield
        finally:
            self._over.set()

    def _watch(self, fail: Callable[[BaseException], None]) -> None:
        while not self._over.wait(self.limit / _LOOKS):
            for thread, (_, method, entry) in self._since.copy().items():
                if self.hangs(thread):
                    cause = f"{method}() of {entry.path} has not returned for {self.limit:.0f} s."
                    remedy = "The source's plugin has to set a timeout on its connections: tell its author."
                    fail(FetchError(cause, remedy=remedy, code=ExitCode.TRY_AGAIN))
                    return
