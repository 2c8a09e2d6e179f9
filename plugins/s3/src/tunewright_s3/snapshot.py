"""The objects below an `s3://` URI, as a snapshot for the fetch engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.client import HTTPMessage
from urllib.parse import quote

import attrs

from tunewright import ExitCode, FetchError
from tunewright.providers import Digest, Entry, Reader
from tunewright_launcher.http import HttpRequest
from tunewright_launcher.objects import ObjectSnapshot
from tunewright_s3.bucket import Bucket
from tunewright_s3.digests import digests_in, of_etag, parts_of
from tunewright_s3.errors import refused
from tunewright_s3.uri import format_uri

# A refused HEAD does not say why, but the GET that follows it does.
_CHECKSUMS = "x-amz-checksum-mode"
_CONDITION = "if-match"
_UNKNOWN_HEADER = (400, 501)
_PASSING = (408, 412, 425, 429)  # of 4xx: a HEAD with these is no use, but says what is the matter


class S3Snapshot(ObjectSnapshot):
    """The object with a key, or the objects below it as a folder.

    Args:
        bucket: the bucket.
        prefix: the key; "" for the whole bucket.
        selects: returns whether to fetch a relative path.
        version_id: the version of the one object whose key is `prefix`.
    """

    def __init__(
        self,
        bucket: Bucket,
        prefix: str,
        selects: Callable[[str], bool] = lambda _: True,
        version_id: str | None = None,
    ) -> None:
        super().__init__(bucket, prefix, selects)
        self._bucket = bucket
        self._query = f"versionId={quote(version_id, safe='')}" if version_id else ""
        self.revision = version_id
        self._asks_for_checksums = True
        self._asks_with_condition = True
        self._tags: dict[str, str] | None = None  # of a store that lists other tags than it answers with: path → tag

    def entries(self) -> Iterator[Entry]:
        """Yield the one version, or the objects as they are listed."""
        if self.revision is not None:
            yield self._version(self.revision)
        else:
            yield from super().entries()

    def _version(self, version_id: str) -> Entry:
        # A HEAD would not say what is wrong.
        what = f"{self._uri} in version {version_id}"
        from tunewright_s3.translate import translated

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

    def request(self, entry: Entry) -> HttpRequest:
        """Return a signed GET for the version that was listed."""
        return self._bucket.request(entry.source, self._headers(entry), query=self._query)

    def digests_in(self, headers: HTTPMessage) -> tuple[Digest, ...]:
        """See `HttpSnapshot.digests_in`."""
        return digests_in(headers, int(headers.get("Content-Length", 0)))

    def asks_again(self, request: HttpRequest, status: int) -> bool:
        """See `HttpSnapshot.asks_again`; Backblaze B2, for one, refuses a header that asks for checksums, and others If-Match."""
        if status not in _UNKNOWN_HEADER or not {_CHECKSUMS, _CONDITION} & request.headers.keys():
            return False
        self._asks_for_checksums = self._asks_with_condition = False
        return True

    def is_other(self, entry: Entry, headers: HTTPMessage) -> bool:
        """See `HttpSnapshot.is_other`: the tags are compared here where the store does not compare them."""
        found = headers.get("ETag")
        if self._asks_with_condition or entry.validator is None or not found:
            return False
        expected = entry.validator if self._tags is None else self._tags.setdefault(entry.path, found)
        return _plain(found) != _plain(expected)

    def refusal(self, entry: Entry, status: int, headers: HTTPMessage, body: bytes) -> FetchError | None:
        """See `HttpSnapshot.refusal`: a store may refuse the tag that it lists itself."""
        if status == HTTPStatus.PRECONDITION_FAILED and self._is_as_listed(entry):
            cause = f"The store lists {self._bucket.uri(entry.source)} with a tag that it does not accept."
            return FetchError(cause, remedy="It is asked again without that.", code=ExitCode.TRY_AGAIN)
        return super().refusal(entry, status, headers, body)

    def _is_as_listed(self, entry: Entry) -> bool:
        """Return whether an object that is refused as another version is still listed as it was; if so, no other is asked for by its tag."""
        if not self._asks_with_condition:
            return True  # another thread has found that out
        if entry.validator is None or self.revision is not None:
            return False
        listed = (found for page in self._bucket.pages(entry.source) for found in page.objects)
        now = next((found for found in listed if found.key == entry.source), None)
        if now is None or (now.size, now.validator) != (entry.size, entry.validator):
            return False
        self._tags = {} if self._tags is None else self._tags
        self._asks_with_condition = False
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

    def has_md5_as_tag(self, entry: Entry) -> bool:
        """Return whether the entity tag of an object in one part is its MD5, unless the store says that it is not."""
        headers = self._head(entry)
        return not headers or bool(of_etag(headers, entry.size))

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
        # Of a part without If-Match: some stores compare it with the part's own tag. Reading the object has it.
        asked = self._asked() if query else self._headers(entry)
        request = self._bucket.request(entry.source, asked, method="HEAD", query=both)
        response, _ = self.http.send(request)
        response.read()
        if self.asks_again(request, response.status):
            return self._head(entry, query)
        refused_tag = response.status == HTTPStatus.PRECONDITION_FAILED and _CONDITION in request.headers
        if refused_tag and self._is_as_listed(entry):
            return self._head(entry, query)
        if _is_mute(response.status):
            return HTTPMessage()
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise refused(format_uri(self._bucket.name, entry.source), response.status, response.headers, b"")
        return response.headers

    def _headers(self, entry: Entry) -> dict[str, str]:
        headers = self._asked()
        if entry.validator and self._asks_with_condition:
            headers[_CONDITION] = entry.validator
        return headers

    def _asked(self) -> dict[str, str]:
        return {_CHECKSUMS: "ENABLED"} if self._asks_for_checksums else {}


def _is_mute(status: int) -> bool:
    """Return whether a HEAD is refused in a way that the GET which follows explains."""
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _PASSING
    return refused or status == HTTPStatus.NOT_IMPLEMENTED


def _plain(tag: str) -> str:
    return tag.removeprefix("W/").strip('"')
