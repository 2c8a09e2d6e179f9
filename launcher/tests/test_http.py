"""HTTP: what a proxy is told, and what becomes of connections."""

import base64
import gc
import warnings

import pytest
from tests.servers.faulty import Answer, Fault, FaultyServer, FileServer, Request

from tunewright.errors import FetchError
from tunewright_launcher.http import Http, HttpRequest


def test_a_proxy_gets_its_credential_and_the_server_behind_a_redirect_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    class Proxy(FaultyServer):
        def answer(self, request: Request) -> Answer:
            return Answer(status=302, headers={"Location": f"{store.url}/a"})

    with FileServer({"/a": b"a"}) as store, Proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//user:p%40ss@"))
        monkeypatch.setenv("no_proxy", store.address)
        response, body = Http().ask(HttpRequest(url="http://files.invalid/a"), 100)
        assert (response.status, body) == (200, b"a")
        credential = base64.b64encode(b"user:p@ss").decode()
        assert [request.headers["proxy-authorization"] for request in proxy.log] == [f"Basic {credential}"]
        assert [request.headers.get("proxy-authorization") for request in store.log] == [None]


def test_a_connection_whose_first_request_fails_is_closed() -> None:
    with FileServer({}) as server, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        server.faults.append(Fault(headers={"X": "a\nno header"}))
        with pytest.raises(FetchError, match="does not respond"):
            Http().ask(HttpRequest(url=f"{server.url}/a"), 100)
        gc.collect()
    assert not [str(warning.message) for warning in said if warning.category is ResourceWarning]
