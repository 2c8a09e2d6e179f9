"""A bucket of Google Cloud Storage, as seen in the container, through its JSON API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import attrs

from tunewright import ExitCode, FetchError
from tunewright.providers import Digest, user_variable
from tunewright_gs.credential import Credential
from tunewright_gs.uri import format_uri
from tunewright_launcher.http import Headers, Http, HttpRequest, answered, digits_of, refusal, retry
from tunewright_launcher.objects import Object, Page, stands_still

_GOOGLE = "https://storage.googleapis.com"
_EMULATOR = "STORAGE_EMULATOR_HOST"
_LONGEST_PAGE = 64 << 20
_FIELDS = "items(name,size,generation,md5Hash,crc32c),nextPageToken"
# Seconds for which a page after the first is retried, so that the pages before it are not lost.
_PATIENCE = 20.0
_PERMISSIONS = (
    "Allow storage.objects.list and storage.objects.get (roles/storage.objectViewer); for an output, also "
    "storage.objects.create and storage.objects.delete (roles/storage.objectUser). "
    "Without a credential only public buckets can be read."
)


@attrs.frozen(kw_only=True)
class Access:
    """How to reach a bucket; every field is that of `GSSource`. In the container, secrets are plain strings."""

    service_account_key: str | None = attrs.field(default=None, repr=False)
    access_token: str | None = attrs.field(default=None, repr=False)
    anonymous: bool = False
    user_project: str | None = None
    endpoint: str | None = None


class Bucket:
    """One bucket, with one credential.

    Args:
        name: the bucket's name.
        access: the credential, and where the bucket is.

    Raises:
        FetchError: there is no credential.
    """

    def __init__(self, name: str, access: Access) -> None:
        self.name = name
        self.http = Http()
        self._project = access.user_project
        self._base = (access.endpoint or _emulator() or _GOOGLE).rstrip("/")
        anonymous = access.anonymous or (access.service_account_key is None and _emulator() is not None)
        self._credential = Credential(
            format_uri(name), key=access.service_account_key, token=access.access_token, anonymous=anonymous
        )

    def uri(self, key: str = "") -> str:
        """See `tunewright_launcher.objects.Bucket`."""
        return format_uri(self.name, key)

    def pages(self, prefix: str) -> Iterator[Page]:
        """See `tunewright_launcher.objects.Bucket`."""
        query = {"prefix": prefix, "maxResults": "1000", "fields": _FIELDS}
        page = self._page(prefix, query)
        while True:
            following = page.get("nextPageToken")
            yield Page([_object(item) for item in page.get("items", ())], bool(following))
            if not following:
                return
            if query.get("pageToken") == str(following):
                raise stands_still(self.uri(prefix))
            query["pageToken"] = str(following)
            page = retry(lambda: self._page(prefix, query), _PATIENCE, lambda *_: None)

    def _page(self, prefix: str, query: Mapping[str, str]) -> Mapping[str, Any]:
        return self.ask(self.uri(prefix), self.request("storage/v1", "o", query))

    def get(self, key: str, generation: str | None = None) -> HttpRequest:
        """Return the request for an object: the stored bytes, of one generation if it is given."""
        query = {"alt": "media", **({"ifGenerationMatch": generation} if generation else {})}
        # Otherwise objects that are stored in gzip are unpacked on the way, and have neither the size nor the digest that is listed.
        return self.request("storage/v1", f"o/{quote(key, safe='')}", query, headers={"Accept-Encoding": "gzip"})

    def request(
        self,
        api: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> HttpRequest:
        """Return a request to the bucket with the credential.

        Args:
            api: "storage/v1", or "upload/storage/v1" for uploads.
            path: path below the bucket, percent-encoded.
            query: not percent-encoded.
            method: GET, POST, PUT or DELETE.
            headers: further headers.
            body: the body.
        """
        given = {**(query or {}), **({"userProject": self._project} if self._project else {})}
        url = f"{self._base}/{api}/b/{quote(self.name, safe='')}/{path}"
        return HttpRequest(
            url=f"{url}?{urlencode(given)}" if given else url,
            method=method,
            headers={**self._credential.headers(), **(headers or {})},
            body=body,
        )

    def ask(self, what: str, request: HttpRequest) -> Mapping[str, Any]:
        """Return the JSON that a request is answered with.

        Raises:
            FetchError: it is refused.
        """
        response, body = self.http.ask(request, _LONGEST_PAGE)
        if response.status != HTTPStatus.OK:
            raise self.refused(what, response.status, response.headers, body)
        return self.document(what, body)

    def document(self, what: str, body: bytes) -> Mapping[str, Any]:
        """Return the JSON object in an answer.

        Raises:
            FetchError: BAD_DATA: it is something else.
        """
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            cause = f"The request for {what} was answered with something that is not JSON."
            raise FetchError(cause, remedy="Check endpoint, and a proxy in between.", code=ExitCode.BAD_DATA)
        return found

    def refused(self, what: str, status: int, headers: Headers, body: bytes) -> FetchError:
        """See `tunewright_launcher.objects.Bucket`."""
        error = refusal(what, answered(status, headers), body)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return FetchError(error.cause, remedy=_PERMISSIONS, code=error.code)
        if status == HTTPStatus.NOT_FOUND:
            return FetchError(error.cause, remedy="Check the bucket's name and the URI.", code=error.code)
        if status == HTTPStatus.BAD_REQUEST and b"requester pays" in body.lower():
            remedy = "Give user_project=, the project that is billed for it."
            return FetchError(error.cause, remedy=remedy, code=ExitCode.NO_PERMISSION)
        return error


def _emulator() -> str | None:
    """Return the URL of the emulator that the environment names, as Google's own libraries take it."""
    host = user_variable(_EMULATOR)
    return host if host is None or "://" in host else f"http://{host}"


def _object(item: Mapping[str, Any]) -> Object:
    return Object(
        str(item["name"]), int(item.get("size", 0)), str(item.get("generation") or "") or None, digests_of(item)
    )


def digests_of(item: Mapping[str, Any]) -> tuple[Digest, ...]:
    """Return the digest in the description of an object. Every object has a CRC32C; it is computed faster than MD5."""
    if crc := digits_of(str(item.get("crc32c", ""))):
        return (Digest(algorithm="crc32c", value=crc),)
    md5 = digits_of(str(item.get("md5Hash", "")))
    return (Digest(algorithm="md5", value=md5),) if md5 else ()
