"""Refusals: the server's own words, and whether to wait."""

import http.client

import pytest

from tunewright.errors import ExitCode
from tunewright_launcher.http import answered, refusal, words_of


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"errors": ["the project is over its quota"]}', "the project is over its quota"),
        (b'{"errors": [{"code": "X", "message": "caf\\u00e9 \\"q\\""}]}', 'café "q"'),
        (b'{"title": "No", "detail": "not yours", "status": 403}', "No not yours"),
        (b'{"status": "sealed"}', '{"status":"sealed"}'.replace(":", ": ")),
        (
            b"<html><head><style>p{}</style></head><body><h1>Blocked by <b>Acme</b></h1><script>x()</script></body></html>",
            "Blocked by Acme",
        ),
        (b"<Error><Code>A</Code><Message>not here</Message></Error>", "not here"),
        (b"disk 7 is gone", "disk 7 is gone"),
    ],
)
def test_a_servers_words_are_found(body: bytes, words: str) -> None:
    assert words_of(body) == f" The server says: {words}."


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\x00\x01\x02"])
def test_what_has_no_words_adds_none(body: bytes) -> None:
    assert words_of(body) == ""


@pytest.mark.parametrize(
    ("status", "code"),
    [(501, ExitCode.BAD_DATA), (507, ExitCode.NO_SPACE), (413, ExitCode.BAD_DATA), (502, ExitCode.UNAVAILABLE)],
)
def test_what_waiting_cannot_change_is_final(status: int, code: ExitCode) -> None:
    error = refusal("x", answered(status, http.client.HTTPMessage()), b"no room")
    assert error.code is code
    assert "no room" in error.cause
