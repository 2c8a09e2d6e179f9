"""What may be changed of a local job, and when."""

import subprocess
import sys

import pytest

from tunewright import JobError, RequestError
from tunewright._client.job import Job
from tunewright.status.state import JobState

CLI = (sys.executable, "-c", "from tunewright.cli import main; main()")
CRASHES = """
(out / "starts").open("a").write("x")
sys.exit(7)
"""


@pytest.mark.slow
def test_labels_change_while_it_runs_and_jobs_are_listed_by_them(machine):
    job = machine.submit(machine.plan("wait('go')", labels={"team": "a", "old": "x"}))
    subprocess.run((*CLI, "update", "job", "--label", "team=b", "--label", "old-"), check=True)
    assert job.status().labels == {"team": "b"}
    assert [status.name for status in machine.backend.list({"team": "b"})] == ["job"]
    assert machine.backend.list({"team": "a"}) == []
    listed = subprocess.run((*CLI, "list", "-l", "team=b", "--json"), capture_output=True, text=True, check=True)
    assert '"job"' in listed.stdout
    with pytest.raises(JobError, match="Suspend it first: tunewright suspend job"):
        job.update(max_restarts=1)
    with pytest.raises(RequestError, match="only supported on Kubernetes"):
        job.update(queue="team-a")
    (machine.output() / "go").touch()
    assert machine.rest(job).state is JobState.SUCCEEDED
    with pytest.raises(JobError, match="has succeeded"):
        job.update(deadline=10)


@pytest.mark.slow
def test_a_failed_job_may_get_more_restarts_and_the_very_same_plan_still_finds_it(machine):
    plan = machine.plan(CRASHES, max_restarts=0, env={"TUNEWRIGHT_MAX_RESTARTS": "0"})
    assert machine.run(plan).state is JobState.FAILED
    assert (machine.output() / "starts").read_text() == "x"
    job = Job("job", machine.backend)
    job.update(max_restarts=1)
    job.resume()
    assert machine.rest(job).state is JobState.FAILED
    assert (machine.output() / "starts").read_text() == "xxx"
    assert machine.run(plan).state is JobState.FAILED


@pytest.mark.slow
def test_a_ttl_given_after_the_end_removes_the_job(machine):
    machine.run(machine.plan())
    Job("job", machine.backend).update(ttl=0)
    machine.until(lambda: machine.backend.list() == [])
