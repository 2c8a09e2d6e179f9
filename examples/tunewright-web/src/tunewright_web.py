"""Single files from web servers, for Tunewright: a complete plugin to use as a template.

train(model="file:///models/tiny", dataset="web+https://data.example/train.jsonl", trainer="hf")
"""

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
_SCHEME = "web+"
_DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)


# Without slots: two base classes with slots cannot be combined, and DatasetProvider has them.
@attrs.frozen(kw_only=True, slots=False)
class WebSource(SourceProvider):
    """A single file on a web server.

    Attributes:
        token: bearer token, sent as `Authorization: Bearer …`. It is sent only to the URI's own server, and not to a
            server that this one redirects to.
        sha256: SHA-256 of the file in hexadecimal digits. A file with any other digest is refused.
        etag: entity tag of the expected version, as the server writes it, with its quotes. Other versions are refused.
        timeout: seconds without a response after which the server counts as unavailable.
    """

    token: str | SecretRef | None = secret(env="TUNEWRIGHT_HTTP_TOKEN")
    sha256: str | None = attrs.field(default=None)
    etag: str | None = attrs.field(default=None)
    timeout: float = 30.0

    def __attrs_post_init__(self) -> None:
        """Refuse invalid fields before anything is created."""
        if isinstance(self.token, str) and not (self.token.isascii() and self.token.isprintable()):
            # http.client would refuse the token, too, but show it in its message.
            raise RequestError("is not a line of ASCII text", field="token", remedy="Pass only the token.")
        uris = [u for u in (self.uri, getattr(self, "eval_dataset", None)) if u is not None]
        for uri in uris:
            file_name(uri)
        pinned = "sha256" if self.sha256 is not None else "etag"
        if len(uris) > 1 and getattr(self, pinned) is not None:
            remedy = "Pass eval_dataset= to train(), with a provider of its own."
            raise RequestError("applies to one file, but there are two URIs", field=pinned, remedy=remedy)
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", self.sha256):
            remedy = "Pass the 64 hexadecimal digits that `sha256sum` prints."
            raise RequestError("is not a SHA-256 digest", field="sha256", value=self.sha256, remedy=remedy)
        if self.etag is not None and not re.fullmatch(r'"[\x21\x23-\x7e]*"', self.etag):
            remedy = "Pass a strong entity tag with its quotes, as `curl -I` shows it."
            raise RequestError("is not a strong entity tag", field="etag", value=self.etag, remedy=remedy)
        if not 0 < self.timeout < float("inf"):
            remedy = "Pass a number of seconds."
            raise RequestError("must be greater than 0", field="timeout", value=self.timeout, remedy=remedy)

    def download(self, target: Path) -> None:
        """Download the file into `target`, under the last segment of the URI's path.

        Raises:
            FetchError: the file could not be downloaded. UNAVAILABLE (the server fails or does not respond) and TRY_AGAIN
                (the download was interrupted) are retried; NOT_FOUND, NO_PERMISSION, BAD_DATA and NO_SPACE are final.
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
            raise FetchError(cause, remedy="Correct sha256=, or find out why the file changed.", code=ExitCode.BAD_DATA)

    def _open(self) -> http.client.HTTPResponse:
        request = urllib.request.Request(self.uri.removeprefix(_SCHEME))
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
class WebModel(WebSource, ModelProvider):
    """A model in a single file."""

    def download_model(self, target: Path) -> None:
        """See `WebSource.download`."""
        self.download(target)


@attrs.frozen(kw_only=True)
class WebDataset(WebSource, DatasetProvider):
    """A dataset in a single file."""

    def download_dataset(self, target: Path) -> None:
        """See `WebSource.download`."""
        self.download(target)


def file_name(uri: str) -> str:
    """Return the file name at the end of a URI.

    Raises:
        RequestError: the URI is not the URL of a file on a web server, or its file name could lead out of a folder.
    """
    parts = _split(uri)
    # The message omits the value, as the user name may be a token.
    if "@" in parts.netloc:
        raise RequestError("contains a user name or password", field="uri", remedy="Pass token= instead.")
    name = unquote(parts.path.rpartition("/")[2])
    plain = uri.isascii() and uri.isprintable() and " " not in uri
    web = uri.startswith(_SCHEME) and parts.scheme in ("http", "https") and parts.hostname and plain
    if not web or parts.fragment or name in ("", ".", "..") or not name.isprintable() or set('/\\:*?"<>|') & set(name):
        remedy = "Write it as web+https://host/path/name, percent-encoded where necessary."
        raise RequestError("is not the URL of a file", field="uri", value=uri, remedy=remedy)
    return name


def _split(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri.removeprefix(_SCHEME))
        _ = parts.port  # raises if it is not a port
    except (ValueError, TypeError):
        raise RequestError("is not a URL", field="uri", remedy="Write it as web+https://host/path/name.") from None
    return parts


def _check_length(uri: str, promised: str | None, received: int) -> None:
    # http.client does not raise when read(n) finds that the body ends too early.
    if promised is not None and promised != str(received):
        cause = f"The download of {uri} was interrupted after {received} of {promised} bytes."
        raise FetchError(cause, remedy="It will be retried.", code=ExitCode.TRY_AGAIN)


@contextmanager
def _fetch_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise _refusal(uri, error) from error
    except http.client.IncompleteRead as error:
        cause = f"The download of {uri} was interrupted."
        raise FetchError(cause, remedy="It will be retried.", code=ExitCode.TRY_AGAIN) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        remedy = "Check that the server can be reached from the machine or pod that runs the step."
        raise FetchError(f"{uri} does not respond: {reason}.", remedy=remedy, code=ExitCode.UNAVAILABLE) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        cause = f"There is not enough space for {uri}: {error.strerror}."
        raise FetchError(cause, remedy="Request a larger volume.", code=ExitCode.NO_SPACE) from error


def _refusal(uri: str, error: urllib.error.HTTPError) -> FetchError:
    said = f"The server responded to {uri} with {error.code} {error.reason}."
    if error.code in _GONE:
        return FetchError(said, remedy="Correct the URI.", code=ExitCode.NOT_FOUND)
    if error.code in _DENIED:
        return FetchError(said, remedy="Pass token=, with a token that may read the file.", code=ExitCode.NO_PERMISSION)
    if error.code in _BUSY:
        return FetchError(said, remedy="It will be retried.", code=ExitCode.TRY_AGAIN)
    if error.code == HTTPStatus.PRECONDITION_FAILED:
        return _changed(said)
    if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        remedy = "If this persists, contact the server's administrator."
        return FetchError(said, remedy=remedy, code=ExitCode.UNAVAILABLE)
    return FetchError(said, remedy="Open the URI in a browser.", code=ExitCode.BAD_DATA)


def _changed(cause: str) -> FetchError:
    return FetchError(cause, remedy="The file has changed: correct etag=, or leave it out.", code=ExitCode.BAD_DATA)


@hookimpl
def tunewright_model_provider() -> type[ModelProvider]:  # noqa: D103 - the hookspec documents it
    return WebModel


@hookimpl
def tunewright_dataset_provider() -> type[DatasetProvider]:  # noqa: D103 - the hookspec documents it
    return WebDataset
