"""HTTP for the fetch engine: ranges over connections that are kept, and errors that say what to do.

The standard library's client, because it is the fastest one per request that does not come with a runtime of its own: the
time for many small files is the processor's, not the network's.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import ssl
import threading
import urllib.request
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import cast
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import attrs

from tunewright._convert import to_dict
from tunewright.errors import ExitCode, FetchError, SourceChanged
from tunewright.providers.limits import FetchLimits
from tunewright.providers.snapshots import Digest, Entry, Reader, Snapshot
from tunewright_launcher.answers import Headers, broke_off, reading, refusal, shown, size_of, unavailable
from tunewright_launcher.connection import Connection, Response

_MOVED = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
_LONGEST_MESSAGE = 64 << 10
_URL = re.compile(r"(https?://[^/?#]+)([^#]*)")
# What may go on to another host than the one it was meant for.
_GENERAL = ("range", "accept", "accept-encoding", "user-agent")


@attrs.frozen(kw_only=True)
class HttpRequest:
    """A GET, or what else `method` says; it may be sent twice, so it must not matter if it is.

    Attributes:
        url: absolute, percent-encoded.
        headers: credentials and conditions. They are dropped where the server redirects to another host.
        method: "GET", "POST", …
        body: of a POST. It never goes to another host than the one that it was meant for.
    """

    url: str
    headers: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)
    method: str = "GET"
    body: bytes | None = attrs.field(default=None, repr=False)


class Http:
    """Sends requests. Each thread has connections of its own, which are kept open.

    Args:
        timeout: seconds without a byte after which a server counts as unavailable; None: `FetchLimits.stall`.
        ca_bundle: file of certificates to trust in place of the system's.
    """

    def __init__(self, *, timeout: float | None = None, ca_bundle: str | None = None) -> None:
        self._given_timeout = timeout
        self._timeout = FetchLimits().stall if timeout is None else timeout
        self._ca_bundle = ca_bundle
        self._tls: ssl.SSLContext | None = None
        self._thread = threading.local()
        self._proxies = urllib.request.getproxies_environment()
        self._origins: dict[str, _Origin] = {}

    def use_limits(self, limits: FetchLimits) -> None:
        """Be as patient as they say, unless a timeout was given."""
        self._timeout = limits.stall if self._given_timeout is None else self._given_timeout

    def send(self, request: HttpRequest) -> tuple[Response, str]:
        """The answer, whatever its status, after redirects; and the URL that it came from.

        Raises:
            FetchError: UNAVAILABLE where nobody answers; TRY_AGAIN where a redirect breaks off; BAD_DATA for redirects
                without end or to plain HTTP.
        """
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._once(request)
            location = response.getheader("Location")
            if response.status not in _MOVED or not location:
                return response, request.url
            with reading(request.url):
                response.read(_LONGEST_MESSAGE)
            request = _redirected(request, location, response.status)
            self.close_unread(response)
        raise FetchError(
            f"{shown(request.url)} redirects without end.", remedy="Check the endpoint.", code=ExitCode.BAD_DATA
        )

    def ask(self, request: HttpRequest, longest: int) -> tuple[Response, bytes]:
        """The answer, whatever its status, with the whole of its short body.

        Args:
            request: what is asked.
            longest: bytes of the body that are taken.

        Raises:
            FetchError: as `send`; TRY_AGAIN where the body breaks off; BAD_DATA where it is longer.
        """
        response, url = self.send(request)
        try:
            with reading(url):
                body = response.read(longest)
            left = response.length
        finally:
            self.close_unread(response)
        if left and len(body) < longest:
            raise broke_off(url, f"{left} bytes are missing")
        if left or len(body) == longest:
            cause = f"{shown(url)} has answered with more than {longest} bytes."
            raise FetchError(cause, remedy="Check the endpoint.", code=ExitCode.BAD_DATA)
        return response, body

    def close_unread(self, response: http.client.HTTPResponse) -> None:
        """Close a connection whose answer was not read to its end: the rest of it would be taken for the next one's."""
        if not response.isclosed():
            response.close()
            # A thread reads one answer at a time.
            if connection := self._kept().pop(self._thread.last, None):
                connection.close()

    def _kept(self) -> dict[str, Connection]:
        if not hasattr(self._thread, "connections"):
            self._thread.connections = {}
        return cast("dict[str, Connection]", self._thread.connections)

    def _once(self, request: HttpRequest) -> Response:
        match = _URL.match(request.url)
        if match is None:
            cause = f"{shown(request.url)} is no URL of a web server."
            raise FetchError(cause, remedy="Check the endpoint.", code=ExitCode.BAD_DATA)
        key, path = match.groups()
        self._thread.last = key
        connection = self._kept().get(key)
        if connection is not None:
            # A server may close a connection that was idle: that says nothing about the request.
            with contextlib.suppress(http.client.HTTPException, OSError):
                return self._ask(connection, request, key, path)
            connection.close()
        try:
            connection = self._kept()[key] = Connection(self._connect(self._origin(key)))
            return self._ask(connection, request, key, path)
        except (http.client.HTTPException, OSError) as error:
            if connection := self._kept().pop(key, None):
                connection.close()
            raise unavailable(request.url, error) from error

    def _ask(self, connection: Connection, request: HttpRequest, origin: str, path: str) -> Response:
        known = self._origin(origin)
        target = f"{known.prefix}{'' if path.startswith('/') else '/'}{path}"
        usual = {"Host": known.parts.netloc, "Accept-Encoding": "identity", **known.headers}
        headers = (*usual.items(), *request.headers.items())
        try:
            return connection.ask(request.method, target, headers, request.body, self._timeout)
        except ValueError as error:
            cause = f"{shown(request.url)} cannot be asked: {error}."
            remedy = "Look whether a credential has a line break, or was copied with something else."
            raise FetchError(cause, remedy=remedy, code=ExitCode.USAGE) from None

    def _origin(self, key: str) -> _Origin:
        if key not in self._origins:
            parts = urlsplit(key)
            proxy = self._proxy(parts)
            plain = proxy if parts.scheme == "http" else None
            self._origins[key] = _Origin(parts, proxy, key if plain else "", _proxy_headers(plain) if plain else {})
        return self._origins[key]

    def _connect(self, origin: _Origin) -> http.client.HTTPConnection:
        parts, proxy = origin.parts, origin.proxy
        host, port = (proxy.hostname, proxy.port) if proxy else (parts.hostname, parts.port)
        if parts.scheme != "https":
            return http.client.HTTPConnection(host or "", port, timeout=self._timeout)
        connection = http.client.HTTPSConnection(host or "", port, timeout=self._timeout, context=self._context())
        if proxy:
            connection.set_tunnel(parts.hostname or "", parts.port or 443, headers=_proxy_headers(proxy))
        return connection

    def _proxy(self, parts: SplitResult) -> SplitResult | None:
        url = self._proxies.get(parts.scheme) or self._proxies.get("all")
        if not url or urllib.request.proxy_bypass_environment(parts.netloc, self._proxies):  # type: ignore[attr-defined]
            return None
        return urlsplit(url if "://" in url else f"http://{url}")

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=self._ca_bundle)
        return self._tls


