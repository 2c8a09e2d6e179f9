"""The meaning of HTTP responses: errors that say what to do, and sizes."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import os
import re
import ssl
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

import attrs

from tunewright.errors import ExitCode, FetchError, SourceChanged

_BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_PROXY = "Give the proxy's user and password in init_env: https_proxy=http://USER:PASSWORD@HOST:PORT."
_DENIED = (ExitCode.NO_PERMISSION, "Give a credential that has the permission.")
_GONE = (ExitCode.NOT_FOUND, "Check the URI.")
_FINAL = {
    HTTPStatus.UNAUTHORIZED: _DENIED,
    HTTPStatus.FORBIDDEN: _DENIED,
    HTTPStatus.NOT_FOUND: _GONE,
    HTTPStatus.GONE: _GONE,
    HTTPStatus.NOT_IMPLEMENTED: (
        ExitCode.BAD_DATA,
        "Check the URI and the endpoint: the server does not know such a request.",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
        ExitCode.BAD_DATA,
        "Have the limit raised on the size of what the server, or a proxy before it, accepts.",
    ),
    HTTPStatus.INSUFFICIENT_STORAGE: (ExitCode.NO_SPACE, "Make room at the server, or have the quota raised."),
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: (ExitCode.NO_PERMISSION, f"It is the proxy that refuses. {_PROXY}"),
}
_CHANGED = (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)

_LONGEST_WORDS = 4096  # bytes of a body that are searched
_MOST_WORDS = 300  # characters that are shown
_MESSAGES = ("html", "xml", "json")  # kinds of contents in which servers say something
_IN_JSON = re.compile(
    r'"(?:message|msg|error|errors|detail|title|reason|error_description)"\s*:\s*\[?\s*("(?:[^"\\]|\\.)*")',
    re.IGNORECASE,
)
_IN_XML = re.compile(r"<message>([^<]*)</message>", re.IGNORECASE)
_TITLE = re.compile(r"<title>([^<]*\S[^<]*)</title>", re.IGNORECASE)
_UNSEEN = re.compile(r"<(style|script|head)\b.*?</\1>", re.IGNORECASE | re.DOTALL)
_OTHER_NAME = "Give the server by a name that its certificate has."
_NOT_NOW = "Check the clock of where the step runs, and have the server's operator renew the certificate."
# By OpenSSL's X509_V_ERR_…: CERT_NOT_YET_VALID, CERT_HAS_EXPIRED, HOSTNAME_MISMATCH, IP_ADDRESS_MISMATCH.
_OF_CERTIFICATES = {9: _NOT_NOW, 10: _NOT_NOW, 62: _OTHER_NAME, 64: _OTHER_NAME}
_TUNNEL = re.compile(r"Tunnel connection failed: (.*)")
_TAG = re.compile(r"<[^>]*>")

Headers = http.client.HTTPMessage
"""Headers of a response; `get` and `in` ignore case."""


class Answered(Protocol):
    """Status and headers of a response, as `http.client.HTTPResponse` has them."""

    status: int
    reason: str
    headers: Headers


@attrs.define(kw_only=True)
class _Answer:
    status: int
    reason: str
    headers: Headers


def answered(status: int, headers: Headers, reason: str | None = None) -> Answered:
    """Return the status and headers of a response as `refusal` takes them; the reason is the status's usual one by default."""
    return _Answer(
        status=status, reason=http.client.responses.get(status, "") if reason is None else reason, headers=headers
    )


def refusal(what: str, response: Answered, body: bytes = b"") -> FetchError:
    """Return the error for an unsuccessful response.

    Args:
        what: what was requested, without secrets.
        response: the response.
        body: the beginning of its body, whose words become part of the message.
    """
    said = f"The request for {what} failed with {status_of(response)}.{words_of(body)}"
    wait = retry_after(response.headers)
    if response.status in _CHANGED:
        return SourceChanged(f"{said} It has changed since it was listed.")
    if response.status in _FINAL:
        code, remedy = _FINAL[HTTPStatus(response.status)]
        return FetchError(said, remedy=remedy, code=code)
    if response.status in _BUSY:
        remedy = "Start it again later. If this persists, ask the operator of the server for more requests."
        return FetchError(said, remedy=remedy, code=ExitCode.TRY_AGAIN, retry_after=wait)
    if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        remedy = "If this persists, tell the operator of the server."
        return FetchError(said, remedy=remedy, code=ExitCode.UNAVAILABLE, retry_after=wait)
    return FetchError(said, remedy="Check the URI and the endpoint.", code=ExitCode.BAD_DATA)


def status_of(response: Answered) -> str:
    """Return a response's status with its reason, which many servers leave out."""
    return f"{response.status} {response.reason}".strip()


