"""Updates: what may be changed of a job, what is refused and why, and the patch that a PyTorchJob gets."""

import pytest

from tunewright import JobError, RequestError
from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.update import patch_for, refuse_too_late
from tunewright.backends.pytorchjob.kind import PyTorchJob
from tunewright.cli.labels import changes, pairs
from tunewright.request.update import JobUpdate, job_update

KIND = PyTorchJob()


def document(*conditions: str, suspend: bool = False, queue: str | None = None) -> dict:
    env = [{"name": "TUNEWRIGHT_MAX_RESTARTS", "value": "3"}, {"name": "LR", "value": "1"}]
    pod = {
        "initContainers": [{"name": "fetch-model", "image": "s"}, {"name": "check", "image": "t", "env": env}],
        "containers": [{"name": "pytorch", "image": "t", "env": env}, {"name": "sidecar", "image": "x"}],
    }
    return {
        "metadata": {
            "name": "sft",
            "namespace": "team",
            "uid": "1",
            "creationTimestamp": "2026-11-24T12:00:00Z",
            "resourceVersion": "7",
            "labels": {**names.labels("sft"), **({names.QUEUE: queue} if queue else {})},
        },
        "spec": {
            "runPolicy": {"suspend": suspend},
            "pytorchReplicaSpecs": {"Worker": {"replicas": 1, "template": {"spec": pod}}},
        },
        "status": {"conditions": [{"type": c, "status": "True"} for c in conditions]},
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "has nothing to change"),
        ({"labels": {}}, "has nothing to change"),
        ({"lables": {"a": "b"}}, "is not an argument"),
        ({"num_workers": 2}, "cannot be changed after submission"),
        ({"model": "hf://org/name"}, "You can change labels, annotations, queue"),
        ({"suspend": True}, "Use suspend_job() and resume_job()"),
        ({"labels": {"a b": "c"}}, "is not a valid Kubernetes name"),
        ({"labels": {"team": 3}}, "must be a string"),
        ({"labels": ["team"]}, "labels"),
        ({"labels": {names.MANAGED_BY: None}}, "identifies the job"),
        ({"annotations": {names.PLAN: "x"}}, "identifies the job"),
        ({"labels": {names.QUEUE: "b"}}, "Use queue=."),
        ({"labels": {"token": "hf_" + "secret" * 6}}, "Everyone can read labels"),
        ({"ttl": -1}, "must be at least 0"),
        ({"deadline": 0}, "must be at least 1"),
        ({"max_restarts": "3"}, "must be a whole number"),
        ({"priority_class": "Very High"}, "priority_class"),
    ],
)
def test_what_cannot_be_changed_is_refused_with_a_remedy(options: dict, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        job_update(str, options)
    assert says in str(caught.value)


def test_labels_annotations_and_ttl_change_the_job_at_any_time() -> None:
    update = job_update(str, {"labels": {"team": "b", "old": None}, "annotations": {"why": "x"}, "ttl": 60})
    for now in (document(), document("Running"), document("Succeeded"), document(suspend=True, queue="a")):
        refuse_too_late(KIND, KIND.read(now), update)
        assert patch_for(KIND, now, update) == {
            "metadata": {"labels": {"team": "b", "old": None}, "annotations": {"why": "x"}},
            "spec": {"runPolicy": {"ttlSecondsAfterFinished": 60}},
        }


@pytest.mark.parametrize("field", ["queue", "priority_class", "deadline", "max_restarts"])
@pytest.mark.parametrize(
    ("now", "says"),
    [
        (document("Running"), "Suspend it first: tunewright suspend sft --backend kubernetes -n team"),
        (document("Running", queue="a"), "Kueue decides when it runs"),
        (document("Failed"), "has ended"),
        (document("Failed", suspend=True), "has ended"),
    ],
)
def test_what_running_pods_would_not_see_is_refused(field: str, now: dict, says: str) -> None:
    update = JobUpdate(**{field: "high" if field in ("queue", "priority_class") else 9})
    with pytest.raises(JobError, match=says) as caught:
        refuse_too_late(KIND, KIND.read(now), update)
    assert field in str(caught.value)


def test_of_a_suspended_job_the_pods_are_changed_too_and_only_there() -> None:
    now = document(suspend=True)
    update = job_update(str, {"queue": "b", "priority_class": "high", "deadline": 100, "max_restarts": 9})
    refuse_too_late(KIND, KIND.read(now), update)
    patch = patch_for(KIND, now, update)
    assert patch["metadata"] == {"labels": {names.QUEUE: "b"}, "resourceVersion": "7"}
    assert patch["spec"]["runPolicy"] == {"activeDeadlineSeconds": 100}
    pod = patch["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]
    assert pod["priorityClassName"] == "high"
    restarts, lr = {"name": "TUNEWRIGHT_MAX_RESTARTS", "value": "9"}, {"name": "LR", "value": "1"}
    assert pod["initContainers"] == [
        {"name": "fetch-model", "image": "s"}, {"name": "check", "image": "t", "env": [restarts, lr]}
    ]  # fmt: skip
    assert pod["containers"] == [
        {"name": "pytorch", "image": "t", "env": [restarts, lr, {"name": "TUNEWRIGHT_DEADLINE", "value": "100"}]},
        {"name": "sidecar", "image": "x"},
    ]


def test_labels_as_words() -> None:
    assert pairs(["team=a", "x=y=z", "empty="]) == {"team": "a", "x": "y=z", "empty": ""}
    assert changes(["team=a", "old-", "x=y-"]) == {"team": "a", "old": None, "x": "y-"}
    with pytest.raises(RequestError, match="KEY=VALUE"):
        pairs(["team"])
