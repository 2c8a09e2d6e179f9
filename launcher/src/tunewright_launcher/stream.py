"""A file that arrives in one stream: it is written and hashed as it comes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from tunewright.providers.snapshots import Digest, Entry
from tunewright_launcher.digests import Checks
from tunewright_launcher.files import begin_to_flush, write
from tunewright_launcher.tasks import MIB
from tunewright_launcher.transfer import Stopped

_MOST_WAITING = 32  # pieces; more might leave the page cache before they are read back


class Stream:
    """The sink of a stream, as a context manager: it has hashed everything once it is left.

    Args:
        handle: where to write.
        entry: the file.
        digests: those that the source reported before; others may come with the first bytes.
    """

    def __init__(self, handle: int, entry: Entry, digests: tuple[Digest, ...]) -> None:
        self._handle, self._entry, self._digests = handle, entry, digests
        self._checks: Checks | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to do."""

    @property
    def checks(self) -> Checks:
        """The digests of what has been hashed."""
        return self._checks or Checks(self._digests, 0)

    def sink(self, data: memoryview, position: int, more: tuple[Digest, ...]) -> None:
        """Write and hash the next bytes; see `transfer.Sink`.

        Raises:
            FetchError: see `Checks`; OSError: they cannot be written.
        """
        self._begin(more).update(data)
        write(self._handle, data, position)

    def _begin(self, more: tuple[Digest, ...]) -> Checks:
        if self._checks is None:
            self._checks = Checks(dict.fromkeys((*self._digests, *more)), self._entry.size)
        return self._checks


class LargeStream(Stream):
    """A stream of a large file. Another thread hashes, so that the source is read while the CPU computes.

    It reads back what was written, mostly from the page cache, and lets the kernel begin to flush it.

    Args:
        handle: where to write; it can be read, too.
        entry: the file.
        digests: those that the source reported before.
        stopped: says whether to give up.
        piece: bytes after which the other thread is told.
    """

    def __init__(
        self, handle: int, entry: Entry, digests: tuple[Digest, ...], stopped: Callable[[], bool], piece: int = 8 * MIB
    ) -> None:
        super().__init__(handle, entry, digests)
        self._stopped, self._piece = stopped, piece
        self._pool = ThreadPoolExecutor(1, "fetch-hash")
        self._waiting: deque[Future[None]] = deque()
        self._given = 0  # end of what the other thread hashes

    def __exit__(self, *error: object) -> None:
        """Wait until everything is hashed, unless an error ends the stream."""
        try:
            while self._waiting and error[0] is None:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def sink(self, data: memoryview, position: int, more: tuple[Digest, ...]) -> None:
        """See `Stream.sink`; an error of the thread that hashes is raised here or at the end."""
        checks = self._begin(more)
        write(self._handle, data, position)
        start, stop = self._given, position + len(data)
        if stop - start >= self._piece or stop == self._entry.size:
            self._given = stop
            self._waiting.append(self._pool.submit(self._hash, checks, start, stop))
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popleft().result()

    def _hash(self, checks: Checks, start: int, stop: int) -> None:
        hash_written(self._handle, start, stop, checks, self._stopped)
        begin_to_flush(self._handle, start, stop)


def hash_written(handle: int, start: int, stop: int, checks: Checks, stopped: Callable[[], bool]) -> None:
    """Read a part of a file back, and hash it.

    Args:
        handle: the file.
        start: offset of the first byte.
        stop: offset after the last byte.
        checks: its digests, of all bytes before `start`.
        stopped: says whether to give up.

    Raises:
        Stopped: another thread has ended the download.
    """
    # Larger pieces than the network's: waiting for the interpreter here would delay the end of the download.
    buffer = memoryview(bytearray(MIB))
    while start < stop and (count := os.preadv(handle, [buffer[: stop - start]], start)):
        checks.update(buffer[:count])
        start += count
        if stopped():
            raise Stopped
