"""What answers of a server mean: errors that say what to do, and sizes."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import ssl
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Protocol
from urllib.parse import urlsplit

from tunewright.errors import ExitCode, FetchError, SourceChanged

_BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_CHANGED = (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)

Headers = http.client.HTTPMessage
"""Of an answer: `get` and `in` do not mind upper and lower case."""


class Answered(Protocol):
    """What says how a request was answered; `http.client.HTTPResponse` has it."""

    status: int
    reason: str
    headers: Headers


def refusal(what: str, response: Answered) -> FetchError:
    """What the status of an answer means.

    Args:
        what: what was asked for, without secrets.
        response: the answer.
    """
    said = f"{what} was answered with {response.status} {response.reason}."
    wait = retry_after(response.headers)
    if response.status in _CHANGED:
        return SourceChanged(f"{said} It has changed since it was listed.")
    if response.status in _DENIED:
        remedy = "Give a credential that may read it."
        return FetchError(said, remedy=remedy, code=ExitCode.NO_PERMISSION)
    if response.status in _GONE:
        return FetchError(said, remedy="Check the URI.", code=ExitCode.NOT_FOUND)
    if response.status in _BUSY:
        return FetchError(said, remedy="It is tried again.", code=ExitCode.TRY_AGAIN, retry_after=wait)
    if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        remedy = "If this stays, tell who runs the server."
        return FetchError(said, remedy=remedy, code=ExitCode.UNAVAILABLE, retry_after=wait)
    return FetchError(said, remedy="Check the URI and the endpoint.", code=ExitCode.BAD_DATA)


def unavailable(url: str, error: Exception) -> FetchError:
    """What it means that there is no answer."""
    if isinstance(error, ssl.SSLCertVerificationError):
        cause = f"The certificate of {shown(url)} is not trusted: {error.verify_message}."
        remedy = "Mount your authority's certificates and name the file in init_env: SSL_CERT_FILE."
        return FetchError(cause, remedy=remedy, code=ExitCode.USAGE)
    cause = f"{shown(url)} gives no answer: {error or type(error).__name__}."
    return FetchError(
        cause, remedy="Look whether it can be reached from where the step runs.", code=ExitCode.UNAVAILABLE
    )


def retry_after(headers: Headers) -> float | None:
    """Seconds of a Retry-After header: a number, or a date; see RFC 9110, 10.2.3."""
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
    """A URL for messages: without its query, which may hold a signature, and without a user."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def size_of(response: http.client.HTTPResponse) -> int | None:
    """Bytes of the whole file, as far as the answer to a request for it, or for a range of it, tells."""
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        total = (response.getheader("Content-Range") or "").rpartition("/")[2]
        return int(total) if total.isdecimal() else None
    length = response.getheader("Content-Length") or ""
    return int(length) if length.isdecimal() else None


def broke_off(url: str, why: str) -> FetchError:
    """What it means that an answer has no end."""
    return FetchError(f"{shown(url)} broke off: {why}.", remedy="It is tried again.", code=ExitCode.TRY_AGAIN)


@contextlib.contextmanager
def reading(url: str) -> Iterator[None]:
    """While the body of an answer is read.

    Raises:
        FetchError: TRY_AGAIN: it broke off, or nothing comes any more.
    """
    try:
        yield
    except (http.client.HTTPException, OSError) as error:
        raise broke_off(url, str(error) or type(error).__name__) from error
