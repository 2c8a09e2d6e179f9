"""HTTP for the fetch engine: ranges over persistent connections, and errors that say what to do.

It builds on the standard library's client, the fastest per request of those without a runtime of their own: for many small
files the CPU is the bottleneck, not the network.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import threading
import urllib.request
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import cast
from urllib.parse import SplitResult, urljoin, urlsplit

import attrs

from tunewright._convert import to_dict
from tunewright.errors import ExitCode, FetchError, RangeRefused, SourceChanged
from tunewright.providers.limits import FetchLimits
from tunewright.providers.snapshots import Digest, Entry, Reader, Snapshot
from tunewright_launcher.answers import Headers, cut_off, reading, refusal, said_instead, shown, size_of, unavailable
from tunewright_launcher.coding import Decoded, decoded, is_encoded
from tunewright_launcher.connection import Connection, Response
from tunewright_launcher.proxies import proxy_for
from tunewright_launcher.url_user import basic, without_user

_MOVED = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
# Answers of servers that know no ranges, or not this one; a request for the whole file shows what is wrong otherwise.
_NO_RANGES = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, HTTPStatus.NOT_IMPLEMENTED)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/")
_LONGEST_MESSAGE = 64 << 10
_URL = re.compile(r"(https?://[^/?#]+)([^#]*)")
# Headers that may be sent to another host than the one that they were meant for.
_GENERAL = ("range", "accept", "accept-encoding", "user-agent")


@attrs.frozen(kw_only=True)
class HttpRequest:
    """A request. It may be sent twice, so it must be idempotent.

    Attributes:
        url: absolute, percent-encoded.
        headers: credentials and conditions. They are dropped if the server redirects to another host.
        method: "GET", "POST", …
        body: of a POST or PUT; a path for the contents of a file. It is never sent to another host than the one that it was meant for.
    """

    url: str
    headers: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)
    method: str = "GET"
    body: bytes | Path | None = attrs.field(default=None, repr=False)


class Http:
    """Send requests. Each thread has its own persistent connections.

    Args:
        timeout: seconds without data after which a server counts as unavailable; None for `FetchLimits.stall`.
        ca_bundle: file with the certificates to trust instead of the system's.
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
        """Take the timeout from the limits, unless one was given."""
        self._timeout = limits.stall if self._given_timeout is None else self._given_timeout

    def send(self, request: HttpRequest) -> tuple[Response, str]:
        """Return the response after redirects, whatever its status, and the URL that it came from.

        Raises:
            FetchError: UNAVAILABLE: the server does not respond; TRY_AGAIN: a redirect was cut off; BAD_DATA: endless
                redirects, or one to plain HTTP.
        """
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._once(request)
            self._thread.url = request.url
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

    @property
    def answered_by(self) -> str:
        """The URL that the last response of this thread came from, after redirects; "" before the first one."""
        return getattr(self._thread, "url", "")

    def ask(self, request: HttpRequest, longest: int) -> tuple[Response, bytes]:
        """Return the response, whatever its status, with its short body.

        Args:
            request: the request.
            longest: maximum bytes of the body.

        Raises:
            FetchError: as `send`; TRY_AGAIN: the body was cut off; BAD_DATA: it is longer.
        """
        response, url = self.send(request)
        try:
            with reading(url):
                body = response.read(longest)
            left = response.length
        finally:
            self.close_unread(response)
        if left and len(body) < longest:
            raise cut_off(url, f"{left} bytes are missing")
        if left or len(body) == longest:
            cause = f"{shown(url)} responded with more than {longest} bytes."
            raise FetchError(cause, remedy="Check the endpoint.", code=ExitCode.BAD_DATA)
        return response, body

    def close_unread(self, response: http.client.HTTPResponse) -> None:
        """Close the connection of a response that was not read to its end; the rest would be taken for the next response."""
        if not response.isclosed():
            response.close()
            # A thread reads one response at a time.
            if connection := self._kept().pop(self._thread.last, None):
                connection.close()

    def _kept(self) -> dict[str, Connection]:
        if not hasattr(self._thread, "connections"):
            self._thread.connections = {}
        return cast("dict[str, Connection]", self._thread.connections)

    def _once(self, request: HttpRequest) -> Response:
        match = _URL.match(request.url)
        if match is None:
            cause = f"{shown(request.url)} is not the URL of a web server."
            raise FetchError(cause, remedy="Check the endpoint.", code=ExitCode.BAD_DATA)
        key, path = match.groups()
        self._thread.last = key
        connection = self._kept().get(key)
        if connection is not None:
            # A server may close an idle connection, which says nothing about the request.
            with contextlib.suppress(http.client.HTTPException, OSError):
                return self._ask(connection, request, key, path)
            connection.close()
        try:
            connection = self._kept()[key] = Connection(self._connect(self._origin(key)))
            return self._ask(connection, request, key, path)
        except (http.client.HTTPException, OSError) as error:
            if connection := self._kept().pop(key, None):
                connection.close()
            raise unavailable(request.url, error, self._origin(key).proxy) from error

    def _ask(self, connection: Connection, request: HttpRequest, origin: str, path: str) -> Response:
        known = self._origin(origin)
        target = f"{known.prefix}{'' if path.startswith('/') else '/'}{path}"
        usual = {"Host": known.parts.netloc, "Accept-Encoding": "identity", **known.headers}
        headers = {**usual, **request.headers}.items()
        try:
            return connection.ask(request.method, target, headers, request.body, self._timeout)
        except OSError:  # a certificate that is not trusted is a ValueError, too
            raise
        except ValueError as error:
            cause = f"The request to {shown(request.url)} is invalid: {error}."
            remedy = "Check whether a credential contains a line break, or was copied incompletely."
            raise FetchError(cause, remedy=remedy, code=ExitCode.USAGE) from None

    def _origin(self, key: str) -> _Origin:
        if key not in self._origins:
            parts = urlsplit(key)
            proxy = proxy_for(parts, self._proxies)
            plain = proxy if parts.scheme == "http" else None
            self._origins[key] = _Origin(
                parts, proxy, key if plain else "", basic("Proxy-Authorization", plain) if plain else {}
            )
        return self._origins[key]

    def _connect(self, origin: _Origin) -> http.client.HTTPConnection:
        parts, proxy = origin.parts, origin.proxy
        host, port = (proxy.hostname, proxy.port) if proxy else (parts.hostname, parts.port)
        if parts.scheme != "https":
            return http.client.HTTPConnection(host or "", port, timeout=self._timeout)
        connection = http.client.HTTPSConnection(host or "", port, timeout=self._timeout, context=self._context())
        if proxy:
            connection.set_tunnel(parts.hostname or "", parts.port or 443, headers=basic("Proxy-Authorization", proxy))
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=self._ca_bundle)
        return self._tls


