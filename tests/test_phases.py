"""A job on this machine whose source is away: what a terminal, a program and `status` say of it, and how soon."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.servers.faulty import Answer, Fault, FaultyServer, Request
from tests.servers.served import IndexedServer, install

# The libraries are imported in the job, as are the plugins here.
pytestmark = pytest.mark.slow

COMMAND = (str(Path(sys.executable).with_name("tunewright")),)
CAUSE = "503"


class Screen:
    """What a command prints, with the time of each line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[tuple[float, str]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line))

    def when(self, text: str, seconds: float = 60) -> float:
        """Wait for a text, and return when it came."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := [at for at, line in list(self.lines) if text in line]:
                return found[0]
            time.sleep(0.05)
        raise AssertionError(f"{text!r} is not in {self.lines}")

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self._thread.join(30)


@pytest.fixture
def server() -> Iterator[IndexedServer]:
    with IndexedServer({"/config.json": b"{}", "/weights.bin": bytes(1 << 20)}) as running:
        running.faults.append(Fault(path="weights", status=503, times=-1))
        yield running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    site = tmp_path / "site"
    site.mkdir()
    install(site)
    env = {**os.environ, "PYTHONPATH": str(site), "TUNEWRIGHT_HOME": str(tmp_path / "home"), "COLUMNS": "200"}
    started: list[Screen] = []

    def run(*words: str, **more: str) -> Screen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        screen = Screen(subprocess.Popen([*COMMAND, *words], env={**env, **more}, text=True, **pipes))
        started.append(screen)
        return screen

    yield run
    for screen in started:
        screen.end()
    subprocess.run([*COMMAND, "delete", "away", "--backend", "local"], env=env, check=False, capture_output=True)


class Away(FaultyServer):
    """Is away, whatever it is asked."""

    def answer(self, request: Request) -> Answer:
        del request
        return Answer(status=503, headers={"Retry-After": "1"})


SOURCES: dict[str, dict[str, object]] = {
    "hf": {"uri": "hf://org/name", "endpoint": "URL"},
    "s3": {"uri": "s3://bucket/model", "endpoint_url": "URL", "region": "us-east-1", "anonymous": True},
    "gs": {"uri": "gs://bucket/model", "endpoint": "URL", "anonymous": True},
    "az": {"uri": "az://container/model", "endpoint": "URL/account", "anonymous": True},
    "http": {"uri": "URL/model/"},
    "gitlfs": {"uri": "gitlfs+URL/org/name"},
    "kaggle": {"uri": "kaggle://models/owner/model/pyTorch/2b/1"},
}
"""A model of each family of sources, on a server that is put in place of `URL`."""


@pytest.mark.parametrize("family", SOURCES)
def test_a_job_says_within_three_seconds_why_a_source_gives_nothing(
    start: Callable[..., Screen], tmp_path: Path, family: str
) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n')
    with Away() as server:
        model = json.loads(json.dumps(SOURCES[family]).replace("URL", server.url))
        job = {"name": "away", "model": model, "dataset": "./train.jsonl", "trainer": "hf"}
        (tmp_path / "job.yaml").write_text(json.dumps(job))
        proxied = {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": server.url,
            "HTTP_PROXY": server.url,
            "no_proxy": "",
        }
        env = proxied if family == "kaggle" else {}
        program = start("train", str(tmp_path / "job.yaml"), "--backend", "local", "--json", **env)
        asked = program.when('"name": "list"')
        assert program.when('"event": "retry"') - asked < 3
        [retry, *_] = [json.loads(line) for _, line in program.lines if '"retry"' in line]
        assert CAUSE in retry["cause"]
        status = start("status", "away", "--backend", "local", "--json")
        status.when("{")
        assert CAUSE in json.loads(status.lines[0][1])["detail"]
        start("delete", "away", "--backend", "local").process.wait(60)


def test_the_cause_of_a_retry_is_on_every_screen_within_three_seconds(
    start: Callable[..., Screen], server: IndexedServer, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text('{"text": "a"}\n')
    source = server.url.replace("http://", "served://")
    job = ("--model", source, "--dataset", f"file://{tmp_path / 'data'}", "--name", "away", "--backend", "local")
    program = start("train", *job, "--json")
    asked = program.when('"name": "list"')
    assert program.when(CAUSE) - asked < 3
    bars = start("follow", "away", "--backend", "local", FORCE_COLOR="1")
    bars.when("Trying again")
    assert CAUSE in "".join(line for _, line in bars.lines)
    assert "now" in "".join(line for _, line in bars.lines)
    lines = start("logs", "-f", "away", "--backend", "local")
    lines.when("model: asking served://")
    lines.when("Trying again")
    status = start("status", "away", "--backend", "local", "--json")
    status.when("{")
    found = json.loads(status.lines[0][1])
    assert found["state"] == "Downloading"
    assert CAUSE in found["detail"]
    assert "Trying again" in found["detail"]
    kinds = {json.loads(line)["event"] for _, line in program.lines}
    assert kinds <= {"phase", "retry", "progress"}
