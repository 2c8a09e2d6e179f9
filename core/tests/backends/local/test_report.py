"""The report of a local job: in its folder at the end, and whenever somebody asks."""

import json
import subprocess
import sys

import pytest

from tunewright._client.job import Job
from tunewright.plan.secrets import SecretValue

CLI = (sys.executable, "-c", "from tunewright.cli import main; main()")
TRAINS = """
print(json.dumps({"event": "step", "step": 1, "total_steps": 1, "loss": 2.0, "learning_rate": 0.1}), flush=True)
"""
FETCHES = """
print(json.dumps({"event": "fetched", "slot": "model", "files": 1, "bytes": 10, "cached": False, "seconds": 2.0}))
"""


def test_a_job_leaves_a_report_in_its_folder(machine):
    plan = machine.plan(TRAINS, steps=[("fetch-model", FETCHES)], env={"TOKEN": SecretValue("s3cret")})
    machine.run(plan)
    machine.until((file := machine.folder() / "report.json").exists)
    found = json.loads(file.read_text("utf-8"))
    assert (found["state"], found["attempts"], found["seconds"] > 0) == ("Succeeded", 1, True)
    assert found["steps"] == [{"step": 1, "total_steps": 1, "loss": 2.0, "learning_rate": 0.1}]
    assert [(d["slot"], d["bytes_per_second"]) for d in found["downloads"]] == [("model", 5.0)]
    states = [(state["state"], state["detail"]) for state in found["states"]]
    assert states == [("Created", ""), ("Downloading", "fetch-model"), ("Running", ""), ("Succeeded", "")]
    assert sorted(state["since"] for state in found["states"]) == [state["since"] for state in found["states"]]
    assert "s3cret" not in file.read_text("utf-8")


@pytest.mark.slow
def test_a_job_that_failed_leaves_one_too_and_it_may_be_asked_for(machine, tmp_path):
    machine.run(machine.plan("raise ValueError('no rows')", max_restarts=0))
    machine.until((machine.folder() / "report.json").exists)
    assert "no rows" in json.loads((machine.folder() / "report.json").read_text("utf-8"))["detail"]
    page = tmp_path / "report.html"
    words = ("report", "job", "--json", "--html", str(page))
    done = subprocess.run((*CLI, *words), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == Job("job", machine.backend).report().to_dict()
    assert "ValueError: no rows" in page.read_text("utf-8")
    shown = subprocess.run((*CLI, "report", "job"), capture_output=True, text=True, check=True).stdout
    assert shown.startswith("state:")
    assert "no rows" in shown
