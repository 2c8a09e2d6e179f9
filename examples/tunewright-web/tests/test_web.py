"""The example plugin: the conformance kit, and downloads from a real server that has real faults."""

import errno
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tunewright_web import WebDataset, WebModel, file_name

from tunewright import ExitCode, FetchError, RequestError, SecretRef
from tunewright.providers import wire
from tunewright.testing import DatasetProviderTests, ModelProviderTests, Served

BODY = b'{"text": "one"}\n' * 70_000
DIGEST = hashlib.sha256(BODY).hexdigest()
ETAG = '"v1"'
TOKEN = "a-token-for-the-test"


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.elsewhere = ""
        self.authorizations: list[str | None] = []
        self.released = threading.Event()

    def url(self, path: str) -> str:
        return f"web+http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.authorizations.append(self.headers["Authorization"])
        self.close_connection = True
        kind = self.path.split("/")[1]
        getattr(self, f"do_{kind}", self.do_status)()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def do_status(self) -> None:
        self.head(int(self.path.split("/")[1]), Content_Length="0")

    def do_ok(self) -> None:
        self.head(200, Content_Length=str(len(BODY)), ETag=ETAG)
        self.wfile.write(BODY)

    def do_private(self) -> None:
        allowed = self.headers["Authorization"] == f"Bearer {TOKEN}"
        self.do_ok() if allowed else self.head(401, Content_Length="0")

    def do_pinned(self) -> None:
        self.do_ok() if self.headers["If-Match"] in (None, ETAG) else self.head(412, Content_Length="0")

    def do_short(self) -> None:
        self.head(200, Content_Length=str(len(BODY)))
        self.wfile.write(BODY[:-1])

    def do_chunks(self) -> None:
        self.head(200, Transfer_Encoding="chunked")
        self.wfile.write(b"5\r\nhello\r\n0\r\n\r\n")

    def do_brokenchunks(self) -> None:
        self.head(200, Transfer_Encoding="chunked")
        self.wfile.write(b"ff\r\nhello")

    def do_silent(self) -> None:
        self.server.released.wait(30)

    def do_stalled(self) -> None:
        self.head(200, Content_Length=str(len(BODY)))
        self.wfile.write(BODY[:100])
        self.wfile.flush()
        self.server.released.wait(30)

    def do_moved(self) -> None:
        self.head(302, Location=self.server.elsewhere, Content_Length="0")

    def do_circle(self) -> None:
        self.head(302, Location=self.path, Content_Length="0")


@pytest.fixture
def make_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Server]]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers: list[Server] = []

    def make() -> Server:
        servers.append(Server())
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return servers[-1]

    yield make  # type: ignore[misc]
    for running in servers:
        running.released.set()
        running.shutdown()
        running.server_close()


@pytest.fixture
def server(make_server: type[Server]) -> Server:
    return make_server()


def refused(source: WebDataset, target: Path) -> FetchError:
    with pytest.raises(FetchError) as caught:
        source.download_dataset(target)
    assert source.uri in str(caught.value)
    return caught.value


class TestWebModel(ModelProviderTests):
    name = "web"

    def provider(self) -> WebModel:
        return WebModel(uri="web+https://data.example/model.gguf", token=TOKEN, sha256=DIGEST, etag=ETAG, timeout=5.0)

    @pytest.fixture
    def served(self, server: Server) -> Served:
        return Served(
            provider=WebModel(uri=server.url("private/model.gguf"), token=TOKEN, sha256=DIGEST),
            files={"model.gguf": BODY},
            missing=WebModel(uri=server.url("404/model.gguf"), token=TOKEN),
        )


class TestWebDataset(DatasetProviderTests):
    name, tested_elsewhere = "web", "TestWebDatasetWithoutTls, as a fake has no certificate"

    def provider(self) -> WebDataset:
        return WebDataset(
            uri="web+https://data.example/a.jsonl", eval_dataset="web+https://data.example/b.jsonl", token=TOKEN
        )


class TestWebDatasetWithoutTls(DatasetProviderTests):
    name = "web"

    def provider(self) -> WebDataset:
        return WebDataset(uri="web+http://data.example/a.jsonl", token=TOKEN)

    @pytest.fixture
    def served(self, server: Server) -> Served:
        return Served(
            provider=WebDataset(uri=server.url("private/a.jsonl"), token=TOKEN),
            files={"a.jsonl": BODY},
            missing=WebDataset(uri=server.url("404/a.jsonl"), token=TOKEN),
        )


def test_a_dataset_arrives_whole_under_its_name(server: Server, tmp_path: Path) -> None:
    WebDataset(uri=server.url("ok/my%20data.jsonl?version=2"), sha256=DIGEST.upper(), etag=ETAG).download_dataset(
        tmp_path
    )
    assert (tmp_path / "my data.jsonl").read_bytes() == BODY


def test_a_model_arrives_too(server: Server, tmp_path: Path) -> None:
    WebModel(uri=server.url("ok/model.bin")).download_model(tmp_path)
    assert (tmp_path / "model.bin").read_bytes() == BODY


