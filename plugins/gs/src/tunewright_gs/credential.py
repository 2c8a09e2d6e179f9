"""Google's credentials, through google-auth: default ones, a service account's key, a token, or none."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping

import google.auth
from google.auth.credentials import Credentials
from google.auth.environment_vars import CREDENTIALS
from google.auth.exceptions import (
    DefaultCredentialsError,
    GoogleAuthError,
    MalformedError,
    RefreshError,
    TransportError,
)
from google.auth.transport import Request, Response
from google.oauth2 import service_account

from tunewright import ExitCode, FetchError
from tunewright_launcher.http import Http, HttpRequest

_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
_LONGEST_ANSWER = 1 << 20
_TIMEOUT = 10.0
_GIVE = "Give service_account_key= or access_token=, or give the pod's service account a role, or anonymous=True for a public bucket."


class Credential:
    """A credential, which is refreshed when it expires. Thread-safe.

    Args:
        what: what it is for, for messages.
        key: the text of a service account's key file; None for the default credentials.
        token: an access token, which is used as it is.
        anonymous: there is none.

    Raises:
        FetchError: there is none, or the key cannot be read.
    """

    def __init__(self, what: str, *, key: str | None, token: str | None, anonymous: bool) -> None:
        self._what = what
        self._lock = threading.Lock()
        self._token = token
        self._send = _Transport()
        self._credentials: Credentials | None = None
        if anonymous or token is not None:
            return
        with self._translated():
            if key is None:
                self._credentials, _ = google.auth.default(scopes=_SCOPES)
            else:
                self._credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                    json.loads(key), scopes=_SCOPES
                )

    def headers(self) -> dict[str, str]:
        """Return the headers that carry the credential.

        Raises:
            FetchError: it cannot be refreshed.
        """
        credentials = self._credentials
        if credentials is None:
            return {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        if not credentials.valid:
            with self._lock, self._translated():
                if not credentials.valid:
                    credentials.refresh(self._send)  # type: ignore[no-untyped-call]
        return {"Authorization": f"Bearer {credentials.token}"}

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except TransportError as error:
            cause = f"Google's server for credentials does not answer, so that {self._what} cannot be read: {error}."
            remedy = "Check that it is reachable from where the step runs."
            raise FetchError(cause, remedy=remedy, code=ExitCode.UNAVAILABLE) from error
        except MalformedError as error:  # which is a DefaultCredentialsError, too
            raise self._unusable(error) from error
        except DefaultCredentialsError as error:
            if os.environ.get(CREDENTIALS):  # a file that is missing, or is not one of credentials
                raise self._unusable(error, f"Check the file that {CREDENTIALS} names.") from error
            cause = f"There is no credential for {self._what}."
            raise FetchError(cause, remedy=_GIVE, code=ExitCode.NO_PERMISSION) from error
        except RefreshError as error:
            code = ExitCode.UNAVAILABLE if error.retryable else ExitCode.NO_PERMISSION
            cause = f"Google refuses the credential for {self._what}: {_words(error)}."
            remedy = "Check the service account, its key, and the binding of Workload Identity."
            raise FetchError(cause, remedy=remedy, code=code) from error
        except (GoogleAuthError, ValueError) as error:
            raise self._unusable(error) from error

    def _unusable(
        self, error: Exception, remedy: str = "Give the whole text of the key file as service_account_key=."
    ) -> FetchError:
        cause = f"The credential for {self._what} cannot be used: {_words(error)}."
        return FetchError(cause, remedy=remedy, code=ExitCode.USAGE)


def _words(error: Exception) -> str:
    return str(error.args[0] if error.args else type(error).__name__).rstrip(".")


class _Answer(Response):
    """A response, as google-auth reads it."""

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self._status, self._headers, self._data = status, headers, data

    @property
    def status(self) -> int:
        """The status code."""
        return self._status

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""
        return self._headers

    @property
    def data(self) -> bytes:
        """The body."""
        return self._data


class _Transport(Request):
    """Sends google-auth's requests by our client, with its proxies and certificates."""

    def __init__(self) -> None:
        self._http = Http(timeout=_TIMEOUT)

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: object,
    ) -> _Answer:
        del timeout
        data = body.encode() if isinstance(body, str) else body
        request = HttpRequest(url=url, method=method, headers=dict(headers or {}), body=data)
        try:
            response, text = self._http.ask(request, _LONGEST_ANSWER)
        except FetchError as error:
            raise TransportError(error.cause.rstrip(".")) from error  # type: ignore[no-untyped-call]
        return _Answer(response.status, dict(response.headers.raw_items()), text)
