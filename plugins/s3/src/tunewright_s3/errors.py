"""Translate a store's answers and botocore's errors into exit codes and remedies."""

from __future__ import annotations

import contextlib
import html
import http.client
import re
from collections.abc import Iterator, Mapping
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
from tunewright_launcher.http import answered, refusal, retry_after, words_of

_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")
_QUERY = re.compile(r"[?]\S*")
_TUNNEL = re.compile(r"Tunnel connection failed: ([^'\")]*)")
_PROXY = re.compile(r"(?<=//)[^/@]*@")
_EXPIRED = "Give a new session_token, with the access_key_id and secret_access_key that belong to it."
_UNKNOWN_KEY = (
    ExitCode.NO_PERMISSION,
    "the store does not know the access key",
    "Check access_key_id and endpoint_url: each store has its own keys.",
)
_PAYS = " If the bucket lets whoever asks pay, give request_payer='requester'."
_REGION = "Give the bucket's region: region=…"

# From "Error responses" in Amazon S3's API reference: codes that say more than the status.
_MEANINGS: Mapping[str, tuple[ExitCode, str, str]] = {
    "NoSuchBucket": (ExitCode.NOT_FOUND, "there is no such bucket", "Check the bucket's name, and endpoint_url."),
    "NoSuchKey": (  # Ceph's word for a version, too
        ExitCode.NOT_FOUND,
        "there is no such object",
        "Check the URI, and version_id if you gave one.",
    ),
    "NoSuchVersion": (ExitCode.NOT_FOUND, "there is no such version", "Check version_id."),
    "InvalidBucketName": (ExitCode.NOT_FOUND, "the store does not allow such a name", "Check the bucket's name."),
    "InvalidObjectState": (ExitCode.NOT_FOUND, "the object is archived", "Restore it from its storage class first."),
    "AccessDenied": (
        ExitCode.NO_PERMISSION,
        "the credential lacks the permission",
        "Allow s3:ListBucket on the bucket and s3:GetObject on its objects; for an output, also s3:PutObject and "
        "s3:DeleteObject. Without a credential only public buckets can be read.",
    ),
    "InvalidAccessKeyId": _UNKNOWN_KEY,
    "XAdminUserNotFound": _UNKNOWN_KEY,  # versitygw's word for it
    "SignatureDoesNotMatch": (
        ExitCode.NO_PERMISSION,
        "the secret key does not belong to the access key",
        "Check secret_access_key: it must be complete, without spaces or line breaks.",
    ),
    "ExpiredToken": (ExitCode.NO_PERMISSION, "the credential has expired", _EXPIRED),
    "TokenRefreshRequired": (ExitCode.NO_PERMISSION, "the credential has expired", _EXPIRED),
    "InvalidToken": (ExitCode.NO_PERMISSION, "the session token is not valid", _EXPIRED),
    "RequestTimeTooSkewed": (
        ExitCode.NO_PERMISSION,
        "this machine's clock differs too much from the store's",
        "Set the clock of the node, for example with NTP.",
    ),
    "AuthorizationHeaderMalformed": (ExitCode.USAGE, "the bucket is in another region", _REGION),
    "PermanentRedirect": (ExitCode.USAGE, "the bucket is in another region", _REGION),
    "IllegalLocationConstraintException": (ExitCode.USAGE, "the bucket is in another region", _REGION),
    "RequestTimeout": (ExitCode.TRY_AGAIN, "the store timed out", "The request will be retried."),
    "SlowDown": (ExitCode.UNAVAILABLE, "the store asks to slow down", "If this persists, use fewer workers at once."),
    "NoSuchUpload": (ExitCode.TRY_AGAIN, "somebody else ended the upload", "The upload will be restarted."),
    "InvalidPart": (ExitCode.TRY_AGAIN, "somebody else changed the upload", "The upload will be restarted."),
    "InvalidPartOrder": (ExitCode.TRY_AGAIN, "somebody else changed the upload", "The upload will be restarted."),
    "BadDigest": (ExitCode.TRY_AGAIN, "the data was corrupted in transit", "The upload will be retried."),
}  # fmt: skip


def refused(what: str, status: int, headers: http.client.HTTPMessage, body: bytes, *, pays: bool = False) -> FetchError:
    """Return the error for an unsuccessful answer.

    Args:
        what: what was requested, without secrets.
        status: the answer's status code.
        headers: the answer's headers.
        body: the answer's body, which has S3's error code and the store's own words.
        pays: whether the request says who pays.
    """
    code = code_in(body)
    if code not in _MEANINGS:
        return refusal(what, answered(status, headers, code or None), body)
    exit_code, meaning, remedy = _MEANINGS[code]
    if code == "AccessDenied" and not pays:
        remedy += _PAYS
    if region := headers.get("x-amz-bucket-region"):
        remedy = remedy.replace(_REGION, f"Give region={region!r}.")
    cause = f"{what} was answered with {status} {code}: {meaning}.{words_of(body)}"
    return FetchError(cause, remedy=remedy, code=exit_code, retry_after=retry_after(headers))


def code_in(body: bytes) -> str:
    """Return S3's error code in the body of an answer; "" if there is none."""
    match = _CODE.search(body)
    return match[1].decode() if match else ""


def is_known(error: ClientError) -> bool:
    """Return whether an error's code says what is wrong, so that the request would be refused in any form."""
    return str(error.response.get("Error", {}).get("Code", "")) in _MEANINGS


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
