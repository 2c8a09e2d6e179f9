"""Models and datasets from web servers, for Tunewright: a complete plugin, to copy from.

train(model="file:///models/tiny", dataset="https://data.example/train.jsonl", trainer="hf")
"""
# ruff: noqa: RUF009 - secret() makes an attrs field

from __future__ import annotations

import errno
import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

import attrs

from tunewright import DatasetProvider, ExitCode, FetchError, ModelProvider, RequestError, SecretRef, hookimpl, secret
from tunewright.providers import SourceProvider

_CHUNK = 1 << 20
_DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)


# Slots of a mixin and of DatasetProvider could not be joined in one class.
@attrs.frozen(kw_only=True, slots=False)
class HttpSource(SourceProvider):
    """One file of a web server.

    Attributes:
        token: sent as `Authorization: Bearer …`, to the URI's own server and not where that redirects to.
        sha256: of the file, in hexadecimal digits; what arrives with another is refused.
        etag: of the version that is meant, as the server writes it, quotes included; another version is refused.
        timeout: seconds without an answer after which the server counts as unavailable.
    """

    token: str | SecretRef | None = secret(env="TUNEWRIGHT_HTTP_TOKEN")
    sha256: str | None = attrs.field(default=None)
    etag: str | None = attrs.field(default=None)
    timeout: float = 30.0

    def __attrs_post_init__(self) -> None:
        """Refuse what no server could answer, before anything is created."""
        if isinstance(self.token, str) and not (self.token.isascii() and self.token.isprintable()):
            # http.client would say so, too, and print it.
            raise RequestError("is not a line of ASCII text", field="token", remedy="Give the token alone.")
        uris = [u for u in (self.uri, getattr(self, "eval_dataset", None)) if u is not None]
        for uri in uris:
            file_name(uri)
        pinned = "sha256" if self.sha256 is not None else "etag"
        if len(uris) > 1 and getattr(self, pinned) is not None:
            remedy = "Give eval_dataset= to train(), with a provider of its own."
            raise RequestError("belongs to one file, and the URIs name two", field=pinned, remedy=remedy)
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", self.sha256):
            remedy = "Give the 64 hexadecimal digits that `sha256sum` prints."
            raise RequestError("is not a SHA-256 digest", field="sha256", value=self.sha256, remedy=remedy)
        if self.etag is not None and not re.fullmatch(r'"[\x21\x23-\x7e]*"', self.etag):
            remedy = "Give a strong one, as `curl -I` shows it, with its quotes."
            raise RequestError("is not an entity tag", field="etag", value=self.etag, remedy=remedy)
        if not 0 < self.timeout < float("inf"):
            raise RequestError("must be above 0", field="timeout", value=self.timeout, remedy="Give seconds.")

    def download(self, target: Path) -> None:
        """Write the file into `target`, under the name that the URI ends with.

        Raises:
            FetchError: UNAVAILABLE for a server that fails or does not answer, TRY_AGAIN for a file that broke off;
                both are tried again. NOT_FOUND, NO_PERMISSION, BAD_DATA and NO_SPACE are final.
        """
        with _fetch_errors(self.uri), self._open() as response, (target / file_name(self.uri)).open("wb") as file:
            self._check_version(response)
            digest, received = hashlib.sha256(), 0
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                received += len(chunk)
        _check_length(self.uri, response.headers.get("Content-Length"), received)
        if self.sha256 is not None and digest.hexdigest() != self.sha256.lower():
            cause = f"{self.uri} has the SHA-256 digest {digest.hexdigest()}, not {self.sha256.lower()}."
            raise FetchError(cause, remedy="Correct sha256=, or find out who changed the file.", code=ExitCode.BAD_DATA)

    def _open(self) -> http.client.HTTPResponse:
        request = urllib.request.Request(self.uri)
        if self.etag is not None:
            request.add_header("If-Match", self.etag)
        if self.token is not None:
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        return urllib.request.urlopen(request, timeout=self.timeout)  # type: ignore[no-any-return]

    def _check_version(self, response: http.client.HTTPResponse) -> None:
        found = response.headers.get("ETag")
        if self.etag is not None and found != self.etag:
            raise _changed(f"{self.uri} has the entity tag {found}, not {self.etag}.")


