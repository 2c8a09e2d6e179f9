"""Translate a store's answers into exit codes and remedies."""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping
from http import HTTPStatus

from tunewright import ExitCode, FetchError
from tunewright_launcher.http import answered, refusal, retry_after, words_of

UNSUPPORTED = (400, 405, 411, 501)
"""Statuses that stores answer to a request that they do not know, or know in part."""

_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")
_EXPIRED = "Give a new session_token, with the access_key_id and secret_access_key that belong to it."
_UNKNOWN_KEY = (
    ExitCode.NO_PERMISSION,
    "the store does not know the access key",
    "Check access_key_id and endpoint_url: each store has its own keys.",
)
_PAYS = " If the bucket lets whoever asks pay, give request_payer='requester'."
_FULL = (ExitCode.NO_SPACE, "the store has no room left for it", "Make room in the store, or have the quota raised.")
_QUOTAS = ("QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage")
_ALONE = "Start the upload again, once no other job writes to the same place."
_REGION = "Give the bucket's region: region=…"
_ELSEWHERE = ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException")

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
    **dict.fromkeys(_ELSEWHERE, (ExitCode.USAGE, "the bucket is in another region", _REGION)),
    **dict.fromkeys(_QUOTAS, _FULL),
    "RequestTimeout": (ExitCode.TRY_AGAIN, "the store timed out", "Start it again later."),
    "SlowDown": (ExitCode.UNAVAILABLE, "the store asks to slow down", "If this persists, use fewer workers at once."),
    "NoSuchUpload": (ExitCode.TRY_AGAIN, "somebody else ended the upload", _ALONE),
    "InvalidPart": (ExitCode.TRY_AGAIN, "somebody else changed the upload", _ALONE),
    "InvalidPartOrder": (ExitCode.TRY_AGAIN, "somebody else changed the upload", _ALONE),
    "BadDigest": (ExitCode.TRY_AGAIN, "the data was corrupted in transit", "Start the upload again."),
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


def is_elsewhere(status: int, body: bytes) -> bool:
    """Return whether an answer says that the bucket is in another region, or at another address."""
    moved = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    return moved or code_in(body) in _ELSEWHERE


def is_unsupported(status: int, code: str) -> bool:
    """Return whether a store may not know a request, or know it in part: its error's code would say what is wrong in any form."""
    return status in UNSUPPORTED and code not in _MEANINGS


def no_listing(what: str, problem: str) -> FetchError:
    """Return the error for a listing that cannot be read."""
    cause = f"{what} cannot be listed: the answer is not a page of an S3 listing{f': {problem}' if problem else ''}."
    return FetchError(cause, remedy="Check endpoint_url: it has to be that of an S3 API.", code=ExitCode.BAD_DATA)