def unavailable(url: str, error: Exception, proxy: SplitResult | None = None) -> FetchError:
    """Return the error for a server that does not respond.

    Args:
        url: the URL that was asked for.
        error: what happened.
        proxy: the URL of the proxy that was asked, if one was.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        cause = f"The certificate of {shown(url)} is not trusted: {error.verify_message.rstrip('.')}."
        if (named := os.environ.get("SSL_CERT_FILE")) and not os.path.isfile(named):  # noqa: PTH113 - OpenSSL's own path
            cause += f" SSL_CERT_FILE names {named}, which is not a file."
        usual = "Mount your certificate authority's certificates, and set SSL_CERT_FILE to the file in init_env."
        remedy = _OF_CERTIFICATES.get(error.verify_code, usual)
        return FetchError(cause, remedy=remedy, code=ExitCode.USAGE)
    if isinstance(error, OSError) and (tunnel := _TUNNEL.search(str(error))):
        cause = f"The proxy on the way to {shown(url)} refused the connection: {tunnel[1]}."
        if tunnel[1].startswith(("407", "401")):
            return FetchError(cause, remedy=_PROXY, code=ExitCode.NO_PERMISSION)
        remedy = "Let the proxy pass it, or name the host in no_proxy, both in init_env."
        return FetchError(cause, remedy=remedy, code=ExitCode.UNAVAILABLE)
    through = "" if proxy is None else f" through the proxy {proxy.hostname}:{proxy.port or 80}"
    cause = f"{shown(url)} does not respond{through}: {error or type(error).__name__}."
    remedy = "Check that the server is reachable from where the step runs."
    if proxy is not None:
        remedy = "Check the variables http_proxy, https_proxy and no_proxy, and that the proxy is reachable from where the step runs."
    return FetchError(cause, remedy=remedy, code=ExitCode.UNAVAILABLE)


def words_of(body: bytes) -> str:
    """Return what a server says in the body of a refusal, as a sentence for a message; "" if it says nothing readable.

    Args:
        body: XML or HTML, JSON with a message, or text.
    """
    import html

    text = body[:_LONGEST_WORDS].decode(errors="replace").strip()
    if text.startswith(("{", "[")):
        text = " ".join(dict.fromkeys(_unquoted(match[1]) for match in _IN_JSON.finditer(text))) or text
    elif inside := _IN_XML.search(text):
        text = inside[1]
    elif "<html" in text.lower():
        found = _TITLE.search(text)
        text = found[1] if found else _UNSEEN.sub(" ", text)
    text = " ".join(html.unescape(_TAG.sub(" ", text)).split())
    if not text.isprintable() or not any(map(str.isalnum, text)):
        return ""
    return f" The server says: {text[:_MOST_WORDS].rstrip('.')}."


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text, strict=False))
    except ValueError:
        return text.strip('"')


def retry_after(headers: Headers) -> float | None:
    """Return the seconds of a Retry-After header, which is a number or a date; see RFC 9110, 10.2.3."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def shown(url: str) -> str:
    """Return a URL for messages: without its query, which may contain a signature, and without a user."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def size_of(response: http.client.HTTPResponse) -> int | None:
    """Return the bytes of the whole file, as far as the response to a request for the file or a range of it says."""
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        total = (response.getheader("Content-Range") or "").rpartition("/")[2]
        return int(total) if total.isdecimal() else None
    length = response.getheader("Content-Length") or ""
    return int(length) if length.isdecimal() else None


def said_instead(path: str, size: int, response: http.client.HTTPResponse) -> FetchError | None:
    """Return the error for a response that says something in place of a file, with a status that means success; None for a file.

    Args:
        path: the file.
        size: its bytes.
        response: of another size.
    """
    kind = (response.getheader("Content-Type") or "").lower()
    if path.lower().endswith(_MESSAGES) or not any(name in kind for name in _MESSAGES):
        return None
    words = words_of(response.read(_LONGEST_WORDS))
    if not words:
        return None
    cause = (
        f"The request for {path}, which has {size} bytes, was answered with {size_of(response)} bytes of {kind}.{words}"
    )
    remedy = "Check for a page to log in, or a proxy in between."
    return FetchError(cause, remedy=remedy, code=ExitCode.TRY_AGAIN)


def cut_off(url: str, why: str) -> FetchError:
    """Return the error for a response that is cut off."""
    remedy = "Start it again, which goes on from what has arrived. If this persists, check the network and the proxies on the way."
    return FetchError(f"The response from {shown(url)} was cut off: {why}.", remedy=remedy, code=ExitCode.TRY_AGAIN)


@contextlib.contextmanager
def reading(url: str) -> Iterator[None]:
    """Turn errors while a response is read into FetchErrors.

    Raises:
        FetchError: TRY_AGAIN: the response was cut off, or has stalled.
    """
    try:
        yield
    except (http.client.HTTPException, OSError) as error:
        raise cut_off(url, str(error) or type(error).__name__) from error
