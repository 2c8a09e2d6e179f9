"""The objects below an `s3://` URI, as a snapshot for the fetch engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from http.client import HTTPMessage
from typing import Any, ClassVar, cast
from urllib.parse import quote

import attrs

from tunewright import ExitCode, FetchError
from tunewright.providers import MARKER, Digest, Entry, Reader
from tunewright_launcher.http import LONGEST_SUMS, SUMS_NAME, HttpRequest, HttpSnapshot, Sums
from tunewright_s3.bucket import Bucket, Item
from tunewright_s3.digests import digests_in, parts_of
from tunewright_s3.errors import gone, refused, translated
from tunewright_s3.uri import format_uri

# A refused HEAD does not say why, but the GET that follows it does.
_CHECKSUMS = "x-amz-checksum-mode"
_UNKNOWN_HEADER = (400, 501)
_MUTE = (400, 401, 403, 404, 405, 501)


class S3Snapshot(HttpSnapshot):
    """The object with a key, or the objects below it as a folder.

    Args:
        bucket: the bucket.
        prefix: the key; "" for the whole bucket.
        selects: returns whether to fetch a relative path.
        version_id: the version of the one object whose key is `prefix`.
    """

    forkable: ClassVar[bool] = True

    def __init__(
        self,
        bucket: Bucket,
        prefix: str,
        selects: Callable[[str], bool] = lambda _: True,
        version_id: str | None = None,
    ) -> None:
        super().__init__(bucket.http)
        self._bucket = bucket
        self._prefix = prefix
        self._folder = f"{prefix.rstrip('/')}/" if prefix else ""
        self._selects = selects
        self._query = f"versionId={quote(version_id, safe='')}" if version_id else ""
        self._uri = format_uri(bucket.name, prefix)
        self.revision = version_id
        self._asks_for_checksums = True
        self._is_object = False

    def entries(self) -> Iterator[Entry]:
        """Yield the objects as they are listed, with digests if a file among them lists those.

        The first page is searched for such a file before anything is yielded. Only if the listing has more pages, the file is
        requested by its name.
        """
        if self.revision is not None:
            yield self._version(self.revision)
            return
        listed, wanted, sums = 0, 0, None
        for page in self._bucket.pages(self._prefix):
            files = list(self._files(page.get("Contents", ())))
            sums = sums or self._sums(page)
            for path, item in files:
                digests = sums.see(path)
                if digests is not None and self._selects(path):
                    wanted += 1
                    yield _entry(path, item, digests)
            listed += len(files)
        if not wanted:
            raise self._nothing(listed)
        cast("Sums", sums).check_complete(self._uri, self._selects)

    def _files(self, page: Iterable[Item]) -> Iterator[tuple[str, Item]]:
        """Yield a page's files by relative path, without those of sibling folders: `data` is also a prefix of `data-old/x`."""
        for item in page:
            key = str(item["Key"])
            self._is_object = self._is_object or (key == self._prefix)
            path = key.removeprefix(self._folder)
            if key == self._folder or (path.endswith("/") and item["Size"] == 0):
                continue  # a placeholder for a folder, as created by consoles
            if key.startswith(self._folder):
                if self._is_object and path == self._prefix.rpartition("/")[2]:
                    raise self._both()
                yield path, item
            elif key == self._prefix:
                yield key.rpartition("/")[2], item

    def _sums(self, first: Mapping[str, Any]) -> Sums:
        """Return the digests in a file that is on the first page, or may be on a later one."""
        marker = self._beside(MARKER, first)
        if marker is not None and (sums := Sums.of_marker(MARKER, marker)):
            return sums
        return Sums.read(self._beside(SUMS_NAME, first) or b"")

    def _beside(self, name: str, first: Mapping[str, Any]) -> bytes | None:
        key = f"{self._folder}{name}"
        listed = any(item["Key"] == key for item in first.get("Contents", ()))
        if not listed and not first.get("IsTruncated"):
            return None
        what = format_uri(self._bucket.name, key)
        response, body = self.http.ask(self._bucket.request(key, {}), LONGEST_SUMS)
        if response.status == HTTPStatus.OK:
            return body
        if not listed and response.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return None
        raise refused(what, response.status, response.headers, body, pays=self._bucket.pays)

    def _version(self, version_id: str) -> Entry:
        # A HEAD would not say what is wrong.
        what = f"Version {version_id} of {self._uri}"
        try:
            with translated(what, pays=self._bucket.pays):
                found = self._bucket.client.get_object(Key=self._prefix, VersionId=version_id, **self._bucket.about)
        except FetchError as error:
            if error.code is not ExitCode.BAD_DATA:
                raise
            raise FetchError(error.cause, remedy="Check version_id.", code=ExitCode.NOT_FOUND) from error
        found["Body"].close()
        name = self._prefix.rpartition("/")[2]
        return Entry(path=name, size=found["ContentLength"], validator=found["ETag"], source=self._prefix)

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
        """Return a signed GET for the version that was listed."""
        return self._bucket.request(entry.source, self._headers(entry), query=self._query)

    def digests_in(self, headers: HTTPMessage) -> tuple[Digest, ...]:
        """See `HttpSnapshot.digests_in`."""
        return digests_in(headers, int(headers.get("Content-Length", 0)))

    def refusal(self, entry: Entry, status: int, headers: HTTPMessage, body: bytes) -> FetchError | None:
        """See `HttpSnapshot.refusal`; S3's error codes say more than the status."""
        what = format_uri(self._bucket.name, entry.source)
        return (
            gone(what)
            if status == HTTPStatus.NOT_FOUND
            else refused(what, status, headers, body, pays=self._bucket.pays)
        )

    def asks_again(self, request: HttpRequest, status: int) -> bool:
        """See `HttpSnapshot.asks_again`; Backblaze B2, for one, refuses a header that asks for checksums."""
        if status not in _UNKNOWN_HEADER or _CHECKSUMS not in request.headers:
            return False
        self._asks_for_checksums = False
        return True

    @contextlib.contextmanager
    def open(self, entry: Entry, start: int, stop: int) -> Iterator[Reader]:
        """See `Snapshot.open`; an object in parts that is read at once needs its part size first, to compute the digest."""
        if start == 0 and stop == entry.size and parts_of(entry.validator) > 1:
            entry = self.describe(entry)
        with super().open(entry, start, stop) as reader:
            reader.digests = reader.digests or entry.digests
            yield reader

    def describe(self, entry: Entry) -> Entry:
        """Return the entry with a digest of the whole object, if the store has one; called before reading in ranges."""
        headers = self._head(entry)
        found = digests_in(headers, entry.size)
        count = parts_of(entry.validator)
        if not found and count > 1 and (length := self._part_size(entry, count)):
            found = digests_in(headers, entry.size, length)
        return attrs.evolve(entry, digests=(*entry.digests, *found))

    def _part_size(self, entry: Entry, count: int) -> int | None:
        """Return the bytes of each part except the last; None if a sample of the up to 10,000 parts differs in size."""

        def length(number: int) -> int:
            return int(self._head(entry, f"partNumber={number}").get("Content-Length", 0))

        first, last = length(1), length(count)
        sample = {2, count // 2, count - 1} - {1, count}
        even = first * (count - 1) + last == entry.size and all(length(number) == first for number in sample)
        return first if even else None

    def _head(self, entry: Entry, query: str = "") -> HTTPMessage:
        both = "&".join(filter(None, (query, self._query)))  # sorted, as the signature requires
        request = self._bucket.request(entry.source, self._headers(entry), method="HEAD", query=both)
        response, _ = self.http.send(request)
        response.read()
        if self.asks_again(request, response.status):
            return self._head(entry, query)
        if response.status in _MUTE:
            return HTTPMessage()
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise refused(format_uri(self._bucket.name, entry.source), response.status, response.headers, b"")
        return response.headers

    def _headers(self, entry: Entry) -> dict[str, str]:
        headers = {_CHECKSUMS: "ENABLED"} if self._asks_for_checksums else {}
        if entry.validator:
            headers["if-match"] = entry.validator
        return headers


def _entry(path: str, item: Item, digests: tuple[Digest, ...]) -> Entry:
    return Entry(path=path, size=item["Size"], digests=digests, validator=item.get("ETag"), source=item["Key"])
