"""HTTP: what a proxy is told, and what becomes of connections."""

import base64
import gc
import re
import shutil
import socket
import ssl
import subprocess
import threading
import warnings
from pathlib import Path

import pytest
from tests.servers.faulty import Answer, Fault, FaultyServer, FileServer, Request

from tunewright.errors import ExitCode, FetchError
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


class Sending(FaultyServer):
    """Leads to a URL that names a user."""

    def answer(self, request: Request) -> Answer:
        there = self.url.replace("127.0.0.1", "us%40er:pa%3Ass@localhost")
        return Answer(status=302, headers={"Location": f"{there}/b"}) if request.path == "/a" else Answer(body=b"ok")


def test_a_user_in_a_redirect_is_shown_to_the_server_there_alone() -> None:
    with Sending() as server:
        http = Http()
        response, url = http.send(HttpRequest(url=f"{server.url}/a", headers={"Authorization": "Bearer ours"}))
        response.read()
        asked = server.log[-1].headers
        assert asked["authorization"] == f"Basic {base64.b64encode(b'us@er:pa:ss').decode()}"
        assert asked["host"] == url.removeprefix("http://").removesuffix("/b")
        assert "pa" not in http.answered_by.replace("/b", "")


def test_a_connection_whose_first_request_fails_is_closed() -> None:
    with FileServer({}) as server, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        server.faults.append(Fault(headers={"X": "a\nno header"}))
        with pytest.raises(FetchError, match="does not respond"):
            Http().ask(HttpRequest(url=f"{server.url}/a"), 100)
        gc.collect()
    assert not [str(warning.message) for warning in said if warning.category is ResourceWarning]


class Bare:
    """A server of one answer: it reads the head of a request, says something, and then reads a body only if it said to send it."""

    def __init__(self, *said: bytes, reads: bool) -> None:
        self._said, self._reads = said, reads
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/a"
        self.head, self.body = b"", b""
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Bare":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(30)

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rb") as stream:
            while (line := stream.readline()) != b"\r\n":
                self.head += line
            first, *then = self._said
            connection.sendall(first)
            if self._reads:
                length = int(re.findall(rb"Content-Length: (\d+)", self.head)[0])
                self.body = stream.read(length)
            for said in then:
                connection.sendall(said)


DONE = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.slow
@pytest.mark.parametrize("first", [b"HTTP/1.1 100 Continue\r\n\r\n", b""], ids=["invites", "says-nothing"])
def test_a_file_is_sent_as_a_body(first: bytes, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 20_000)
    with Bare(first, DONE, reads=True) as server:
        response, _ = Http().ask(HttpRequest(url=server.url, method="PUT", body=file), 1000)
    assert response.status == 201
    assert server.body == file.read_bytes()


@pytest.mark.slow
def test_a_file_is_not_sent_to_a_server_that_refuses_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(50 << 20))
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\n\r\n10 bytes"
    with Bare(refusal, reads=False) as server:
        response, body = Http().ask(HttpRequest(url=server.url, method="PUT", body=file), 1000)
        assert (response.status, body) == (413, b"10 bytes")


class Encrypted(FileServer):
    """Files over TLS."""

    def __init__(self, certificate: Path) -> None:
        super().__init__({"/a": b"a"})
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_name("key.pem"))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "trusted", "says", "remedy"),
    [
        ("IP:127.0.0.1", "", "is not trusted", "SSL_CERT_FILE"),
        ("IP:127.0.0.1", "gone.pem", "gone.pem, which is not a file", "SSL_CERT_FILE"),
        (
            "DNS:other.example",
            "certificate.pem",
            "is not trusted: IP address mismatch",
            "a name that its certificate has",
        ),
    ],
)
def test_a_certificate_that_is_refused_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trusted: str, says: str, remedy: str
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("a certificate is made with openssl, which is not there")
    made = tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=store"]
    files = ["-keyout", tmp_path / "key.pem", "-out", made, "-addext", f"subjectAltName={name}"]
    subprocess.run([*command, *files], check=True, capture_output=True)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / trusted))
    with Encrypted(made) as server, pytest.raises(FetchError, match=says) as caught:
        Http().ask(HttpRequest(url=f"{server.url.replace('http', 'https')}/a"), 100)
    assert caught.value.code is ExitCode.USAGE
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "http://127.0.0.1:99999", "127.0.0.1:80x", "http://"])
def test_a_proxy_that_is_none_is_refused(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(FetchError, match=r"http_proxy or all_proxy does not have the URL") as caught:
        Http().ask(HttpRequest(url="http://files.invalid/a"), 100)
    assert caught.value.code is ExitCode.USAGE


def test_a_proxy_that_does_not_respond_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setenv("http_proxy", f"http://user:s3cr3t@127.0.0.1:{port}")
        with pytest.raises(FetchError, match=f"through the proxy 127.0.0.1:{port}") as caught:
            Http().ask(HttpRequest(url="http://files.invalid/a"), 100)
    assert "no_proxy" in caught.value.remedy
    assert "s3cr3t" not in str(caught.value)
