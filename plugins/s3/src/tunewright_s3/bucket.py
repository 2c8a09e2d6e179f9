"""A bucket, as seen in the container: its listing, and signed requests for its objects."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tunewright import FetchError
from tunewright_launcher.http import Headers, Http, HttpRequest, retry
from tunewright_launcher.objects import Page, stands_still
from tunewright_s3.access import Access, Place, certificates, stated_place
from tunewright_s3.errors import code_in, is_elsewhere, is_unsupported, no_listing, refused
from tunewright_s3.listing import Listed, Marker, query_of, read_page
from tunewright_s3.uri import format_uri

if TYPE_CHECKING:
    from tunewright_s3.client import Client

# Seconds for which a page after the first is retried, so that the pages before it are not lost.
_PATIENCE = 20.0
_LONGEST_PAGE = 64 << 20


class Bucket:
    """One bucket, with one credential.

    Where its server and its credential are stated, it is reached without botocore, until `client` is needed, or the store says that
    the bucket is in another region.

    Args:
        name: the bucket's name.
        access: the credential, and where the bucket is.

    Attributes:
        about: what every request of `client` has: the bucket, and who pays.
        pays: whether requests say that whoever asks pays.
        http: sends the requests that `request` makes.

    Raises:
        FetchError: botocore rejects the settings.
    """

    def __init__(self, name: str, access: Access) -> None:
        self.name = name
        self.pays = access.request_payer is not None
        self.about = {"Bucket": name, **({"RequestPayer": "requester"} if self.pays else {})}
        self._access = access
        self._lock = threading.Lock()
        self._found: Client | None = None
        self._stated = stated_place(name, access)
        self.http = Http(ca_bundle=certificates() if self._stated else self._botocore().ca_bundle)

    @property
    def client(self) -> Any:
        """The client of botocore. It sends each request once; callers retry."""
        return self._botocore().s3

    def _botocore(self) -> Client:
        from tunewright_s3.client import Client

        with self._lock:
            if self._found is None:
                self._found = Client(self.name, self._access, self.about)
                self._stated = None  # it may learn better
            return self._found

    def uri(self, key: str = "") -> str:
        """See `tunewright_launcher.objects.Bucket`."""
        return format_uri(self.name, key)

    def get(self, key: str) -> HttpRequest:
        """See `tunewright_launcher.objects.Bucket`."""
        return self.request(key, {})

    def refused(self, what: str, status: int, headers: Headers, body: bytes) -> FetchError:
        """See `tunewright_launcher.objects.Bucket`."""
        return refused(what, status, headers, body, pays=self.pays)

    def pages(self, prefix: str) -> Iterator[Page]:
        """Yield pages of the objects whose keys begin with a prefix.

        Raises:
            FetchError: the objects cannot be listed.
        """
        page, token = self._page(prefix, None)
        while True:
            yield page
            if token is None:
                return
            before = token
            page, token = self._next_page(prefix, token)
            if token == before:
                raise stands_still(format_uri(self.name, prefix))

    def _next_page(self, prefix: str, token: str) -> Listed:
        return retry(lambda: self._page(prefix, token), _PATIENCE, lambda *_: None)

    def _page(self, prefix: str, token: str | None) -> Listed:
        place = self._stated
        found = self._list(place, prefix, token) if place else None
        return self._botocore().list(prefix, token) if found is None else found

    def _list(self, place: Place, prefix: str, token: str | None) -> Listed | None:
        """Return a page; None if the store says that the bucket is elsewhere."""
        what = format_uri(self.name, prefix)
        request = self._signed(place, place.folder.rstrip("/"), {}, query=query_of(prefix, token))
        response, body = self.http.ask(request, _LONGEST_PAGE)
        if is_elsewhere(response.status, body):
            return None
        if token is None and is_unsupported(response.status, code_in(body)):
            return self._list(place, prefix, Marker())
        if response.status != HTTPStatus.OK:
            raise self.refused(what, response.status, response.headers, body)
        try:
            return read_page(body)
        except ValueError as error:
            if b"<Error>" in body:  # it began to answer before it knew
                raise self.refused(what, HTTPStatus.INTERNAL_SERVER_ERROR, response.headers, body) from error
            raise no_listing(what, str(error)) from error

    def request(self, key: str, headers: Mapping[str, str], *, method: str = "GET", query: str = "") -> HttpRequest:
        """Return a signed request for an object.

        Args:
            key: the object's key.
            headers: headers to send and to sign; names in lower case.
            method: GET or HEAD.
            query: percent-encoded query, sorted by name.

        Raises:
            FetchError: there is no credential, or it cannot be refreshed.
        """
        place = self._stated or self._botocore().place()
        return self._signed(place, f"{place.folder}{quote(key)}", headers, method=method, query=query)

    def _signed(
        self, place: Place, path: str, headers: Mapping[str, str], *, method: str = "GET", query: str = ""
    ) -> HttpRequest:
        if self.pays:
            headers = {**headers, "x-amz-request-payer": "requester"}
        url = f"{place.origin}{path}{'?' if query else ''}{query}"
        keys = place.keys()
        if keys is not None:
            headers = place.signer.sign(keys, method, host=place.host, path=path, query=query, headers=headers)
        return HttpRequest(url=url, headers=headers, method=method)
