"""Looking after jobs on a real cluster: changing them, their events and conditions, and the report at the end."""

import json

import pytest
from tests.cluster.cluster import Cluster
from tests.cluster.helpers import CHEAP, WAITS, command

from tunewright import JobError, JobState, SecretValue, TrainingClient
from tunewright.events import ClusterEvent, Step

pytestmark = pytest.mark.timeout(600)

TELLS = """
import json
import time
print(json.dumps({"event": "fetched", "slot": "model", "files": 1, "bytes": 10, "cached": False, "seconds": 2.0}))
for step in (1, 2):
    print(json.dumps({"event": "step", "step": step, "total_steps": 2, "loss": 4.0 / step, "learning_rate": 0.1}))
time.sleep(15)  # the operator tells of a pod as Running only if it sees it so
"""
CRASHES = "print('a life'); raise SystemExit(7)"


def test_a_suspended_job_gets_more_restarts_another_priority_and_a_deadline(
    cluster: Cluster, client: TrainingClient, namespace: str, image: str, volumes
) -> None:
    volumes()
    job = client.create_job("changed", base_image=image, command=command(CRASHES), max_restarts=0, suspend=True)
    job.wait([JobState.SUSPENDED], timeout=180)
    client.update_job("changed", max_restarts=1, deadline=600, priority_class="system-node-critical")
    client.update_job("changed", priority_class="system-cluster-critical", ttl=3000)
    document = cluster.json("pytorchjob", "changed", "-n", namespace)
    pod = document["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
    assert pod["priorityClassName"] == "system-cluster-critical"
    policy = document["spec"]["runPolicy"]
    assert (policy["activeDeadlineSeconds"], policy["ttlSecondsAfterFinished"]) == (600, 3000)
    client.update_job("changed", labels={"team": "a"})
    # A namespace of users has no quota for pods of that priority, so the job goes on without it.
    change = [{"op": "remove", "path": "/spec/pytorchReplicaSpecs/Master/template/spec/priorityClassName"}]
    cluster.kubectl("patch", "pytorchjob", "changed", "-n", namespace, "--type=json", "-p", json.dumps(change))
    job.resume()
    with pytest.raises(JobError, match="exit code 7; 2 of 2 attempts"):
        job.wait(timeout=150)
    with pytest.raises(JobError, match="has ended, so max_restarts can no longer be changed"):
        job.update(max_restarts=5)


def test_a_running_job_changes_its_labels_and_is_listed_by_them(
    cluster: Cluster, client: TrainingClient, namespace: str, image: str, volumes
) -> None:
    volumes()
    job = client.create_job(
        "moved",
        base_image=image,
        command=command(WAITS),
        labels={"team": "a", "old": "x"},
        resources_per_worker=CHEAP,
    )
    job.wait([JobState.RUNNING], timeout=180)
    with pytest.raises(JobError, match="Suspend it first: tunewright suspend moved"):
        job.update(deadline=100, labels={"team": "never"})
    job.update(labels={"team": "b", "old": None}, annotations={"example.com/why": "a move"})
    assert [(s.name, s.state) for s in client.backend.list({"team": "b"})] == [("moved", JobState.RUNNING)]
    assert client.list_jobs({"team": "a"}) == []
    metadata = cluster.json("pytorchjob", "moved", "-n", namespace)["metadata"]
    assert metadata["annotations"]["example.com/why"] == "a move"
    assert "old" not in metadata["labels"]


def test_a_finished_job_has_events_conditions_and_a_report_without_secrets(
    client: TrainingClient, image: str, volumes
) -> None:
    volumes()
    secret = "a-literal-secret-of-a-test"
    job = client.create_job("told", base_image=image, command=command(TELLS), env={"TOKEN": SecretValue(secret)})
    job.wait(timeout=180)
    told = list(client.get_job_events("told"))
    reasons = {(event.about, event.reason) for event in told if isinstance(event, ClusterEvent)}
    assert {("Pod/told-master-0", "Scheduled"), ("Pod/told-master-0", "Started")} <= reasons
    assert [event.step for event in told if isinstance(event, Step)] == [1, 2]
    conditions = client.get_job_conditions("told")
    assert [str(c.state) for c in conditions] == ["Created", "Running", "Succeeded"]
    assert None not in [c.since for c in conditions]
    report = job.report()
    assert [(step["step"], step["loss"]) for step in report.steps] == [(1, 4.0), (2, 2.0)]
    assert (report.status.result, report.attempts) == ("pvc://told-workspace/output", 1)
    assert report.record.images == {"train": image}
    assert [d.rate for d in report.downloads] == [5.0]
    for text in (report.to_json(), report.to_html()):
        assert "told" in text
        assert secret not in text