@attrs.frozen
class _Origin:
    """A server: the parts of its base URL, and the proxy for it.

    The prefix of paths and the additional headers are for a proxy that receives the requests themselves, without TLS.
    """

    parts: SplitResult
    proxy: SplitResult | None
    prefix: str
    headers: Mapping[str, str]


class HttpSnapshot(Snapshot):
    """A snapshot whose files are downloaded over HTTP. A subclass lists the entries and makes the request for each.

    Args:
        http: sends the requests of the whole snapshot.
    """

    def __init__(self, http: Http | None = None) -> None:
        self.http = http or Http()
        self._moved: dict[str, HttpRequest] = {}

    def use_limits(self, limits: FetchLimits) -> None:
        """See `Snapshot.use_limits`."""
        self.http.use_limits(limits)

    @abstractmethod
    def request(self, entry: Entry) -> HttpRequest:
        """Return the request for the whole file, with credentials, and with If-Match if the server supports it.

        Called for every range, from many threads.
        """

    def digests_in(self, headers: Headers) -> tuple[Digest, ...]:
        """Return the digests of the whole file in a response's headers; called for responses with the whole file."""
        del headers
        return ()

    def refusal(self, entry: Entry, status: int, headers: Headers, body: bytes) -> FetchError | None:
        """Return the error for an unsuccessful response of this server; None for the usual one."""
        del entry, status, headers, body
        return None

    def asks_again(self, request: HttpRequest, status: int) -> bool:
        """Return whether to ask once more, with what `request` returns then: this one had a header that not every server knows."""
        del request, status
        return False

    def is_other(self, entry: Entry, headers: Headers) -> bool:
        """Return whether a response's headers show another version of the file than the one that was listed."""
        del entry, headers
        return False

    @contextlib.contextmanager
    def open(self, entry: Entry, start: int, stop: int) -> Iterator[Reader]:
        """See `Snapshot.open`."""
        wanted = None if start == 0 and stop == entry.size else f"bytes={start}-{stop - 1}"
        response, url = self._send(entry, wanted)
        try:
            with reading(url):
                self._check(entry, response, ranged=wanted is not None)
            if is_encoded(response, entry.size):
                yield _Body(decoded(response, f"{entry.path} of {shown(url)}"), url, entry.size, (), ends=entry)
            elif response.status == HTTPStatus.PARTIAL_CONTENT:
                end = min(stop, _end_of_range(entry, response, start))
                yield _Body(response, url, end - start, (), ends=entry if end == entry.size else None)
            else:
                digests = self.digests_in(response.headers)
                yield _Body(response, url, entry.size, digests, ends=entry, whole=wanted is not None)
        finally:
            self.http.close_unread(response)

    def _send(self, entry: Entry, wanted: str | None) -> tuple[Response, str]:
        """Send the request to where the last redirect led, as long as that works: a range should not cost two round trips."""
        known = self._moved.get(entry.path) if wanted else None
        extra = {"Range": wanted} if wanted else {}
        if known is not None:
            response, url = self.http.send(_with(known, extra))
            if response.status < HTTPStatus.BAD_REQUEST:
                return response, url
            self.http.close_unread(response)
            self._moved.pop(entry.path, None)  # signed URLs expire
        asked = self.request(entry)
        response, url = self.http.send(_with(asked, extra))
        if response.status >= HTTPStatus.BAD_REQUEST and self.asks_again(asked, response.status):
            self.http.close_unread(response)
            asked = self.request(entry)
            response, url = self.http.send(_with(asked, extra))
        if wanted and url != asked.url and response.status == HTTPStatus.PARTIAL_CONTENT:
            self._moved[entry.path] = _redirected(asked, url, HTTPStatus.FOUND)
        return response, url

    def _check(self, entry: Entry, response: http.client.HTTPResponse, *, ranged: bool) -> None:
        """Raise unless the response has bytes of the file that was listed."""
        if ranged and response.status in _NO_RANGES:
            raise RangeRefused(f"The request for a range of {entry.path} failed with {response.status}.")
        if response.status >= HTTPStatus.BAD_REQUEST or response.status in _MOVED:
            body = response.read(_LONGEST_MESSAGE)
            refused = self.refusal(entry, response.status, response.headers, body)
            raise refused or refusal(f"{entry.path} of {shown(self.request(entry).url)}", response, body)
        if self.is_other(entry, response.headers):
            raise SourceChanged(f"{entry.path} is no longer the version that was listed.")
        if is_encoded(response, entry.size):
            if ranged:
                raise RangeRefused(f"The source sends {entry.path} compressed, so that ranges are not its own.")
            return
        size = size_of(response)
        if size in (None, entry.size):
            return
        if not ranged:
            if refused := said_instead(entry.path, entry.size, response):
                raise refused
            raise SourceChanged(f"{entry.path} has {size} bytes now, but had {entry.size} when it was listed.")
        if response.status != HTTPStatus.PARTIAL_CONTENT or not entry.digests:  # which decide, whatever the total
            raise RangeRefused(f"The source answered a range of {entry.path} with the size {size}, not {entry.size}.")


