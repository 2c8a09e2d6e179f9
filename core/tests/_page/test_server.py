"""The live page's server: what it answers, and above all what it does not answer."""

import http.client
import importlib.util
import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright._page import assets
from tunewright._page.server import PageServer
from tunewright.status.state import JobState
from tunewright.status.status import JobStatus

SPEC = importlib.util.spec_from_file_location("memory_backend", Path(__file__).parents[1] / "memory_backend.py")
assert SPEC is not None
assert SPEC.loader is not None
memory_backend = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(memory_backend)
MemoryBackend = memory_backend.MemoryBackend

STARTED = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
STEP = {"event": "step", "step": 1, "total_steps": 4, "loss": 2.5}
HOSTILE = "</script><img src=x onerror=alert(1)>"


class Faulty(MemoryBackend):
    """A backend with a fault of its own."""

    def get(self, name):
        raise ZeroDivisionError("secret of a traceback")


class Broken(MemoryBackend):
    """A backend whose cluster cannot be reached."""

    def list(self, labels=None):
        from tunewright.errors import JobError

        raise JobError("The cluster cannot be reached.", name="")


@pytest.fixture(scope="module")
def server() -> Iterator[PageServer]:
    backend = MemoryBackend()
    status = JobStatus(name="sft", state=JobState.RUNNING, created=STARTED, started=STARTED, detail=HOSTILE)
    backend.script["sft"] = [status]
    backend.lines["sft"] = [("train", 0, json.dumps(STEP)), ("train", 1, HOSTILE), ("train", 0, "second")]
    backend.script["done"] = [attrs.evolve(status, name="done", state=JobState.SUCCEEDED)]
    backends = {"memory": backend, "broken": Broken(), "faulty": Faulty()}
    server = PageServer(backends, next_commands=lambda _, name: [f"tunewright chat {name}"])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self) -> dict:
        return json.loads(self.body)


def ask(server: PageServer, path: str, method: str = "GET", *, token: str | None = None, **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        given["Authorization"] = f"Bearer {token}"
    try:
        connection.request(method, path, headers=given)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def raw(server: PageServer, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_it_listens_on_loopback_only(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.address == f"http://127.0.0.1:{server.server_port}/#token={server.token}"
    assert len(server.token) >= 43, "32 random bytes"


def test_with_the_token_it_gives_jobs_their_numbers_and_their_logs(server: PageServer) -> None:
    listed = ask(server, "/api/jobs", token=server.token).json
    assert [(job["name"], job["backend"], job["state"], job["loss"]) for job in listed["jobs"]] == [
        ("done", "memory", "Succeeded", None),
        ("sft", "memory", "Running", 2.5),
    ]
    assert listed["problems"] == ["broken: The cluster cannot be reached."]
    for _ in range(100):
        job = ask(server, "/api/jobs/memory/sft?log=0", token=server.token).json
        if not job["reading"]:
            break
    assert (job["curves"]["loss"], job["detail"], job["at_rest"]) == ({"steps": [1], "values": [2.5]}, HOSTILE, False)
    assert job["log"] == {"first": 0, "next": 2, "lines": [["train", 1, HOSTILE], ["train", 0, "second"]]}


def test_only_a_job_that_has_succeeded_says_what_its_result_is_for(server: PageServer) -> None:
    found = {name: ask(server, f"/api/jobs/memory/{name}", token=server.token).json for name in ("sft", "done")}
    assert {name: job["next_commands"] for name, job in found.items()} == {"sft": [], "done": ["tunewright chat done"]}


@pytest.mark.parametrize("path", ["/api/jobs", "/api/jobs/memory/sft", "/api/", "/api/nothing"])
@pytest.mark.parametrize("token", [None, "", "wrong", "ä" * 43])
def test_nothing_about_a_job_is_told_without_the_token(server: PageServer, path: str, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}".encode().decode("latin-1")}
    answer = ask(server, path, **headers)
    assert answer.status == 401
    assert "tunewright ui" in answer.json["error"]
    assert b"sft" not in answer.body


@pytest.mark.parametrize("how", ["Basic {}", "bearer {}", "{}", "Bearer {}x"])
def test_the_token_counts_only_as_it_is_and_only_in_its_header(server: PageServer, how: str) -> None:
    assert ask(server, "/api/jobs", Authorization=how.format(server.token)).status == 401
    assert ask(server, f"/api/jobs?token={server.token}", Cookie=f"token={server.token}").status == 401


@pytest.mark.parametrize("path", ["/", "/assets/live.js", "/api/jobs"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""]
)
def test_another_host_is_refused_so_that_a_name_cannot_be_bent_to_this_machine(
    server: PageServer, path: str, host: str
) -> None:
    answer = ask(server, path, token=server.token, Host=host.format(port=server.server_port))
    assert answer.status == 403
    assert server.origin in answer.json["error"]


def test_two_hosts_and_no_host_are_refused(server: PageServer) -> None:
    host = f"Host: 127.0.0.1:{server.server_port}\r\n"
    two = f"GET / HTTP/1.1\r\n{host}Host: evil.example\r\nConnection: close\r\n\r\n"
    for request in (two, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"):
        assert raw(server, request.encode()).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_its_own_names_are_accepted(server: PageServer, host: str) -> None:
    assert ask(server, "/api/jobs", token=server.token, Host=f"{host}:{server.server_port}").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, {"Origin": ""},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "cors"}, {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors"},
    ],
)  # fmt: skip
def test_other_pages_are_refused_even_with_the_token(server: PageServer, headers: dict[str, str]) -> None:
    for path in ("/api/jobs", "/assets/page.css"):
        answer = ask(server, path, token=server.token, **headers)
        assert answer.status == 403
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_its_own_page_may_ask(server: PageServer) -> None:
    own = {"Origin": server.origin, "Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors"}
    assert ask(server, "/api/jobs", token=server.token, **own).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_it_only_reads(server: PageServer, method: str) -> None:
    answer = ask(server, "/api/jobs/memory/sft", method, token=server.token)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert server.backends["memory"].script.keys() == {"sft", "done"}


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../server.py", "/assets/%2e%2e/server.py", "/assets/..%2fserver.py", "/assets//etc/passwd", "/assets/", "/assets",
        "/assets/__init__.py", "/assets/page.css/..", "/etc/passwd", "//etc/passwd", "/favicon.ico", "/index.html", "/assets/page.css%00",
    ],
)  # fmt: skip
def test_there_is_nothing_but_its_own_files(server: PageServer, path: str) -> None:
    assert ask(server, path, token=server.token).status == 404


