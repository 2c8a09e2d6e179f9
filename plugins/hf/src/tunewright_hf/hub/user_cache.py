"""The cache of huggingface_hub on the user's machine, from which files need not be downloaded again.

Its files are named by their digests (`models--org--name/blobs/<digest>`), and the engine compares each one as if it came from the Hub.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tunewright.providers import Digest, Entry, user_variable
from tunewright_hf.hub.uri import HubRepo

_VARIABLE = "TUNEWRIGHT_HUB_CACHE"
_NAMED_BY = ("sha256", "git-blob-sha1")


class UserCache:
    """The files of one repository in the cache.

    Args:
        repo: the repository.
    """

    def __init__(self, repo: HubRepo) -> None:
        folder = user_variable(_VARIABLE)
        name = f"{repo.repo_type}s--{repo.repo_id.replace('/', '--')}"
        self._blobs = Path(folder, name, "blobs") if folder else None
        self._begun: set[str] = set()
        self._wrong: set[str] = set()

    @contextlib.contextmanager
    def open(self, entry: Entry, start: int, stop: int) -> Iterator[CachedRange | None]:
        """Yield the range of a file; None if the cache does not have the file.

        A file whose beginning is asked for once more differed from its digest, and is not taken from here again.
        """
        if start == 0:
            (self._wrong if entry.path in self._begun else self._begun).add(entry.path)
        handle = None if entry.path in self._wrong else self._opened(entry)
        if handle is None:
            yield None
            return
        try:
            yield CachedRange(handle, start, stop)
        finally:
            os.close(handle)

    def _opened(self, entry: Entry) -> int | None:
        digest = next((digest.value for digest in entry.digests if digest.algorithm in _NAMED_BY), None)
        if self._blobs is None or digest is None or entry.size == 0:
            return None
        try:
            handle = os.open(self._blobs / digest, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        if os.fstat(handle).st_size == entry.size:
            return handle
        os.close(handle)
        return None


class CachedRange:
    """A `Reader` of a range of an open file."""

    digests: tuple[Digest, ...] = ()

    def __init__(self, handle: int, start: int, stop: int) -> None:
        self._handle, self._position, self._stop = handle, start, stop

    def readinto(self, buffer: memoryview, /) -> int:
        """See `Reader.readinto`."""
        count = os.preadv(self._handle, [buffer[: self._stop - self._position]], self._position)
        self._position += count
        return count