@attrs.frozen
class _Origin:
    """A server: the beginning of its URLs in parts, and the proxy that leads to it.

    What stands before a path, and which headers are added, is for a proxy that gets the requests themselves: without TLS.
    """

    parts: SplitResult
    proxy: SplitResult | None
    prefix: str
    headers: Mapping[str, str]


class HttpSnapshot(Snapshot):
    """A snapshot whose files come over HTTP: a subclass lists the entries and says which request fetches one.

    Args:
        http: sends the requests; one for the whole snapshot.
    """

    def __init__(self, http: Http | None = None) -> None:
        self.http = http or Http()
        self._moved: dict[str, HttpRequest] = {}

    def use_limits(self, limits: FetchLimits) -> None:
        """See `Snapshot.use_limits`."""
        self.http.use_limits(limits)

    @abstractmethod
    def request(self, entry: Entry) -> HttpRequest:
        """The request for the whole file, with credentials, and with If-Match where the server knows it.

        Called for every range, from many threads.
        """

    def digests_in(self, headers: Headers) -> tuple[Digest, ...]:
        """The digests of the whole file that an answer's headers have; called for answers with the whole file."""
        del headers
        return ()

    def refusal(self, entry: Entry, status: int, headers: Headers, body: bytes) -> FetchError | None:
        """What an answer that is no success means here; None for what it means everywhere."""
        del entry, status, headers, body
        return None

    def is_other(self, entry: Entry, headers: Headers) -> bool:
        """Whether the headers of an answer say that it is of another version than the one that was listed."""
        del entry, headers
        return False

    @contextlib.contextmanager
    def open(self, entry: Entry, start: int, stop: int) -> Iterator[Reader]:
        """See `Snapshot.open`."""
        whole = start == 0 and stop == entry.size
        response, url = self._send(entry, None if whole else f"bytes={start}-{stop - 1}")
        try:
            with reading(url):
                self._check(entry, response, start, stop)
            digests = self.digests_in(response.headers) if whole else ()
            yield _Body(response, url, stop - start, digests, ends=entry if stop == entry.size else None)
        finally:
            self.http.close_unread(response)

    def _send(self, entry: Entry, wanted: str | None) -> tuple[Response, str]:
        """Ask where the last redirect led to, as long as that is answered: a range should not cost two round trips."""
        known = self._moved.get(entry.path) if wanted else None
        extra = {"Range": wanted} if wanted else {}
        if known is not None:
            response, url = self.http.send(attrs.evolve(known, headers={**known.headers, **extra}))
            if response.status < HTTPStatus.BAD_REQUEST:
                return response, url
            self.http.close_unread(response)
            self._moved.pop(entry.path, None)  # signed URLs expire
        asked = self.request(entry)
        response, url = self.http.send(attrs.evolve(asked, headers={**asked.headers, **extra}))
        if wanted and url != asked.url and response.status == HTTPStatus.PARTIAL_CONTENT:
            self._moved[entry.path] = _redirected(asked, url, HTTPStatus.FOUND)
        return response, url

    def _check(self, entry: Entry, response: http.client.HTTPResponse, start: int, stop: int) -> None:
        """Raise unless the answer is the range that was asked for; skip to its start where the server knows no ranges."""
        if response.status >= HTTPStatus.BAD_REQUEST or response.status in _MOVED:
            body = response.read(_LONGEST_MESSAGE)
            refused = self.refusal(entry, response.status, response.headers, body)
            raise refused or refusal(f"{entry.path} of {shown(self.request(entry).url)}", response)
        size = size_of(response)
        if size is not None and size != entry.size:
            raise SourceChanged(f"{entry.path} has {size} bytes now, and {entry.size} when it was listed.")
        if self.is_other(entry, response.headers):
            raise SourceChanged(f"{entry.path} is not the version that was listed any more.")
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            expected = f"bytes {start}-{stop - 1}/"
            if not (response.getheader("Content-Range") or "").startswith(expected):
                cause = f"The server sent another range of {entry.path} than bytes {start} to {stop}."
                raise FetchError(cause, remedy="Check what stands between.", code=ExitCode.TRY_AGAIN)
        else:
            _skip(response, start)


