"""Jobs that nothing else would end: they wait too long, or their deadline passes while nothing happens."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.endless import end_if_endless
from tunewright.backends.kubernetes.live import LiveJob, Pod
from tunewright.backends.kubernetes.obstacles import lost_node
from tunewright.backends.kubernetes.state import phase_of, waits_since
from tunewright.backends.pytorchjob.kind import PyTorchJob
from tunewright.status.state import JobState

KIND = PyTorchJob()
NOW = datetime.now(UTC).replace(microsecond=0)


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat()


def document(
    wait_for: int | None = None, deadline: int | None = None, workers: int = 1, **labels: str
) -> dict[str, Any]:
    """A PyTorchJob that was created five minutes ago."""
    policy = {} if deadline is None else {"activeDeadlineSeconds": deadline}
    return {
        "metadata": {
            "name": "sft",
            "namespace": "team",
            "uid": "1",
            "creationTimestamp": ago(300),
            "labels": {**names.labels("sft"), **labels},
            "annotations": {} if wait_for is None else {names.WAIT_FOR: str(wait_for)},
        },
        "spec": {
            "runPolicy": policy,
            "pytorchReplicaSpecs": {
                "Worker": {"replicas": workers, "template": {"spec": {"containers": [{"name": "pytorch"}]}}}
            },
        },
        "status": {"startTime": ago(299), "conditions": []},
    }


def pod(
    created: float,
    worker: int = 0,
    phase: str = "Pending",
    ready: dict[str, str] | None = None,
    **states: dict[str, Any],
) -> Pod:
    """A pod that was created some seconds ago; `states`: name → state, "pytorch" for the main container."""
    found = [{"name": name, "state": state, "ready": "running" in state} for name, state in states.items()]
    main = [status for status in found if status["name"] == "pytorch"]
    conditions = [{"type": "Ready", **ready}] if ready else []
    labels = {"training.kubeflow.org/replica-type": "worker", "training.kubeflow.org/replica-index": str(worker)}
    return KIND.read_pod(
        {
            "metadata": {
                "name": f"sft-worker-{worker}",
                "uid": str(worker),
                "labels": labels,
                "creationTimestamp": ago(created),
            },
            "spec": {"nodeName": "node-7"},
            "status": {
                "phase": phase,
                "conditions": conditions,
                "initContainerStatuses": [status for status in found if status not in main],
                "containerStatuses": main,
            },
        }
    )


RUNS = {"running": {"startedAt": ago(100)}}
WAITS = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
DONE = {"terminated": {"exitCode": 0, "finishedAt": ago(20)}}


@attrs.define
class Api:
    """Takes patches of one job."""

    job: dict[str, Any]
    kind: PyTorchJob = KIND
    patches: list[dict[str, Any]] = attrs.field(factory=list)

    def patch(self, kind: str, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        assert (kind, name) == ("PyTorchJob", "sft")
        self.patches.append(patch)
        metadata = self.job["metadata"]
        annotations = {**metadata["annotations"], **patch["metadata"].get("annotations", {})}
        policy = {**self.job["spec"]["runPolicy"], **patch.get("spec", {}).get("runPolicy", {})}
        spec = {**self.job["spec"], "runPolicy": policy}
        self.job = {**self.job, "metadata": {**metadata, "annotations": annotations}, "spec": spec}
        return self.job


def look(found: dict[str, Any], *pods: Pod) -> tuple[Api, LiveJob]:
    api = Api(found)
    return api, end_if_endless(api, KIND.read(found), pods, lambda: "the image is not there")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pods", "seconds"),
    [
        ([pod(200)], 200),
        ([pod(200, pytorch=WAITS)], 200),
        ([pod(200, check=RUNS, pytorch=WAITS)], None),
        ([pod(200, check=DONE, pytorch=WAITS)], 20),
        ([pod(200, phase="Running", pytorch=RUNS)], None),
        ([], 299),
    ],
    ids=["no node", "no image", "a step runs", "no image after a step", "trains", "no pod"],
)
def test_a_job_waits_since_its_last_step_ended(pods: list[Pod], seconds: int | None) -> None:
    since = waits_since(KIND.read(document()), pods)
    assert since == (None if seconds is None else NOW - timedelta(seconds=seconds))


def test_one_worker_that_waits_is_enough() -> None:
    pods = [pod(250, phase="Running", pytorch=RUNS), pod(40, worker=1, pytorch=WAITS)]
    assert waits_since(KIND.read(document(workers=2)), pods) == NOW - timedelta(seconds=40)
    assert waits_since(KIND.read(document(workers=2)), pods[:1]) == NOW - timedelta(seconds=299)


def test_a_job_that_has_waited_longer_than_it_may_fails_with_what_it_waited_for() -> None:
    api, job = look(document(wait_for=60), pod(200, pytorch=WAITS))
    [patch] = api.patches
    assert patch["spec"] == {"runPolicy": {"suspend": True}}, "which ends its pods"
    failure = phase_of(job, []).failure
    assert failure is not None
    assert failure.cause == "Its pods waited to start for longer than wait_for=60 s: the image is not there."
    assert "wait_for=" in failure.remedy
    assert phase_of(job, []).state is JobState.FAILED
    again, _ = look(api.job)
    assert again.patches == []


@pytest.mark.parametrize(
    ("found", "waiting"),
    [
        (document(wait_for=3600), 30),
        (document(), 200),
        (document(wait_for=60, **{names.QUEUE: "team"}), 200),
    ],
    ids=["not yet", "for ever", "in a queue"],
)
def test_other_jobs_go_on_waiting(found: dict[str, Any], waiting: float) -> None:
    api, job = look(found, pod(waiting, pytorch=WAITS))
    assert api.patches == []
    assert not job.ended


def test_the_controller_is_made_to_look_once_at_a_deadline_that_has_passed() -> None:
    api, job = look(document(deadline=60), pod(200))
    assert [patch["metadata"]["annotations"] for patch in api.patches] == [{names.LATE: "true"}]
    assert not job.ended, "that is the controller's to say"
    assert look(api.job, pod(200))[0].patches == []
    assert look(document(deadline=600), pod(200))[0].patches == []


def test_a_node_that_does_not_answer_is_told() -> None:
    runs = pod(200, phase="Running", ready={"status": "True", "lastTransitionTime": ago(90)}, pytorch=RUNS)
    lost = pod(200, phase="Running", ready={"status": "False", "lastTransitionTime": ago(90)}, pytorch=RUNS)
    waits = pod(
        200, ready={"status": "False", "reason": "ContainersNotReady", "lastTransitionTime": ago(90)}, pytorch=WAITS
    )
    assert lost_node([runs, waits]) == ""
    assert re.match(
        r"worker 0: its node node-7 has not answered for \d{2,} s\. Kubernetes replaces it", lost_node([lost])
    )
    assert "Tell your cluster admin" in lost_node([lost])
