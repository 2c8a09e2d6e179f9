"""The public API for a plugin's container half: HTTP for the fetch engine, its errors, and files below one folder.

A source derives its snapshot from `HttpSnapshot` and makes the request for each file; the engine does the rest.
"""

from __future__ import annotations

from tunewright_launcher.answers import Answered, Headers, refusal, retry_after, shown, size_of, unavailable, words_of
from tunewright_launcher.digests import is_there
from tunewright_launcher.files import Files, begin_to_flush, check_path, hostile, write
from tunewright_launcher.http_client import Http, HttpRequest, HttpSnapshot
from tunewright_launcher.retry import retry

__all__ = [
    "Answered",
    "Files",
    "Headers",
    "Http",
    "HttpRequest",
    "HttpSnapshot",
    "begin_to_flush",
    "check_path",
    "hostile",
    "is_there",
    "refusal",
    "retry",
    "retry_after",
    "shown",
    "size_of",
    "unavailable",
    "words_of",
    "write",
]
