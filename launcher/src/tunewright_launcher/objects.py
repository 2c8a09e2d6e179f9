"""The public API for object stores: the objects below a prefix as files to download, and as a place for outputs.

A store's plugin describes its bucket (`Bucket`), and derives from `ObjectSnapshot` and `ObjectStore`. What a prefix means, which
objects are files, and where their digests are listed is the same for all stores, and is here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

from tunewright.errors import ExitCode, FetchError, SourceChanged
from tunewright.providers.outputs import Store
from tunewright.providers.snapshots import Digest, Entry, Snapshot
from tunewright.runner.checkpoints import MARKER
from tunewright_launcher.answers import Headers
from tunewright_launcher.http_client import Http, HttpRequest, HttpSnapshot
from tunewright_launcher.sums import LONGEST_SUMS, SUMS_NAME, Sums

__all__ = ["Bucket", "Object", "ObjectSnapshot", "ObjectStore", "Page", "gone", "stands_still"]

_REMOVED_AT_ONCE = 8


class Object(NamedTuple):
    """An object, as its store lists it.

    Attributes:
        key: its name in the bucket.
        size: bytes.
        validator: its version, such as an entity tag or a generation; None if the store has none.
        digests: those that the listing has.
    """

    key: str
    size: int
    validator: str | None = None
    digests: tuple[Digest, ...] = ()


class Page(NamedTuple):
    """A page of a listing.

    Attributes:
        objects: in the order of their keys.
        more: whether another page follows.
    """

    objects: Sequence[Object]
    more: bool


class Bucket(Protocol):
    """A bucket, or what a store calls one."""

    http: Http

    def uri(self, key: str = "") -> str:
        """Return the URI of an object or prefix, for messages."""

    def pages(self, prefix: str) -> Iterator[Page]:
        """Yield pages of the objects whose keys begin with a prefix.

        Raises:
            FetchError: they cannot be listed.
        """

    def get(self, key: str) -> HttpRequest:
        """Return the request for an object."""

    def refused(self, what: str, status: int, headers: Headers, body: bytes) -> FetchError:
        """Return the error for an unsuccessful answer to a request for `what`."""


class ObjectSnapshot(HttpSnapshot):
    """The object with a key, or the objects below it as a folder.

    Args:
        bucket: the bucket.
        prefix: the key; "" for the whole bucket.
        selects: returns whether to fetch a relative path.
    """

    forkable: ClassVar[bool] = True

    def __init__(self, bucket: Bucket, prefix: str, selects: Callable[[str], bool] = lambda _: True) -> None:
        super().__init__(bucket.http)
        self._objects = bucket
        self._prefix = prefix
        self._folder = f"{prefix.rstrip('/')}/" if prefix else ""
        self._selects = selects
        self._uri = bucket.uri(prefix)
        self._is_object = False
        self._last: Object | None = None

    def entries(self) -> Iterator[Entry]:
        """Yield the objects as they are listed, with digests if a file among them lists those.

        The first page is searched for such a file before anything is yielded. Only if a later page may have it, the file is
        requested by its name, which costs a round trip.
        """
        listed, wanted, sums, self._last = 0, 0, Sums(), None
        for number, page in enumerate(self._objects.pages(self._prefix)):
            files = list(self._files(page.objects))
            if not number:
                sums = self._sums(page)
            for path, found in files:
                digests = sums.see(path)
                if digests is not None and self._selects(path):
                    wanted += 1
                    key, size, validator, own = found
                    yield Entry(path=path, size=size, digests=digests or own, validator=validator, source=key)
            listed += len(files)
        if not wanted:
            raise self._nothing(listed)
        sums.check_complete(self._uri, self._selects)

    def _files(self, objects: Iterable[Object]) -> Iterator[tuple[str, Object]]:
        """Yield a page's files by relative path, without those of sibling folders: `data` is also a prefix of `data-old/x`."""
        for found in objects:
            if found == self._last:  # some stores begin a page with the last object of the one before
                continue
            self._last = found
            key = found.key
            self._is_object = self._is_object or (key == self._prefix)
            path = key.removeprefix(self._folder)
            if key == self._folder or (path.endswith("/") and found.size == 0):
                continue  # a placeholder for a folder, as created by consoles
            if key.startswith(self._folder):
                if self._is_object and path == self._prefix.rpartition("/")[2]:
                    raise self._both()
                yield path, found
            elif key == self._prefix:
                yield key.rpartition("/")[2], found

    def _sums(self, first: Page) -> Sums:
        """Return the digests in a file that is on the first page, or may be on a later one."""
        marker = self._beside(MARKER, first)
        if marker is not None and (sums := Sums.of_marker(MARKER, marker)):
            return sums
        return Sums.read(self._beside(SUMS_NAME, first) or b"")

    def _beside(self, name: str, first: Page) -> bytes | None:
        key = f"{self._folder}{name}"
        listed = any(found.key == key for found in first.objects)
        if not listed and not _may_follow(key, first):
            return None
        response, body = self.http.ask(self._objects.get(key), LONGEST_SUMS)
        if response.status == HTTPStatus.OK:
            return body
        if not listed and response.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return None
        raise self._objects.refused(self._objects.uri(key), response.status, response.headers, body)

    def _nothing(self, listed: int) -> FetchError:
        if listed:
            cause = f"{self._uri} has {listed} objects, but the patterns select none of them."
            return FetchError(cause, remedy="Check the patterns.", code=ExitCode.NOT_FOUND)
        cause = f"{self._uri} does not exist: there is no object with that key, and none below it."
        return FetchError(cause, remedy="Check the URI.", code=ExitCode.NOT_FOUND)

    def _both(self) -> FetchError:
        name = self._prefix.rpartition("/")[2]
        cause = (
            f"{self._uri} is an object, and a folder that holds another object {name!r}: both would be the same file."
        )
        remedy = f"Write {self._uri}/ for the folder; the object alone cannot be named then."
        return FetchError(cause, remedy=remedy, code=ExitCode.USAGE)

    def request(self, entry: Entry) -> HttpRequest:
        """Return the request for the object."""
        return self._objects.get(entry.source)

    def refusal(self, entry: Entry, status: int, headers: Headers, body: bytes) -> FetchError | None:
        """See `HttpSnapshot.refusal`."""
        what = self._objects.uri(entry.source)
        return gone(what) if status == HTTPStatus.NOT_FOUND else self._objects.refused(what, status, headers, body)