def test_a_body_without_a_length_arrives(server: Server, tmp_path: Path) -> None:
    WebDataset(uri=server.url("chunks/a.txt")).download_dataset(tmp_path)
    assert (tmp_path / "a.txt").read_bytes() == b"hello"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("404/a", ExitCode.NOT_FOUND),
        ("410/a", ExitCode.NOT_FOUND),
        ("401/a", ExitCode.NO_PERMISSION),
        ("403/a", ExitCode.NO_PERMISSION),
        ("408/a", ExitCode.TRY_AGAIN),
        ("429/a", ExitCode.TRY_AGAIN),
        ("418/a", ExitCode.BAD_DATA),
        ("500/a", ExitCode.UNAVAILABLE),
        ("503/a", ExitCode.UNAVAILABLE),
        ("short/a", ExitCode.TRY_AGAIN),
        ("brokenchunks/a", ExitCode.TRY_AGAIN),
        ("silent/a", ExitCode.UNAVAILABLE),
        ("stalled/a", ExitCode.UNAVAILABLE),
        ("circle/a", ExitCode.BAD_DATA),
    ],
)
def test_each_fault_has_its_exit_code(server: Server, tmp_path: Path, path: str, code: ExitCode) -> None:
    assert refused(WebDataset(uri=server.url(path), timeout=0.3), tmp_path).code is code


def test_a_server_that_is_not_there_is_unavailable(server: Server, tmp_path: Path) -> None:
    gone = Server()
    gone.server_close()
    assert refused(WebDataset(uri=gone.url("ok/a")), tmp_path).code is ExitCode.UNAVAILABLE


def test_another_digest_is_bad_data(server: Server, tmp_path: Path) -> None:
    error = refused(WebDataset(uri=server.url("ok/a"), sha256="0" * 64), tmp_path)
    assert error.code is ExitCode.BAD_DATA
    assert DIGEST in str(error)


@pytest.mark.parametrize("path", ["ok/a", "pinned/a"])
def test_another_version_is_bad_data_whether_or_not_the_server_looks(server: Server, tmp_path: Path, path: str) -> None:
    assert refused(WebDataset(uri=server.url(path), etag='"v0"'), tmp_path).code is ExitCode.BAD_DATA


def test_a_full_disk_is_no_space(server: Server, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        error = refused(WebDataset(uri=server.url("ok/a")), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.code is ExitCode.NO_SPACE
    assert isinstance(error.__cause__, OSError)
    assert error.__cause__.errno == errno.EFBIG


def test_the_token_opens_its_server_and_no_other(make_server: type[Server], tmp_path: Path) -> None:
    first, second = make_server(), make_server()
    first.elsewhere = second.url("ok/a").removeprefix("web+")
    WebDataset(uri=first.url("private/a"), token=TOKEN).download_dataset(tmp_path)
    WebDataset(uri=first.url("moved/b"), token=TOKEN).download_dataset(tmp_path)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == BODY
    assert first.authorizations == [f"Bearer {TOKEN}"] * 2
    assert second.authorizations == [None]


def test_a_wrong_token_does_not_show(server: Server, tmp_path: Path) -> None:
    error = refused(WebDataset(uri=server.url("private/a"), token="a-wrong-token"), tmp_path)
    assert error.code is ExitCode.NO_PERMISSION
    assert "a-wrong-token" not in str(error)


@pytest.mark.parametrize(
    "uri",
    [
        "web+https://data.example",
        "web+https://data.example/",
        "web+https://data.example/folder/",
        "web+https://data.example/%2e%2e",
        "web+https://data.example/..%2Fa",
        "web+https://data.example/a%00",
        "web+https://data.example/a%5Cb",
        "web+https://data.example/a#part",
        "web+https://data.example/a b",
        "web+https://data.example:port/a",
        "web+https://[data.example/a",
        "web+https:///a",
        "web+https:a",
        "https://data.example/a",
        "web+ftp://data.example/a",
        "web+https://dätä.example/a",
    ],
)
def test_what_is_no_file_of_a_web_server_is_refused(uri: str) -> None:
    with pytest.raises(RequestError):
        WebDataset(uri=uri)
    with pytest.raises(RequestError):
        WebDataset(uri="web+https://data.example/a", eval_dataset=uri)


@pytest.mark.parametrize("user", ["name:a-wrong-token", "a-wrong-token"])
def test_credentials_in_the_uri_are_refused_unseen(user: str) -> None:
    with pytest.raises(RequestError, match="token=") as caught:
        WebDataset(uri=f"web+https://{user}@data.example/a")
    assert "a-wrong-token" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"sha256": "abc"},
        {"etag": "v1"},
        {"etag": 'W/"v1"'},
        {"timeout": 0.0},
        {"token": "two\nlines"},
        {"sha256": DIGEST, "eval_dataset": "web+https://data.example/b"},
        {"etag": ETAG, "eval_dataset": "web+https://data.example/b"},
    ],
)
def test_bad_fields_are_named(fields: dict[str, str]) -> None:
    with pytest.raises(RequestError, match=next(iter(fields))) as caught:
        WebDataset(uri="web+https://data.example/a", **fields)  # type: ignore[arg-type]
    assert "lines" not in str(caught.value) or "token" not in fields


def test_a_reference_stays_one_on_the_client() -> None:
    source = WebDataset(uri="web+https://data.example/a", token=SecretRef(name="web", key="token"))
    assert wire.unstructure(source, "dataset") == {"uri": "web+https://data.example/a"}
    assert attrs.evolve(source) == source


@given(st.text())
def test_no_name_leads_out_of_the_folder(text: str) -> None:
    try:
        name = file_name(f"web+https://data.example/{text}")
    except RequestError:
        return
    assert Path("/target", name).parent == Path("/target")
    assert name not in ("", ".", "..")