class _Body:
    """A `Reader` of a response; `ends` is the file that ends with it, after which nothing may follow."""

    def __init__(
        self,
        response: Response | Decoded,
        url: str,
        length: int,
        digests: tuple[Digest, ...],
        *,
        ends: Entry | None,
        whole: bool = False,
    ) -> None:
        self.digests = digests
        self.whole = whole
        self._response = response
        self._url = url
        self._left = length
        self._ends = ends

    def readinto(self, buffer: memoryview, /) -> int:
        """See `Reader.readinto`."""
        with reading(self._url):
            # As much as one read of the socket returns: `readinto` would wait until the buffer is full.
            count = self._response.readinto1(buffer[: self._left]) if self._left else 0
        if not count and self._left:
            raise cut_off(self._url, f"{self._left} bytes are missing")
        self._left -= count
        if not self._left and not self._response.isclosed():
            with reading(self._url):  # to its end, so that the connection can be reused
                more = self._response.readinto(bytearray(1))
            if more and self._ends is not None:
                raise SourceChanged(f"{self._ends.path} is longer than the {self._ends.size} bytes that were listed.")
        return count


def _with(request: HttpRequest, extra: Mapping[str, str]) -> HttpRequest:
    return attrs.evolve(request, headers={**request.headers, **extra}) if extra else request


def _redirected(request: HttpRequest, location: str, status: int) -> HttpRequest:
    url, own = without_user(urljoin(request.url, location))
    old, new = urlsplit(request.url), urlsplit(url)
    if (old.scheme, old.netloc) == (new.scheme, new.netloc):
        # As all clients do; see RFC 9110, 15.4.
        keeps = request.method != "POST" or status in (HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT)
        return attrs.evolve(request, url=url) if keeps else HttpRequest(url=url, headers=request.headers)
    if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme == "http"):
        cause = f"{shown(request.url)} redirects to {shown(url)}, which is not encrypted."
        raise FetchError(cause, remedy="Check the endpoint.", code=ExitCode.BAD_DATA)
    return HttpRequest(url=url, headers={**{k: v for k, v in request.headers.items() if k.lower() in _GENERAL}, **own})


def _end_of_range(entry: Entry, response: http.client.HTTPResponse, start: int) -> int:
    """Return where a range ends that begins at `start`; a server may send less than was asked for, see RFC 9110, 14.2."""
    sent = response.getheader("Content-Range") or ""
    match = _CONTENT_RANGE.match(sent)
    if match is None or int(match[1]) != start or int(match[2]) < start:
        cause = f"The source sent another range of {entry.path} than the one from byte {start}: {sent or 'it does not say which'}."
        raise RangeRefused(cause)
    return int(match[2]) + 1