class ObjectStore(Store):
    """The objects below a prefix, for writing.

    Args:
        bucket: the bucket.
        prefix: the prefix; "" for the whole bucket.
    """

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._objects = bucket
        self._folder = f"{prefix.rstrip('/')}/" if prefix else ""

    def entries(self, folder: str) -> Iterator[Entry]:
        """See `Store.entries`."""
        for found in self._listed(folder):
            path = found.key.removeprefix(self._folder)
            entry = Entry(
                path=path, size=found.size, digests=found.digests, validator=found.validator, source=found.key
            )
            yield self.described(entry)

    def described(self, entry: Entry) -> Entry:
        """Return an entry with digests that the listing does not have; as it is by default."""
        return entry

    def upload(self, files: Mapping[str, Path]) -> Mapping[str, str | None]:
        """See `Store.upload`."""
        return {path: self.send(f"{self._folder}{path}", file) for path, file in files.items()}

    @abstractmethod
    def send(self, key: str, file: Path) -> str | None:
        """Upload one file as the object with that key, verified.

        Returns:
            The version that the object has now, as `Object.validator`; None if the store does not say.

        Raises:
            FetchError: it is refused, or the store cannot be reached.
        """

    def remove(self, folder: str) -> None:
        """See `Store.remove`."""
        self.delete([found.key for found in self._listed(folder)])

    def remove_files(self, paths: Collection[str]) -> None:
        """See `Store.remove_files`."""
        self.delete([f"{self._folder}{path}" for path in paths])

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, by default one by one; those that do not exist are no error."""
        with ThreadPoolExecutor(_REMOVED_AT_ONCE) as pool:
            list(pool.map(self.delete_one, keys))

    @abstractmethod
    def delete_one(self, key: str) -> None:
        """Delete an object, if it exists.

        Raises:
            FetchError: it cannot be deleted.
        """

    @abstractmethod
    def snapshot(self, folder: str) -> Snapshot:
        """See `Store.snapshot`; `self.prefix(folder)` is the prefix."""

    def prefix(self, folder: str) -> str:
        """Return the prefix of a folder's keys."""
        return f"{self._folder}{folder}/" if folder else self._folder

    def _listed(self, folder: str) -> Iterator[Object]:
        for page in self._objects.pages(self.prefix(folder)):
            yield from page.objects


def _may_follow(key: str, page: Page) -> bool:
    """Return whether a later page may have a key that this page does not have."""
    keys = [found.key for found in page.objects]
    # Most stores list in the order of the keys' bytes, as Amazon S3 does; some databases behind others do not regard case.
    passed = bool(keys) and keys == sorted(keys) and key < keys[-1] and key.lower() < keys[-1].lower()
    return page.more and not passed


def stands_still(what: str) -> FetchError:
    """Return the error for a listing whose next page is the page that was sent: it would never end."""
    cause = f"The listing of {what} goes on, but the store sends the same page of it again."
    remedy = "Check for a proxy that drops or caches the query of requests, or ask the store's operator."
    return FetchError(cause, remedy=remedy, code=ExitCode.BAD_DATA)


def gone(what: str) -> FetchError:
    """Return the error for an object that vanished after it was listed: the engine lists again once, then it is final."""
    return SourceChanged(f"{what} was listed, but no longer exists.", remedy="Check the URI.", code=ExitCode.NOT_FOUND)
