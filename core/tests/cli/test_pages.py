"""`tunewright list`, `compare`, `prune` and `ui`, on real local jobs; and what a notebook shows of them."""

import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tunewright import TrainingClient
from tunewright.cli.commands import cli

MAIN = "from tunewright.cli import main; main()"
TRAINS = """
import json, sys
for step in (1, 2):
    print(json.dumps({"event": "step", "step": step, "total_steps": 2, "loss": 3.0 / step, "mfu": 0.4}), flush=True)
print(json.dumps({"event": "eval", "step": 2, "eval_loss": 1.75}), flush=True)
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with two jobs that succeeded, one of which has a variable more, and one that failed."""
    home = tmp_path_factory.mktemp("home")
    patch = pytest.MonkeyPatch()
    patch.setenv("TUNEWRIGHT_HOME", str(home))
    (home / "train.py").write_text(TRAINS)
    client = TrainingClient("local")
    command = [sys.executable, str(home / "train.py")]
    jobs = [
        client.create_job("good", base_image="none", command=[*command, "0"]),
        client.create_job("better", base_image="none", command=[*command, "0"], env={"RATE": "2"}),
        client.create_job("bad", base_image="none", command=[*command, "1"], max_restarts=0),
    ]
    for job in jobs:
        job.wait(["Succeeded", "Failed"], timeout=60)
    yield home
    patch.undo()


def run(*words: str) -> str:
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_the_list_has_loss_and_duration(home: Path) -> None:
    rows = [json.loads(line) for line in run("list", "--json").splitlines()]
    assert [(row["name"], row["loss"], row["eval_loss"], row["seconds"] > 0) for row in rows] == [
        (name, 1.5, 1.75, True) for name in ("bad", "better", "good")
    ]
    assert re.search(r"good +Succeeded +1\.5000 +\d+ s", run("list"))


def test_a_comparison_shows_outcomes_and_differences(home: Path) -> None:
    shown = run("compare", "good", "better", "--html", str(home / "compare.html"))
    assert re.search(r"loss +3\.0000 → 1\.5000 +3\.0000 → 1\.5000", shown)
    assert re.search(r"env\.RATE +2", shown)
    assert "base_image" not in shown
    assert "Comparison" in (home / "compare.html").read_text("utf-8")
    found = json.loads(run("compare", "good", "better", "--json"))
    assert found["differences"] == {"env.RATE": [None, "2"]}
    alone = CliRunner().invoke(cli, ["compare", "good"])
    assert (alone.exit_code != 0, "tunewright report NAME" in alone.output) == (True, True)


def test_prune_says_what_it_would_remove_and_keeps_results(home: Path) -> None:
    assert "No job" in run("prune")
    listed = run("prune", "--older-than", "0s")
    assert "bad" in listed
    assert "good" not in listed
    assert "This would remove 1 job. To do it, add --yes." in listed
    assert "This would remove 3 jobs." in run("prune", "--older-than", "0s", "--with-results")
    assert "bad" in run("list"), "nothing was removed"
    assert "Removed 1 job." in run("prune", "--older-than", "0s", "--yes")
    assert [json.loads(line)["name"] for line in run("list", "--json").splitlines()] == ["better", "good"]


def test_the_page_is_served_until_ctrl_c(home: Path) -> None:
    process = subprocess.Popen([sys.executable, "-uc", MAIN, "ui", "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        port, token = re.fullmatch(r"Open http://127\.0\.0\.1:(\d+)/#token=([\w-]+)\n", line).groups()  # type: ignore[union-attr]
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
        connection.request("GET", "/api/jobs", headers={"Authorization": f"Bearer {token}"})
        assert "good" in {job["name"] for job in json.loads(connection.getresponse().read())["jobs"]}
        connection.close()
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=20)
    assert code == 130


def test_a_notebook_shows_jobs_and_their_list(home: Path) -> None:
    client = TrainingClient("local")
    assert "<td" in (shown := client.list_jobs()._repr_html_())
    assert "good" in shown
    assert "1.5000" in shown
    job = client.get_job("good")
    assert "<polyline" in job._repr_html_()
    assert "3.0000 → 1.5000" in job._repr_html_()
    gone = type(job)("gone<b>", client.backend)
    assert "gone&lt;b&gt;" in gone._repr_html_()
    assert client.list_jobs(labels={"a": "b"})._repr_html_() == "<p>There are no jobs.</p>"
