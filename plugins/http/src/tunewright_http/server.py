"""A web server, as seen in the container: requests with the credential, and what responses say about a file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPResponse
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import attrs

from tunewright import ExitCode, FetchError, SecretRef
from tunewright.providers import Digest
from tunewright_launcher.http import (
    Answered,
    Headers,
    Http,
    HttpRequest,
    Response,
    coding_of,
    decoded,
    digests_in,
    reading,
    refusal,
    shown,
    size_of,
)

_DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_BLOCK = 1 << 20
_LONGEST_MESSAGE = 64 << 10
_COMPRESSED_NAMES = (".gz", ".tgz", ".z", ".bz2", ".xz", ".zst", ".br")
_PAGES = ("text/html", "application/xhtml+xml")
_PAGE_NAMES = (".html", ".htm", ".xhtml")


@attrs.frozen(kw_only=True)
class Access:
    """The credential; every field is that of `HttpSource`. In the container, secrets are plain strings."""

    token: str | SecretRef | None = attrs.field(default=None, repr=False)
    token_header: str = "Authorization"  # noqa: S105 - a header's name
    username: str | SecretRef | None = attrs.field(default=None, repr=False)
    password: str | SecretRef | None = attrs.field(default=None, repr=False)
    query: str | SecretRef | None = attrs.field(default=None, repr=False)

    def headers(self) -> dict[str, str]:
        """Return the headers that every request has."""
        return {"User-Agent": "tunewright", **self._credential()}

    def _credential(self) -> dict[str, str]:
        if self.username is not None:
            pair = f"{self.username}:{self.password}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        if self.token is None:
            return {}
        usual = self.token_header.lower() == "authorization"
        return {self.token_header: f"Bearer {self.token}" if usual else str(self.token)}

    @property
    def is_given(self) -> bool:
        """Whether there is a credential."""
        return (self.token, self.username, self.query) != (None, None, None)


@attrs.frozen(kw_only=True)
class About:
    """What a server says about a file.

    Attributes:
        size: its bytes.
        validator: its version: the entity tag or, without one, the time of its last change; None if there is neither.
        digests: its digests.
    """

    size: int
    validator: str | None
    digests: tuple[Digest, ...]


class Server:
    """Sends requests to one web server.

    Args:
        access: the credential.
    """

    _mistaken: ClassVar[set[str]] = set()  # URLs whose HEAD may have said what is not so; of all tries of a process

    def __init__(self, access: Access) -> None:
        self.http = Http()
        self._access = access
        self._headers = access.headers()
        self._query = f"?{access.query}" if access.query else ""

    def request(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | Path | None = None,
    ) -> HttpRequest:
        """Return the request for a URL without its query."""
        headers = {**self._headers, **(headers or {})}
        return HttpRequest(url=f"{url}{self._query}", method=method, headers=headers, body=body)

    def about(self, url: str) -> About:
        """Return what the server says about a file.

        It is asked by HEAD. A server that does not know that, or says no size or that there is nothing, is asked for a range of one
        byte; one that does not say the size then either is read to the end, once more than the download itself.

        Raises:
            FetchError: there is no such file, or it cannot be read.
        """
        if url in self._mistaken:
            return self._of_get(url)
        try:
            response, _ = self.http.send(self.request(url, method="HEAD"))
        except FetchError as error:
            if error.code.may_pass:  # some servers hang up on a HEAD
                return self._of_get(url)
            raise
        response.read()
        self.http.close_unread(response)
        size = size_of(response)
        if response.status == HTTPStatus.OK and size and not _is_encoded(url, response):
            self._refuse_page(url, response.headers)
            return About(size=size, validator=validator_of(response.headers), digests=digests_in(response.headers))
        return self._of_get(url)

    def distrust(self, url: str) -> None:
        """Ask for a file by GET from now on: what HEAD says of it was not so, or is so no longer."""
        self._mistaken.add(url)

    def _of_get(self, url: str) -> About:
        response, came_from = self.http.send(self.request(url, headers={"Range": "bytes=0-0"}))
        try:
            if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # an empty file has no first byte
                return About(size=0, validator=validator_of(response.headers), digests=())
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                with reading(came_from):
                    body = response.read(_LONGEST_MESSAGE)
                raise self.refused(url, response, body)
            self._refuse_page(url, response.headers)
            if _is_encoded(url, response):
                return self._of_whole(url)
            partial = response.status == HTTPStatus.PARTIAL_CONTENT
            validator, digests = validator_of(response.headers), digests_in(response.headers, partial=partial)
            if (size := size_of(response)) is not None:
                return About(size=size, validator=validator, digests=digests)
            if partial:
                cause = f"{shown(url)} is sent in ranges, but the server does not say of how many bytes."
                raise FetchError(cause, remedy="Ask the operator of the server.", code=ExitCode.BAD_DATA)
            return self._of_contents(url, response, came_from)
        finally:
            self.http.close_unread(response)

    def _of_whole(self, url: str) -> About:
        response, came_from = self.http.send(self.request(url))
        try:
            return self._of_contents(url, response, came_from)
        finally:
            self.http.close_unread(response)

    def _of_contents(self, url: str, response: Response, came_from: str) -> About:
        """Read the whole file, without the compression of the way."""
        stream = decoded(response, shown(url)) if _is_encoded(url, response) else response
        buffer, count, sha256 = bytearray(_BLOCK), 0, hashlib.sha256()
        with reading(came_from):
            while size := stream.readinto(buffer):
                count += size
                sha256.update(memoryview(buffer)[:size])
        digest = Digest(algorithm="sha256", value=sha256.hexdigest())
        return About(size=count, validator=validator_of(response.headers), digests=(digest,))

    def text(self, url: str, longest: int) -> bytes | None:
        """Return a short file; None if the server has none.

        Raises:
            FetchError: it cannot be read.
        """
        response, body = self.http.ask(self.request(url), longest)
        if response.status == HTTPStatus.OK:
            return body
        if response.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            return None
        raise self.refused(url, response, body)

    def refused(self, url: str, response: Answered, body: bytes) -> FetchError:
        """Return the error for an unsuccessful response."""
        error = refusal(shown(url), response, body)
        if response.status not in _DENIED:
            return error
        host, asked = urlsplit(self.http.answered_by).netloc, urlsplit(url).netloc
        if self._access.is_given and host and host != asked:
            cause = f"{error.cause} It redirects to {host}, to which the credential for {asked} is not sent."
            remedy = "Give the URL at that host, with a credential for it."
            return FetchError(cause, remedy=remedy, code=error.code)
        if self._query:
            remedy = (
                "Give a new URL if its query has a signature, which may have expired, or a credential that may read it."
            )
        elif self._access.is_given:
            remedy = "Give a credential that may read it."
        else:
            remedy = "Give token=, or username= and password=."
        return FetchError(error.cause, remedy=remedy, code=error.code)

    def _refuse_page(self, url: str, headers: Headers) -> None:
        """Refuse a page in the place of a file: of a login, or around the file."""
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind in _PAGES and not urlsplit(url).path.lower().endswith(_PAGE_NAMES):
            if urlsplit(self.http.answered_by).path == f"{urlsplit(url).path}/":
                cause = f"{shown(url)} is a folder: the server redirects to {shown(url)}/, which is a web page."
                remedy = "Write the / at its end, to fetch the files that a SHA256SUMS in the folder lists."
                raise FetchError(cause, remedy=remedy, code=ExitCode.BAD_DATA)
            cause = f"{shown(url)} is answered with a web page ({kind}), such as one to log in, and not with a file."
            remedy = "Give the URL of the file itself, and a credential if it needs one."
            raise FetchError(cause, remedy=remedy, code=ExitCode.BAD_DATA)


def _is_encoded(url: str, response: HTTPResponse) -> bool:
    """Return whether a response is compressed for the way; servers say that of files that are stored so, too, by their names."""
    return bool(coding_of(response)) and not urlsplit(url).path.lower().endswith(_COMPRESSED_NAMES)


def validator_of(headers: Headers) -> str | None:
    """Return the version of a file in the headers of a response."""
    return headers.get("ETag") or headers.get("Last-Modified")


def plain(validator: str | None) -> str | None:
    """Return an entity tag without the mark of weak ones, which a listing and a response need not agree on."""
    return validator.removeprefix("W/") if validator else None


def is_other(validator: str | None, headers: Headers) -> bool:
    """Return whether a response's headers show another version than the one that was known; False if they are of two kinds."""
    found = validator_of(headers)
    if validator is None or found is None or is_tag(found) != is_tag(validator):
        return False
    return plain(found) != plain(validator)


def is_tag(validator: str) -> bool:
    """Return whether a version is an entity tag, and not a time."""
    return validator.startswith(('"', "W/"))