class _Body:
    """A `Reader` of an answer; `ends` is the file whose end is read, after which nothing may come."""

    def __init__(
        self, response: Response, url: str, length: int, digests: tuple[Digest, ...], *, ends: Entry | None
    ) -> None:
        self.digests = digests
        self._response = response
        self._url = url
        self._left = length
        self._ends = ends

    def readinto(self, buffer: memoryview, /) -> int:
        """See `Reader.readinto`."""
        with reading(self._url):
            # As much as one read of the socket gives: `readinto` would fill the buffer, however long a drip takes.
            count = self._response.readinto1(buffer[: self._left]) if self._left else 0
        if not count and self._left:
            raise broke_off(self._url, f"{self._left} bytes are missing")
        self._left -= count
        if not self._left and not self._response.isclosed():
            with reading(self._url):  # to its end, so the connection can be used again
                more = self._response.readinto(bytearray(1))
            if more and self._ends is not None:
                raise SourceChanged(f"{self._ends.path} is longer than the {self._ends.size} bytes that were listed.")
        return count


def _redirected(request: HttpRequest, location: str, status: int) -> HttpRequest:
    url = urljoin(request.url, location)
    old, new = urlsplit(request.url), urlsplit(url)
    if (old.scheme, old.netloc) == (new.scheme, new.netloc):
        # As every client does it; see RFC 9110, 15.4.
        keeps = request.method != "POST" or status in (HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT)
        return attrs.evolve(request, url=url) if keeps else HttpRequest(url=url, headers=request.headers)
    if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme == "http"):
        cause = f"{shown(request.url)} redirects to {shown(url)}, which is not encrypted."
        raise FetchError(cause, remedy="Check the endpoint.", code=ExitCode.BAD_DATA)
    return HttpRequest(url=url, headers={k: v for k, v in request.headers.items() if k.lower() in _GENERAL})


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}


def _skip(response: http.client.HTTPResponse, count: int) -> None:
    while count > 0 and (skipped := response.read(min(count, 1 << 20))):
        count -= len(skipped)
