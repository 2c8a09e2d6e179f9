"""What lies below an `s3://` URI, for the fetch engine."""

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
from tunewright_launcher.http import HttpRequest, HttpSnapshot
from tunewright_s3.bucket import Bucket, Item
from tunewright_s3.digests import digests_in, parts_of
from tunewright_s3.errors import code_in, gone, refused, translated
from tunewright_s3.sums import LONGEST, NAME, Sums
from tunewright_s3.uri import format_uri

# A HEAD that is refused does not say why: the GET that follows it does.
_MUTE = (400, 401, 403, 404, 405, 501)


class S3Snapshot(HttpSnapshot):
    """The object of a key, or the objects below it as a folder.

    Args:
        bucket: where they are.
        prefix: the key; "" for the whole bucket.
        selects: whether a relative path is wanted.
        version_id: of the one object that `prefix` is then the key of.
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

    def entries(self) -> Iterator[Entry]:
        """The objects, as they are listed; with their digests, where a file among them names those.

        Whether there is such a file is known after the first page: what is on that page is looked at before anything is
        yielded, and only a longer listing costs questions of its own.
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
        """Those of a page, by relative path: S3's prefixes know no folders, and `data` is one of `data-old/x`, too."""
        for item in page:
            key = str(item["Key"])
            path = key.removeprefix(self._folder)
            if key == self._folder or (path.endswith("/") and item["Size"] == 0):
                continue  # stands for a folder, as consoles make them
            if key.startswith(self._folder):
                yield path, item
            elif key == self._prefix:
                yield key.rpartition("/")[2], item

    def _sums(self, first: Mapping[str, Any]) -> Sums:
        """What a file names that is on the first page, or may be on a later one."""
        marker = self._beside(MARKER, first)
        if marker is not None and (sums := Sums.of_marker(MARKER, marker)):
            return sums
        return Sums.read(self._beside(NAME, first) or b"")

    def _beside(self, name: str, first: Mapping[str, Any]) -> bytes | None:
        key = f"{self._folder}{name}"
        listed = any(item["Key"] == key for item in first.get("Contents", ()))
        if not listed and not first.get("IsTruncated"):
            return None
        what = format_uri(self._bucket.name, key)
        response, body = self.http.ask(self._bucket.request(key, {}), LONGEST)
        if response.status == HTTPStatus.OK:
            return body
        if not listed and response.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return None
        raise refused(what, response.status, response.headers, code_in(body))

    def _version(self, version_id: str) -> Entry:
        # Not a HEAD: its errors do not say what is wrong.
        what = f"Version {version_id} of {self._uri}"
        try:
            with translated(what):
                found = self._bucket.client.get_object(Bucket=self._bucket.name, Key=self._prefix, VersionId=version_id)
        except FetchError as error:
            if error.code is not ExitCode.BAD_DATA:
                raise
            raise FetchError(error.cause, remedy="Check version_id.", code=ExitCode.NOT_FOUND) from error
        found["Body"].close()
        name = self._prefix.rpartition("/")[2]
        return Entry(path=name, size=found["ContentLength"], validator=found["ETag"], source=self._prefix)

    def _nothing(self, listed: int) -> FetchError:
        if listed:
            cause = f"{self._uri} has {listed} objects, and the patterns select none of them."
            return FetchError(cause, remedy="Check the patterns.", code=ExitCode.NOT_FOUND)
        cause = f"{self._uri} names nothing: there is no object of that key, and none below it."
        return FetchError(cause, remedy="Check the URI.", code=ExitCode.NOT_FOUND)

    def request(self, entry: Entry) -> HttpRequest:
        """A signed GET of the version that was listed."""
        return self._bucket.request(entry.source, _headers(entry), query=self._query)

    def digests_in(self, headers: HTTPMessage) -> tuple[Digest, ...]:
        """See `tunewright_s3.digests`."""
        return digests_in(headers, int(headers.get("Content-Length", 0)))

    def refusal(self, entry: Entry, status: int, headers: HTTPMessage, body: bytes) -> FetchError | None:
        """S3's codes say more than the status."""
        what, code = format_uri(self._bucket.name, entry.source), code_in(body)
        return gone(what) if status == HTTPStatus.NOT_FOUND else refused(what, status, headers, code)

    @contextlib.contextmanager
    def open(self, entry: Entry, start: int, stop: int) -> Iterator[Reader]:
        """As the base; a small object of several parts is looked at first, or its digest could not be computed."""
        if start == 0 and stop == entry.size and parts_of(entry.validator) > 1:
            entry = self.describe(entry)
        with super().open(entry, start, stop) as reader:
            reader.digests = reader.digests or entry.digests
            yield reader

    def describe(self, entry: Entry) -> Entry:
        """With a digest of the whole object, if the store has one; asked for before the object is read in ranges."""
        headers = self._head(entry)
        found = digests_in(headers, entry.size)
        count = parts_of(entry.validator)
        if not found and count > 1 and (length := self._part_size(entry, count)):
            found = digests_in(headers, entry.size, length)
        return attrs.evolve(entry, digests=(*entry.digests, *found))

    def _part_size(self, entry: Entry, count: int) -> int | None:
        """Bytes of each part but the last; None where they differ, which S3 allows. A sample must do: there may be 10,000."""

        def length(number: int) -> int:
            return int(self._head(entry, f"partNumber={number}").get("Content-Length", 0))

        first, last = length(1), length(count)
        sample = {2, count // 2, count - 1} - {1, count}
        even = first * (count - 1) + last == entry.size and all(length(number) == first for number in sample)
        return first if even else None

    def _head(self, entry: Entry, query: str = "") -> HTTPMessage:
        query = "&".join(filter(None, (query, self._query)))  # in the order that a signature wants
        request = self._bucket.request(entry.source, _headers(entry), method="HEAD", query=query)
        response, _ = self.http.send(request)
        response.read()
        if response.status in _MUTE:
            return HTTPMessage()
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise refused(format_uri(self._bucket.name, entry.source), response.status, response.headers, "")
        return response.headers


def _entry(path: str, item: Item, digests: tuple[Digest, ...]) -> Entry:
    return Entry(path=path, size=item["Size"], digests=digests, validator=item.get("ETag"), source=item["Key"])


def _headers(entry: Entry) -> dict[str, str]:
    headers = {"x-amz-checksum-mode": "ENABLED"}
    if entry.validator:
        headers["if-match"] = entry.validator
    return headers
