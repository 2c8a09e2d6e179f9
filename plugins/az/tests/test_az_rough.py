"""Answers that are no listing of Azure's, or never its next page."""

import pytest
from tests.servers.faulty import Answer, FaultyServer, Request

from tunewright import ExitCode, FetchError
from tunewright_az import AzureModelParams

PAGE = (
    "<EnumerationResults><Blobs><Blob><Name>m/a</Name><Properties><Content-Length>1</Content-Length></Properties></Blob></Blobs>"
    "<NextMarker>again</NextMarker></EnumerationResults>"
)


class Odd(FaultyServer):
    page = PAGE

    def answer(self, request: Request) -> Answer:
        return Answer(body=self.page.encode())


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (PAGE, "sends the same page of it again"),
        ("<html><body>Log in</body></html>", "something that is not a listing"),
        ("", "something that is not a listing"),
    ],
    ids=["again", "page to log in", "nothing"],
)
def test_what_is_no_listing_is_refused(page: str, said: str) -> None:
    with Odd() as server:
        server.page = page
        store = AzureModelParams(
            uri="az://box/m", account="acme", endpoint=f"{server.url}/acme", anonymous=True
        ).store()
        with pytest.raises(FetchError, match=said) as caught:
            list(store.entries(""))
    assert caught.value.code is ExitCode.BAD_DATA