@pytest.mark.parametrize(
    "name", ["..", ".", "%2e%2e", "..%2f..%2fetc", "sft%00", "SFT", "sft%2f", "x" * 300, "%ff", ""]
)
def test_a_job_that_is_no_name_is_not_looked_for(server: PageServer, name: str) -> None:
    before = len(server.backends["memory"].calls)
    for path in (f"/api/jobs/memory/{name}", f"/api/jobs/{name}/sft"):
        assert ask(server, path, token=server.token).status == 404
    assert len(server.backends["memory"].calls) == before


def test_a_job_that_is_not_there_is_said_so(server: PageServer) -> None:
    answer = ask(server, "/api/jobs/memory/other", token=server.token)
    assert answer.status == 404
    assert answer.json == {"error": "There is no job 'other'. See them: tunewright list"}


def test_a_fault_of_a_backend_is_an_answer_without_its_traceback(server: PageServer) -> None:
    answer = ask(server, "/api/jobs/faulty/sft", token=server.token)
    assert (answer.status, answer.json) == (500, {"error": "The server failed (ZeroDivisionError)."})


@pytest.mark.parametrize("path", ["/", "/assets/live.js", "/api/jobs", "/nothing"])
def test_each_answer_keeps_browsers_from_more_than_the_page_needs(server: PageServer, path: str) -> None:
    headers = ask(server, path, token=server.token).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
    assert "frame-ancestors 'none'" in policy
    assert not any(word in policy for word in ("unsafe", "http", "*"))
    expected = {
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    assert {name: headers[name] for name in expected} == expected
    assert "Python" not in headers["Server"]
    assert "Set-Cookie" not in headers


def test_the_page_itself_tells_nothing_about_jobs_and_has_no_script_of_its_own(server: PageServer) -> None:
    page = ask(server, "/").body.decode()
    assert server.token not in page
    assert "sft" not in page
    assert page.count("<script") == page.count('<script type="module" src="/assets/live.js"></script>') == 1


@pytest.mark.parametrize("name", assets.FILES)
def test_each_file_has_its_type(server: PageServer, name: str) -> None:
    answer = ask(server, f"/assets/{name}")
    assert answer.headers["Content-Type"].partition(";")[0] == (
        "text/css" if name.endswith("css") else "text/javascript"
    )
    assert answer.body.decode() == assets.text(name)
    head = ask(server, f"/assets/{name}", "HEAD")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(answer.body)))


def test_what_is_no_http_is_refused_without_a_page_of_its_own(server: PageServer) -> None:
    for request in (
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"BREW / HTTP/1.1\r\n\r\n",
    ):
        answer = raw(server, request)
        assert b"<html" not in answer.lower()
        assert b"200" not in answer.split(b"\r\n")[0]


@settings(max_examples=50)
@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n \t", exclude_categories=["Cc"]), max_size=60))
def test_no_path_breaks_it(server: PageServer, path: str) -> None:
    request = f"GET /{path} HTTP/1.1\r\nHost: {server.origin[7:]}\r\nAuthorization: Bearer {server.token}\r\nConnection: close\r\n\r\n"
    status = raw(server, request.encode("latin-1")).split(b"\r\n")[0]
    assert status in (b"HTTP/1.1 404 Not Found", b"HTTP/1.1 200 OK", b"HTTP/1.1 400 Bad Request")


def test_the_token_is_compared_in_constant_time(server: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import hmac

    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b))
    ask(server, "/api/jobs", token="guess")
    assert compared == [(b"guess", server.token.encode())]
