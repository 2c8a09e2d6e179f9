"""Translate botocore's errors into exit codes and remedies."""

from __future__ import annotations

import contextlib
import html
import http.client
import re
from collections.abc import Iterator
from http import HTTPStatus

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    ProxyConnectionError,
    SSLError,
)
from botocore.exceptions import (
    ConnectionError as NoConnection,
)

from tunewright import ExitCode, FetchError
from tunewright_s3.errors import is_unsupported, refused

_QUERY = re.compile(r"[?]\S*")
_TUNNEL = re.compile(r"Tunnel connection failed: ([^'\")]*)")
_PROXY = re.compile(r"(?<=//)[^/@]*@")


def is_of_unknown(error: ClientError) -> bool:
    """Return whether a store may not know the request that it has refused; see `is_unsupported`."""
    return is_unsupported(status_of(error), str(error.response.get("Error", {}).get("Code", "")))


def status_of(error: ClientError) -> int:
    """Return the status code of a refusal."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextlib.contextmanager
def translated(what: str, *, pays: bool = False) -> Iterator[None]:
    """Translate botocore's errors.

    Args:
        what: what is requested, without secrets.
        pays: whether the request says who pays.

    Raises:
        FetchError: in place of a botocore error.
    """
    try:
        yield
    except ClientError as error:
        raise _of_answer(what, error, pays=pays) from error
    except BotoCoreError as error:
        raise _of_botocore(what, error) from error


def _of_answer(what: str, error: ClientError, *, pays: bool) -> FetchError:
    about = error.response.get("ResponseMetadata", {})
    code = str(error.response.get("Error", {}).get("Code", ""))
    if error.operation_name.startswith("AssumeRole"):
        cause = f"The role for {what} could not be assumed: {code}."
        remedy = "Check the role's trust policy, and the annotation of the service account."
        return FetchError(cause, remedy=remedy, code=ExitCode.NO_PERMISSION)
    message = str(error.response.get("Error", {}).get("Message") or "")  # Ceph leaves it empty
    headers = http.client.HTTPMessage()
    for name, value in about.get("HTTPHeaders", {}).items():
        headers[name] = value
    # The answer to a HEAD has no body, so botocore uses the status as its code.
    status = int(about.get("HTTPStatusCode", HTTPStatus.INTERNAL_SERVER_ERROR))
    return refused(what, status, headers, _document("" if code.isdecimal() else code, message), pays=pays)


def _document(code: str, message: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{html.escape(message)}</Message></Error>".encode() if code else b""


def _of_botocore(what: str, error: BotoCoreError) -> FetchError:
    kind = type(error).__name__
    if isinstance(error, NoCredentialsError):
        remedy = "Give access_key_id= and secret_access_key=, or give the pod's service account a role, or anonymous=True for a public bucket."
        return FetchError(f"There is no credential for {what}.", remedy=remedy, code=ExitCode.NO_PERMISSION)
    if isinstance(error, SSLError):
        remedy = "Mount your CA's certificates, and name the file in init_env: SSL_CERT_FILE."
        return FetchError(
            f"The TLS certificate of the store of {what} is not trusted.", remedy=remedy, code=ExitCode.USAGE
        )
    if isinstance(error, ProxyConnectionError):
        said = _TUNNEL.search(str(error.kwargs.get("error")))
        url = _PROXY.sub("", str(error.kwargs.get("proxy_url")))
        cause = f"{what} cannot be reached through the proxy {url}{f': {said[1]}' if said else ''}."
        if said and said[1].startswith("407"):
            remedy = "Give the proxy's user and password in init_env: https_proxy=http://USER:PASSWORD@HOST:PORT."
            return FetchError(cause, remedy=remedy, code=ExitCode.NO_PERMISSION)
        remedy = "Check https_proxy and no_proxy, in init_env or in the container's environment."
        return FetchError(cause, remedy=remedy, code=ExitCode.UNAVAILABLE)
    if isinstance(error, (NoConnection, HTTPClientError, CredentialRetrievalError)):
        # The text of these errors contains the whole URL, including the query.
        remedy = "Check that the store is reachable from where the step runs."
        return FetchError(f"{what} does not answer: {kind}.", remedy=remedy, code=ExitCode.UNAVAILABLE)
    cause = f"{what} cannot be requested: {kind}: {_QUERY.sub('', str(error))}."
    return FetchError(cause, remedy="Check the provider's fields, and AWS_… in init_env.", code=ExitCode.USAGE)