@attrs.frozen(kw_only=True)
class HttpModel(HttpSource, ModelProvider):
    """A model of one file."""

    def download_model(self, target: Path) -> None:
        """See `HttpSource.download`."""
        self.download(target)


@attrs.frozen(kw_only=True)
class HttpDataset(HttpSource, DatasetProvider):
    """A dataset of one file."""

    def download_dataset(self, target: Path) -> None:
        """See `HttpSource.download`."""
        self.download(target)


def file_name(uri: str) -> str:
    """The name of the file that a URI ends with.

    Raises:
        RequestError: the URI is none of a file on a web server, or its name could lead out of a folder.
    """
    parts = _split(uri)
    # A user name may be a token, so the value stays unsaid where there is one.
    if "@" in parts.netloc:
        raise RequestError("has a user name or password in it", field="uri", remedy="Give token= instead.")
    name = unquote(parts.path.rpartition("/")[2])
    web = (
        parts.scheme in ("http", "https") and parts.hostname and uri.isascii() and uri.isprintable() and " " not in uri
    )
    if not web or parts.fragment or name in ("", ".", "..") or not name.isprintable() or set('/\\:*?"<>|') & set(name):
        remedy = "Write it as https://host/path/name, percent-encoded where it needs to be."
        raise RequestError("is not the URL of a file", field="uri", value=uri, remedy=remedy)
    return name


def _split(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        _ = parts.port  # reading it checks it
    except (ValueError, TypeError):
        raise RequestError("is not a URL", field="uri", remedy="Write it as https://host/path/name.") from None
    return parts


def _check_length(uri: str, promised: str | None, received: int) -> None:
    # http.client ends a short body as if it were whole.
    if promised is not None and promised != str(received):
        cause = f"{uri} broke off after {received} of {promised} bytes."
        raise FetchError(cause, remedy="It is tried again.", code=ExitCode.TRY_AGAIN)


@contextmanager
def _fetch_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise _refusal(uri, error) from error
    except http.client.IncompleteRead as error:
        cause = f"{uri} broke off."
        raise FetchError(cause, remedy="It is tried again.", code=ExitCode.TRY_AGAIN) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        remedy = "Look whether the server can be reached from where the step runs."
        raise FetchError(f"{uri} gives no answer: {reason}.", remedy=remedy, code=ExitCode.UNAVAILABLE) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        cause = f"There is no room for {uri}: {error.strerror}."
        raise FetchError(cause, remedy="Ask for a larger volume.", code=ExitCode.NO_SPACE) from error


def _refusal(uri: str, error: urllib.error.HTTPError) -> FetchError:
    said = f"{uri} was answered with {error.code} {error.reason}."
    if error.code in _GONE:
        return FetchError(said, remedy="Correct the URI.", code=ExitCode.NOT_FOUND)
    if error.code in _DENIED:
        return FetchError(said, remedy="Give token=, or one that may read the file.", code=ExitCode.NO_PERMISSION)
    if error.code in _BUSY:
        return FetchError(said, remedy="It is tried again.", code=ExitCode.TRY_AGAIN)
    if error.code == HTTPStatus.PRECONDITION_FAILED:
        return _changed(said)
    if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return FetchError(said, remedy="If this stays, tell who runs the server.", code=ExitCode.UNAVAILABLE)
    return FetchError(said, remedy="Look at the URI in a browser.", code=ExitCode.BAD_DATA)


def _changed(cause: str) -> FetchError:
    return FetchError(cause, remedy="The file was changed: correct etag=, or leave it out.", code=ExitCode.BAD_DATA)


@hookimpl
def tunewright_model_provider() -> type[ModelProvider]:  # noqa: D103 - the hookspec documents it
    return HttpModel


@hookimpl
def tunewright_dataset_provider() -> type[DatasetProvider]:  # noqa: D103 - the hookspec documents it
    return HttpDataset
