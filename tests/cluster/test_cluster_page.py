"""The live page of a job on a real cluster: what it says while the job trains, and once it is gone."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from tests.cluster.helpers import command, eventually

from tunewright import JobState, TrainingClient
from tunewright._page.server import PageServer

pytestmark = pytest.mark.timeout(600)

TRAINS = """
import json, pathlib, time

def tell(**event):
    print(json.dumps(event), flush=True)

tell(event="start", total_steps=20)
for step in range(1, 21):
    tell(event="step", step=step, total_steps=20, loss=2 / step, learning_rate=1e-4)
    while step == 10 and not pathlib.Path("/tmp/go").exists():
        time.sleep(0.2)
print("the last line")
"""


@pytest.fixture
def page(client: TrainingClient) -> Iterator[PageServer]:
    server = PageServer({"kubernetes": client.backend})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def ask(page: PageServer, path: str) -> dict:
    request = urllib.request.Request(f"{page.origin}/api/{path}", headers={"Authorization": f"Bearer {page.token}"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def test_the_page_shows_a_job_that_trains_and_forgets_one_that_is_deleted(
    client: TrainingClient, page: PageServer, own_cluster, namespace: str, image: str, volumes
) -> None:
    volumes()
    assert ask(page, "jobs") == {"jobs": [], "problems": []}
    job = client.create_job("shown", base_image=image, command=command(TRAINS))
    job.wait([JobState.RUNNING], timeout=180)

    def steps() -> list[int]:
        return ask(page, "jobs/kubernetes/shown")["curves"].get("loss", {"steps": []})["steps"]

    eventually(steps, list(range(1, 11)))
    assert ask(page, "jobs")["jobs"][0]["state"] == "Running"
    own_cluster.kubectl("exec", "-n", namespace, "shown-master-0", "--", "touch", "/tmp/go")
    job.wait(timeout=180)
    eventually(steps, list(range(1, 21)))
    document = ask(page, "jobs/kubernetes/shown?log=0")
    assert document["at_rest"]
    assert "the last line" in json.dumps(document["log"])
    job.delete()
    eventually(lambda: ask(page, "jobs")["jobs"], [])
    with pytest.raises(urllib.error.HTTPError, match="404"):
        ask(page, "jobs/kubernetes/shown")
