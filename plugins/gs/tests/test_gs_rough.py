"""Stores that never get on: their listings and uploads end."""

from pathlib import Path

import pytest
from tests.servers.faulty import Answer, FaultyServer, Request

from tunewright import ExitCode, FetchError
from tunewright_gs import GSModelParams


class Still(FaultyServer):
    """Sends its first page again and again, and accepts parts without keeping them."""

    def answer(self, request: Request) -> Answer:
        if request.method == "POST":
            return Answer(headers={"Location": f"{self.url}/session"})
        if request.method == "PUT":
            return Answer(status=308)
        return Answer(body=b'{"nextPageToken": "again", "items": [{"name": "m/a", "size": "1", "generation": "1"}]}')


def test_a_listing_that_does_not_get_on_is_refused() -> None:
    with Still() as server, pytest.raises(FetchError, match="sends the same page of it again") as caught:
        list(GSModelParams(uri="gs://bucket/m", endpoint=server.url, anonymous=True).store().entries(""))
    assert caught.value.code is ExitCode.BAD_DATA


def test_an_upload_that_does_not_get_on_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewright_gs.store.PART", 256 << 10)
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(600 << 10))
    with Still() as server, pytest.raises(FetchError, match="still has 0 of its 614400 bytes") as caught:
        GSModelParams(uri="gs://bucket/m", endpoint=server.url, anonymous=True).store().upload({file.name: file})
    assert caught.value.code is ExitCode.TRY_AGAIN
    assert len(server.log) < 10
