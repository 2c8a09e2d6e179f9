"""The public API for a plugin's container half: HTTP for the fetch engine, its errors, and files below one folder.

A source derives its snapshot from `HttpSnapshot` and makes the request for each file; the engine does the rest.
"""

from __future__ import annotations

from tunewright_launcher.answers import (
    Answered,
    Headers,
    answered,
    reading,
    refusal,
    retry_after,
    shown,
    size_of,
    status_of,
    unavailable,
    words_of,
)
from tunewright_launcher.coding import coding_of, decoded
from tunewright_launcher.connection import Response
from tunewright_launcher.digests import is_there
from tunewright_launcher.files import Files, begin_to_flush, check_path, hostile, write
from tunewright_launcher.http_client import Http, HttpRequest, HttpSnapshot
from tunewright_launcher.retry import retry
from tunewright_launcher.stated import digests_in, digits_of
from tunewright_launcher.sums import LONGEST_SUMS, SUMS_NAME, Sums
from tunewright_launcher.url_user import without_user

__all__ = [
    "LONGEST_SUMS",
    "SUMS_NAME",
    "Answered",
    "Files",
    "Headers",
    "Http",
    "HttpRequest",
    "HttpSnapshot",
    "Response",
    "Sums",
    "answered",
    "begin_to_flush",
    "check_path",
    "coding_of",
    "decoded",
    "digests_in",
    "digits_of",
    "hostile",
    "is_there",
    "reading",
    "refusal",
    "retry",
    "retry_after",
    "shown",
    "size_of",
    "status_of",
    "unavailable",
    "without_user",
    "words_of",
    "write",
]
