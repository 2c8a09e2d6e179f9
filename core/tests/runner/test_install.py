"""`run --install`: the real pip, a real index that is there, lacks a package or is away; and what `run` makes of it."""

import base64
import ensurepip
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunewright import runner
from tunewright.runner.install import WHEELS_FOLDER
from tunewright.runner.source import runner_source

BUNDLED = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's"),
    pytest.mark.skipif(not BUNDLED, reason="this Python comes without the wheel of pip"),
]


class Index(http.server.ThreadingHTTPServer):
    """A package index with the package `demo`, which first hangs up on a number of requests."""

    def __init__(self, folder: Path) -> None:
        self.refusals, self.asked = 0, 0
        wheel = folder / "demo" / "demo-1.0-py3-none-any.whl"
        wheel.parent.mkdir(parents=True)
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("demo.py", "ANSWER = 42\n")
            archive.writestr("demo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
            archive.writestr("demo-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")  # fmt: skip
            archive.writestr("demo-1.0.dist-info/RECORD", "demo.py,,\n")
        (wheel.parent / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
        index = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments: object) -> None:
                super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

            def do_GET(self) -> None:
                index.asked += 1
                if index.refusals:
                    index.refusals -= 1
                    self.close_connection = True
                    return None
                return super().do_GET()

            def log_message(self, *_: object) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Step:
    """An init container that installs packages."""

    def __init__(self, folder: Path, pip: Path) -> None:
        self.packages, self.run_folder, self.log = folder / "packages", folder / "run", folder / "termination-log"
        self.run_folder.mkdir()
        self.file = folder / "run.py"
        self.file.write_text(runner_source(), "utf-8")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("TUNEWRIGHT", "PIP_"))} | {
            "TUNEWRIGHT_WORKSPACE": str(folder / "ws"), "TUNEWRIGHT_RUN": str(self.run_folder),
            "TUNEWRIGHT_TERMINATION_LOG": str(self.log), "PYTHONPATH": str(pip), "PIP_RETRIES": "1",
            "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INPUT": "1",
        }  # fmt: skip

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(self.file), "--install", "install-packages", "--", *words]
        return subprocess.Popen(command, env=self.env | env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def pip(self, index: str, *requirements: str, **env: str) -> int:
        words = ("-m", "pip", "install", "--no-cache-dir", "--target", str(self.packages), "--index-url", index, "--")
        process = self.start(sys.executable, *words, *requirements, **env)
        self.out, self.err = process.communicate(timeout=60)
        return process.returncode

    @property
    def verdict(self) -> runner.Failure | None:
        return runner.read_verdict(self.run_folder)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index(tmp_path / "index") as found:
        yield found
        found.shutdown()


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real pip, unpacked: from its wheel it takes three times as long to start."""
    folder = tmp_path_factory.mktemp("pip")
    with zipfile.ZipFile(BUNDLED[-1]) as wheel:
        wheel.extractall(folder)
    return folder


@pytest.fixture
def step(tmp_path: Path, pip: Path) -> Step:
    return Step(tmp_path, pip)


@pytest.mark.slow
def test_what_the_index_has_is_installed(index: Index, step: Step) -> None:
    assert step.pip(index.url, "demo==1.0") == 0
    assert (step.packages / "demo.py").read_text() == "ANSWER = 42\n"
    assert step.verdict is None
    assert not step.log.exists()


@pytest.mark.slow
def test_what_the_index_lacks_is_a_verdict_and_no_failure_of_the_container(index: Index, step: Step) -> None:
    assert step.pip(index.url, "demo==2.0") == 0
    assert step.verdict is not None
    assert step.verdict.code == 66
    assert "No matching distribution found for demo==2.0" in step.verdict.cause
    assert "install-packages" in step.verdict.cause
    assert f"{index.url} has demo==2.0" in step.verdict.remedy
    assert "ERROR: No matching distribution" in step.err, "the log has what pip says"
    assert step.verdict.container == "install-packages"
    message = step.log.read_text()
    assert runner.Failure.from_message(message, 1) == step.verdict
    assert json.loads(step.out.splitlines()[-1]) == {"event": "failed", **step.verdict.to_dict()}

    asked = index.asked
    assert step.pip(index.url, "demo==1.0") == 0, "a step after it does nothing"
    assert index.asked == asked
    run = [sys.executable, str(step.file), "--", sys.executable, "-c", "print('started')"]
    done = subprocess.run(run, env=step.env, capture_output=True, text=True, check=False)
    assert (done.returncode, "started" in done.stdout) == (66, False)
    assert step.log.read_text() == message


@pytest.mark.slow
def test_an_index_that_comes_back_is_asked_again(index: Index, step: Step) -> None:
    index.refusals = 2  # pip's own second try, too
    assert step.pip(index.url, "demo") == 0
    assert step.verdict is None
    assert "the package index is unreachable; trying again" in step.err
    assert (step.packages / "demo.py").exists()


@pytest.mark.slow
def test_an_index_that_stays_away_is_a_verdict_that_names_it(index: Index, step: Step) -> None:
    url = index.url
    index.shutdown()
    index.server_close()
    assert step.pip(url, "demo", TUNEWRIGHT_RETRY_FOR="0") == 0
    assert step.verdict is not None
    assert step.verdict.code == 69
    assert f"could not reach {url}" in step.verdict.cause
    assert "PIP_INDEX_URL" in step.verdict.remedy


def test_a_terminated_step_is_no_failure(step: Step) -> None:
    process = step.start("sh", "-c", "echo 'after connection broken by' >&2; exit 1")
    assert process.stderr
    for line in process.stderr:
        if "trying again" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert step.verdict is None


def test_a_program_that_is_not_there_is_a_verdict(step: Step) -> None:
    process = step.start("no-such-python", "-m", "pip")
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert step.verdict is not None
    assert (step.verdict.code, "no-such-python" in step.verdict.cause) == (64, True)


@pytest.mark.slow
def test_a_verdict_that_cannot_be_left_is_the_exit_code(index: Index, step: Step) -> None:
    assert step.pip(index.url, "demo==2.0", TUNEWRIGHT_RUN=str(step.run_folder / "gone")) == 66
    assert "could not be left" in step.err


def test_a_secret_is_shown_nowhere(step: Step) -> None:
    code = "import os, sys; sys.exit('ERROR: cannot log in with ' + os.environ['TOKEN'])"
    process = step.start(sys.executable, "-c", code, TOKEN="s3cret-token", TUNEWRIGHT_SECRETS="TOKEN")
    out, err = process.communicate(timeout=60)
    assert step.verdict is not None
    assert "cannot log in with <redacted>" in step.verdict.cause
    assert "cannot log in with <redacted>" in err
    assert "s3cret" not in out + err + step.log.read_text()


def test_the_log_streams_while_the_command_runs(step: Step) -> None:
    code = "import sys, time; print('first', file=sys.stderr, flush=True); time.sleep(300)"
    process = step.start(sys.executable, "-c", code)
    assert process.stderr
    began = time.monotonic()
    assert process.stderr.readline() == "first\n"
    process.terminate()
    process.communicate(timeout=60)
    assert time.monotonic() - began < 200


def test_wheels_that_the_job_carries_are_unpacked_for_pip(step: Step, tmp_path: Path) -> None:
    config, name = tmp_path / "config", f"kit_{os.getpid()}-1.0-py3-none-any.whl"
    config.mkdir()
    (config / "wheels.json").write_text(json.dumps({f"../{name}": base64.b64encode(b"a wheel").decode()}))
    file = Path(WHEELS_FOLDER, name)
    code = f"import pathlib, sys; sys.exit(pathlib.Path({str(file)!r}).read_bytes() != b'a wheel')"
    process = step.start(sys.executable, "-c", code, TUNEWRIGHT_CONFIG=str(config))
    _, err = process.communicate(timeout=60)
    file.unlink(missing_ok=True)
    assert (process.returncode, step.verdict) == (0, None), err
