"""Servers that compress what they were asked for as it is: the file arrives, or the message says which server does what."""

import gzip
import hashlib
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.servers.faulty import Answer, FaultyServer, Request, ranged

from tunewright.errors import ExitCode, FetchError
from tunewright.providers.limits import FetchLimits
from tunewright.providers.snapshots import Digest, Entry
from tunewright_launcher.engine import fetch_snapshot
from tunewright_launcher.http import HttpRequest, HttpSnapshot

SMALL = b"a line of text\n" * 1000
LARGE = SMALL + random.Random(1).randbytes(9 << 20)


class Compressing(FaultyServer):
    """Compresses one file; `stored` says that it is stored so."""

    def __init__(self, body: bytes, encode: Callable[[bytes], bytes], coding: str, *, stored: bool = False) -> None:
        super().__init__()
        self.body = encode(body)
        self.coding, self.stored = coding, stored
        self.cuts = 0

    def answer(self, request: Request) -> Answer:
        about = {"Content-Encoding": self.coding}
        if self.stored:
            return ranged(self.body, request, about)
        cut, self.cuts = self.cuts > 0, self.cuts - 1
        if cut:
            return Answer(headers=about, body=self.body[: len(self.body) // 2])
        return Answer(headers=about, body=self.body)


class OneFile(HttpSnapshot):
    def __init__(self, url: str, body: bytes) -> None:
        super().__init__()
        digest = Digest(algorithm="sha256", value=hashlib.sha256(body).hexdigest())
        self.entry = Entry(path="f", size=len(body), digests=(digest,))
        self.url = url

    def entries(self) -> Iterator[Entry]:
        yield self.entry

    def request(self, entry: Entry) -> HttpRequest:
        return HttpRequest(url=f"{self.url}/f")


def fetched(server: FaultyServer, body: bytes, folder: Path) -> bytes:
    list(fetch_snapshot(OneFile(server.url, body), folder, limits=FetchLimits(connections=2, tries=3)))
    return (folder / "f").read_bytes()


def _members(body: bytes) -> bytes:
    return gzip.compress(body[:100], 1) + gzip.compress(body[100:], 1)


@pytest.mark.parametrize("encode", [lambda b: gzip.compress(b, 1), lambda b: zlib.compress(b, 1), _members])
@pytest.mark.parametrize("body", [SMALL, pytest.param(LARGE, marks=pytest.mark.slow)], ids=["small", "large"])
def test_a_file_that_is_compressed_for_the_way_arrives(
    body: bytes, encode: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    with Compressing(body, encode, "gzip") as server:
        assert fetched(server, body, tmp_path) == body


def test_a_compressed_response_that_ends_early_is_asked_for_again(tmp_path: Path) -> None:
    with Compressing(SMALL, gzip.compress, "gzip") as server:
        server.cuts = 1
        assert fetched(server, SMALL, tmp_path) == SMALL


@pytest.mark.parametrize("body", [SMALL, pytest.param(LARGE, marks=pytest.mark.slow)], ids=["small", "large"])
def test_a_file_that_is_stored_compressed_stays_so(body: bytes, tmp_path: Path) -> None:
    packed = gzip.compress(body, 1)
    with Compressing(body, lambda _: packed, "gzip", stored=True) as server:
        assert fetched(server, packed, tmp_path) == packed


def test_another_compression_is_named(tmp_path: Path) -> None:
    with (
        Compressing(SMALL, lambda b: b[:7], "br") as server,
        pytest.raises(FetchError, match="compressed with br") as caught,
    ):
        fetched(server, SMALL, tmp_path)
    assert caught.value.code is ExitCode.BAD_DATA


class Saying(FaultyServer):
    def answer(self, request: Request) -> Answer:
        return Answer(
            headers={"Content-Type": "application/xml"}, body=b"<Error><Message>Reduce your rate</Message></Error>"
        )


@pytest.mark.slow
@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
def test_what_is_said_in_place_of_a_file_is_told_and_tried_again(body: bytes, tmp_path: Path) -> None:
    with Saying() as server, pytest.raises(FetchError, match=r"bytes of application/xml.*Reduce your rate") as caught:
        fetched(server, body, tmp_path)
    assert caught.value.code is ExitCode.TRY_AGAIN
    assert "page to log in" in caught.value.remedy
