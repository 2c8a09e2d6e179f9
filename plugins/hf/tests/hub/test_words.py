"""The Hub's own words are in every refusal."""

import json

import pytest
from tests.servers.faulty import Answer, FaultyServer, Request

from tunewright import FetchError
from tunewright_hf.hub.client import Hub
from tunewright_hf.hub.uri import parse_uri


class Full(FaultyServer):
    def answer(self, request: Request) -> Answer:
        return Answer(status=418, body=b'{"error": "This mirror holds tea alone"}')


def test_a_refusal_that_is_not_the_hubs_own_keeps_its_words() -> None:
    with Full() as server, pytest.raises(FetchError, match="This mirror holds tea alone"):
        Hub(parse_uri("hf://org/name", "model"), endpoint=server.url, token=None).commit()


class Mirror(FaultyServer):
    """Lists one file, again and again if `again`."""

    again = False

    def answer(self, request: Request) -> Answer:
        if "/revision/" in request.target:
            return Answer(body=json.dumps({"sha": "a" * 40}).encode())
        file = {
            "type": "file",
            "path": "a.bin",
            "size": 130,
            "oid": "0" * 40,
            "lfs": {"oid": f"sha256:{'e' * 64}", "size": 9},
        }
        link = f'<{self.url}{request.target}>; rel="next"'
        return Answer(headers={"Link": link} if self.again else {}, body=json.dumps([file]).encode())


def test_a_mirror_may_write_digests_as_pointers_do() -> None:
    with Mirror() as server:
        (entry,) = Hub(parse_uri("hf://org/name", "model"), endpoint=server.url, token=None).tree("a" * 40)
    assert (entry.size, entry.digests[0].value) == (9, "e" * 64)


def test_a_list_whose_next_page_is_the_same_ends() -> None:
    with Mirror() as server:
        server.again = True
        files = Hub(parse_uri("hf://org/name", "model"), endpoint=server.url, token=None).tree("a" * 40)
        with pytest.raises(FetchError, match="next page is the same"):
            list(files)


def test_what_is_not_found_is_told_in_the_mirrors_words() -> None:
    class Lacking(FaultyServer):
        def answer(self, request: Request) -> Answer:
            return Answer(status=404, body=b'{"error": "This mirror has no API of trees"}')

    with Lacking() as server, pytest.raises(FetchError, match="no API of trees"):
        Hub(parse_uri("hf://org/name", "model"), endpoint=server.url, token=None).commit()
