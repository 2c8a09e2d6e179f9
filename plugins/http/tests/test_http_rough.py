"""Web servers that compress what they send, hang up on a HEAD, or are several behind one name."""

import gzip
import itertools
import random

import pytest
from tests.servers.faulty import Answer, FileServer, Request
from tests.servers.volume import Volume

from tunewright import ExitCode

LARGE = random.Random(5).randbytes(9 << 20)
BODY = b'{"text": "a"}\n' * 1000


class Compressing(FileServer):
    """Compresses all files. `heads` says how a HEAD is answered: "compressed" or "plain"."""

    heads = "compressed"

    def answer(self, request: Request) -> Answer:
        found = super().answer(Request(method=request.method, target=request.target, headers={}))
        if found.status != 200 or (request.method == "HEAD" and self.heads == "plain"):
            return found
        packed = gzip.compress(found.body, 1, mtime=0)
        return Answer(headers={**found.headers, "Content-Encoding": "gzip"}, body=packed)


@pytest.mark.parametrize("heads", ["compressed", "plain"])
def test_a_server_that_compresses_what_it_sends_is_read(volume: Volume, heads: str) -> None:
    with Compressing({"/a.jsonl": BODY}) as server:
        server.heads = heads
        assert volume.fetch(f"{server.url}/a.jsonl") == {"a.jsonl": BODY}


def test_a_file_whose_name_says_that_it_is_compressed_stays_so(volume: Volume) -> None:
    packed = gzip.compress(BODY, mtime=0)

    class Apache(FileServer):
        """Says `Content-Encoding` of files that are compressed, as with `AddEncoding x-gzip .gz`."""

        def answer(self, request: Request) -> Answer:
            found = super().answer(request)
            return Answer(status=found.status, headers={**found.headers, "Content-Encoding": "x-gzip"}, body=found.body)

    with Apache({"/a.jsonl.gz": packed}) as server:
        assert volume.fetch(f"{server.url}/a.jsonl.gz", file_name="a.bin") == {"a.bin": packed}


class HangsUp(FileServer):
    def answer(self, request: Request) -> Answer:
        if request.method == "HEAD":
            raise ConnectionResetError
        return super().answer(request)


def test_a_server_that_hangs_up_on_a_head_is_asked_by_get(volume: Volume) -> None:
    with HangsUp({"/a": BODY}) as server:
        assert volume.fetch(f"{server.url}/a") == {"a": BODY}


class Several(FileServer):
    """Several servers, each with an entity tag of its own for the same file."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(files)
        self._turns = itertools.count()

    def answer(self, request: Request) -> Answer:
        found = super().answer(request)
        tag = f'"of server {next(self._turns) % 3}"'
        return Answer(status=found.status, headers={**found.headers, "ETag": tag}, body=found.body)


@pytest.mark.slow
def test_several_servers_that_disagree_on_the_version_are_told_and_a_digest_decides(volume: Volume) -> None:
    with Several({"/a": LARGE}) as server:
        volume.fails(ExitCode.TRY_AGAIN, "several servers answer", "sha256=", uri=f"{server.url}/a")
