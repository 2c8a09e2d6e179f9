"""The Hub's own words are in every refusal."""

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
