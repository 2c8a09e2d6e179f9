"""The progress in the job's object: a real server takes the patches, and nothing that it answers ends a training."""

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import attrs
import pytest

from tunewright.events import Event, Phase, Step
from tunewright_launcher.job_object import JobObject, job_object, noted

pytestmark = pytest.mark.slow
PATH = "/apis/kubeflow.org/v1/namespaces/{namespace}/pytorchjobs/sft"


@attrs.define
class ApiServer:
    """What an API server does with a patch: notes it, and answers with a status."""

    folder: Path
    status: int = 200
    patches: list[tuple[str, str | None, str]] = attrs.field(factory=list)
    url: str = ""

    @property
    def job(self) -> JobObject:
        return JobObject(path=PATH, server=self.url, account=self.folder)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    found = ApiServer(tmp_path)
    (tmp_path / "token").write_text("a-token\n")
    (tmp_path / "namespace").write_text("team")

    class Handler(BaseHTTPRequestHandler):
        def do_PATCH(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers["Content-Type"] == "application/merge-patch+json"
            note = body["metadata"]["annotations"]["tunewright.dev/progress"]
            found.patches.append((self.path, self.headers["Authorization"], note))
            self.send_response(found.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_address[1]}"
        Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


def test_the_first_step_and_the_last_one_are_written(api: ApiServer) -> None:
    seen: list[Event] = []
    with noted(api.job, seen.append, "train") as tell:
        tell(Phase(name="train", text="training"))
        tell(Step(step=1, total_steps=3, loss=2.0))
        end = time.monotonic() + 30
        while not api.patches and time.monotonic() < end:
            time.sleep(0.05)
        tell(Step(step=2, total_steps=3, loss=1.5))
        tell(Step(step=3, total_steps=3, loss=1.25))
    assert [note.split(", ")[:2] for _, _, note in api.patches] == [
        ["step 1/3", "loss 2.0000"],
        ["step 3/3", "loss 1.2500"],
    ]
    assert {path for path, *_ in api.patches} == {PATH.format(namespace="team")}
    assert {authorization for _, authorization, _ in api.patches} == {"Bearer a-token"}
    assert len(seen) == 4


def test_who_is_not_allowed_is_told_once_and_asks_no_more(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    api.status = 403
    with noted(api.job, lambda _: None, "train") as tell:
        tell(Step(step=1))
        end = time.monotonic() + 30
        while not api.patches and time.monotonic() < end:
            time.sleep(0.05)
        tell(Step(step=2))
    assert len(api.patches) == 1
    assert capsys.readouterr().err.count("The progress is not written into the job: HTTP Error 403") == 1


def test_a_server_that_is_away_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = JobObject(path=PATH, server="http://127.0.0.1:9", account=tmp_path)
    with noted(job, lambda _: None, "train") as tell:
        tell(Step(step=1))
    assert "The progress is not written into the job" in capsys.readouterr().err


def test_the_job_is_known_only_in_a_pod_that_may_write_it() -> None:
    place = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    assert job_object(place) is None
    assert job_object({"TUNEWRIGHT_JOB_OBJECT": PATH}) is None
    found = job_object({**place, "TUNEWRIGHT_JOB_OBJECT": PATH})
    assert found is not None
    assert found.server == "https://[fd00::1]:443"
