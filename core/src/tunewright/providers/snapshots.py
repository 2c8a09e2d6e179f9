"""Snapshots: what a provider that can list its files and read them in ranges gives to the fetch engine.

A provider derives from `SnapshotSource` and says in `snapshot()` what there is; it writes no loop of its own. The engine
in the launcher reads the entries in parallel ranges, keeps a journal, resumes after a crash, verifies every digest,
retries with patience, and commits the slot. For files that come over HTTP, `tunewright_launcher.http.HttpSnapshot` opens
the ranges, and the provider only says which request to send:

    class AcmeSnapshot(HttpSnapshot):
        revision = "42"

        def entries(self):
            for file in acme.list_files("sales"):
                yield Entry(path=file.name, size=file.size, digests=(Digest(algorithm="sha256", value=file.sha256),))

        def request(self, entry):
            return HttpRequest(url=f"https://acme.example/files/{entry.path}", headers={"Authorization": "Bearer …"})


    @attrs.frozen(kw_only=True)
    class AcmeDataset(SnapshotSource, DatasetProvider):
        def snapshot(self):
            return AcmeSnapshot()
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import attrs

from tunewright._convert import to_tuple
from tunewright.providers.base import SourceProvider
from tunewright.providers.limits import FetchLimits

_ENGINE = "The fetch engine reads snapshot(): use `tunewright fetch URI FOLDER`."

Algorithm = Literal["sha256", "sha1", "md5", "crc32", "crc32c", "crc64nvme", "git-blob-sha1"]


@attrs.frozen(kw_only=True)
class Digest:
    """What a file's contents must come to.

    Attributes:
        algorithm: "git-blob-sha1" is git's name of a blob: SHA-1 over a header and the contents.
        value: lower-case hexadecimal digits.
        part_size: bytes of each part but the last, for a digest of the parts' digests (S3's multipart ETag and COMPOSITE
            checksums); None for a digest of the whole contents.
    """

    algorithm: Algorithm
    value: str
    part_size: int | None = None


@attrs.frozen(kw_only=True)
class Entry:
    """One file of a snapshot.

    Attributes:
        path: relative POSIX path within the slot. The engine refuses one that would leave it.
        size: bytes.
        digests: what is known of the contents before they are read; all of them must match.
        validator: the version that is meant, as the source names it (an entity tag, with its quotes). A file whose
            validator or digests have changed is fetched from its beginning.
        source: what the snapshot itself needs to find the file, where the path does not say it: a key, a URL.
    """

    path: str
    size: int
    digests: tuple[Digest, ...] = attrs.field(default=(), converter=to_tuple)
    validator: str | None = None
    source: str = ""


class Reader(Protocol):
    """A range of a file that is being read.

    Attributes:
        digests: of the whole file, where they come only with the answer.
    """

    digests: tuple[Digest, ...]

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a part of the buffer; 0 at the range's end.

        Raises:
            FetchError: TRY_AGAIN where the range broke off: the engine goes on from where it was.
        """


class Snapshot(ABC):
    """What a source held at one moment.

    Class attributes:
        forkable: whether `open` needs nothing but the entry and what was known when the first ones had been listed, so
            that a second process, forked then, can read small files, too.

    Attributes:
        revision: what the URI was resolved to (a commit, a version); None where the source has no revisions.
        extra_space: bytes that `finish` needs besides the entries; known when they are listed.
    """

    forkable: ClassVar[bool] = False

    revision: str | None = None
    extra_space: int = 0

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """The files, in any order. Yield them as they are listed: the engine begins with the first ones meanwhile.

        Raises:
            FetchError: the source cannot be listed.
        """

    @abstractmethod
    def open(self, entry: Entry, start: int, stop: int) -> AbstractContextManager[Reader]:
        """Read the bytes from `start` up to, not including, `stop`. Called from many threads.

        Raises:
            FetchError: UNAVAILABLE and TRY_AGAIN are tried again.
            SourceChanged: the file is not the one that was listed.
        """

    def use_limits(self, limits: FetchLimits) -> None:
        """How to behave towards the network; said before anything else is asked for."""
        del limits

    def describe(self, entry: Entry) -> Entry:
        """The entry with everything that is known of it; called once before it is read in several ranges."""
        return entry

    def finish(self, folder: Path) -> Mapping[str, str] | None:
        """Called when all entries are in `folder` and verified: unpack them, say, and leave there what is meant.

        Returns:
            SHA-256, in hexadecimal digits, of files that were written, by path: those need not be read again.

        Raises:
            FetchError: BAD_DATA where they are not what they should be. The entries are fetched once more then, unless
                all of them have matched a digest of their source: those were not damaged on their way.
        """
        del folder
        return {}


@attrs.frozen(kw_only=True, slots=False)  # without slots it can be mixed into providers, which have theirs
class SnapshotSource(SourceProvider):
    """A source whose files the engine fetches. Mix it in before `ModelProvider` or `DatasetProvider`."""

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """The container half: resolve the URI. The engine calls it once for each try.

        Raises:
            FetchError: NOT_FOUND, NO_PERMISSION; UNAVAILABLE and TRY_AGAIN are tried again.
        """

    def download_model(self, target: Path) -> None:
        """Not called: the launcher's engine fetches `snapshot()`.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(_ENGINE)

    def download_dataset(self, target: Path) -> None:
        """Not called: the launcher's engine fetches `snapshot()`.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(_ENGINE)
