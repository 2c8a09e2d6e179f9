"""Snapshots: the interface between the fetch engine and providers that can list their files and read them in ranges.

A provider derives from `SnapshotSource` and returns a `Snapshot` from `snapshot()`; it needs no download loop. The engine
in the launcher reads the entries in parallel ranges, keeps a journal, resumes after a crash, verifies every digest,
retries temporary errors, and moves the files into place.

For files that are served over HTTP, derive from `tunewright_launcher.http.HttpSnapshot`. It reads the ranges, and the
provider only says which request to send:

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

Algorithm = Literal["sha256", "sha512", "sha1", "md5", "crc32", "crc32c", "crc64nvme", "git-blob-sha1"]
DIGITS: Mapping[Algorithm, int] = {
    "sha256": 64, "sha512": 128, "sha1": 40, "md5": 32, "crc32": 8, "crc32c": 8, "crc64nvme": 16, "git-blob-sha1": 40,
}  # fmt: skip
"""How many hexadecimal digits a digest has, by its algorithm."""


@attrs.frozen(kw_only=True)
class Digest:
    """The expected digest of a file.

    Attributes:
        algorithm: name of the algorithm. hashlib computes "sha256", "sha512", "sha1" and "md5", and "git-blob-sha1": the object name of
            a git blob, which is the SHA-1 of a header and the contents. "crc32" needs nothing more; "crc32c" and
            "crc64nvme" need the package anycrc where the step runs, and are refused without it.
        value: the digest in lowercase hexadecimal digits.
        part_size: bytes per part (the last may be smaller), for a digest of the digests of the parts, as in the ETag of
            an S3 multipart upload and in S3's COMPOSITE checksums. None for a digest of the whole file.
    """

    algorithm: Algorithm
    value: str
    part_size: int | None = None


@attrs.frozen(kw_only=True)
class Entry:
    """A file of a snapshot.

    Attributes:
        path: POSIX path relative to the folder that is fetched. The engine refuses paths that lead out of it.
        size: size in bytes.
        digests: digests that the source reports before the file is read. All of them must match.
        validator: version of the file as the source names it, such as an entity tag with its quotes. If the validator or
            the digests change, the file is fetched again from the start.
        source: whatever the snapshot needs to find the file if the path is not enough, such as a key or a URL.
    """

    path: str
    size: int
    digests: tuple[Digest, ...] = attrs.field(default=(), converter=to_tuple)
    validator: str | None = None
    source: str = ""


class Reader(Protocol):
    """A stream of the bytes of one range of a file.

    A source that ignores the range, and sends the whole file from its first byte, says so with an attribute `whole = True`; the
    engine then takes the stream for the file. One that can do neither raises `RangeRefused` in `Snapshot.open`.

    Attributes:
        digests: digests of the whole file that the source reports only with its response. Empty if there are none.
    """

    digests: tuple[Digest, ...]

    def readinto(self, buffer: memoryview, /) -> int:
        """Read bytes into the start of the buffer, and return how many; 0 at the end of the range.

        A range that ends early is opened again where it ended; if it then has no bytes at all, that is an error that may pass.

        Raises:
            FetchError: the range cannot be read. After TRY_AGAIN, the engine continues where the range broke off.
        """


class Snapshot(ABC):
    """The contents of a source at one point in time.

    Class attributes:
        forkable: whether `open` works in a forked process. Set it if `open` requires only its arguments, and state that
            does not change once the first entries were listed. A second process can then read small files.

    Attributes:
        revision: the revision that the URI was resolved to, such as a commit or a version. None if the source has no
            revisions.
        extra_space: bytes on the disk that `finish` needs in addition to the entries. Must be set once `entries` ends.
    """

    forkable: ClassVar[bool] = False

    revision: str | None = None
    extra_space: int = 0

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Yield the files, in any order.

        Yield each entry as soon as it is listed: the engine starts to fetch the first ones while the others are listed.

        Raises:
            FetchError: the source cannot be listed.
        """

    @abstractmethod
    def open(self, entry: Entry, start: int, stop: int) -> AbstractContextManager[Reader]:
        """Open a range of a file. Called from many threads.

        Args:
            entry: the file.
            start: offset of the first byte.
            stop: offset after the last byte.

        Returns:
            A context manager that yields a `Reader`.

        Raises:
            FetchError: the range cannot be opened. UNAVAILABLE and TRY_AGAIN are retried.
            RangeRefused: the source does not send this range; the engine opens the file from its first byte to its last.
            SourceChanged: the file has changed since it was listed.
        """

    def use_limits(self, limits: FetchLimits) -> None:
        """Set the limits to observe. Called first, before `entries` and `open`. Ignores them by default."""
        del limits

    def describe(self, entry: Entry) -> Entry:
        """Return the entry with all the details that the source can report, such as further digests.

        Called once for a file that will be read in several ranges. Returns the entry as it is by default.
        """
        return entry

    def finish(self, folder: Path) -> Mapping[str, str] | None:
        """Turn the fetched entries into the final files, for example by unpacking an archive. Does nothing by default.

        Called once all entries are in `folder` and verified.

        Args:
            folder: folder with the entries, which must contain the final files in the end.

        Returns:
            SHA-256 digests, in hexadecimal digits, of files that were written: path → digest. The engine need not read
            these files again.

        Raises:
            FetchError: the entries are not usable. After BAD_DATA they are fetched once more, unless each of them matched
                a digest of its source, which rules out damage in transit.
        """
        del folder
        return {}


@attrs.frozen(kw_only=True, slots=False)  # two base classes with slots cannot be combined, and providers have them
class SnapshotSource(SourceProvider):
    """A source that the fetch engine reads. List it before `ModelProvider` or `DatasetProvider` among the base classes."""

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """Resolve the URI to a snapshot. Called in the init container, once per attempt.

        Raises:
            FetchError: the URI cannot be resolved. UNAVAILABLE and TRY_AGAIN are retried; other codes, such as NOT_FOUND
                and NO_PERMISSION, are final.
        """

    def download_model(self, target: Path) -> None:
        """Raise: the launcher fetches `snapshot()` instead of calling this method.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(_ENGINE)

    def download_dataset(self, target: Path) -> None:
        """Raise: the launcher fetches `snapshot()` instead of calling this method.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(_ENGINE)
