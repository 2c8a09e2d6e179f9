"""What holds a job up is what its newest events say, and not what they said before."""

import re
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.api import Page
from tunewright.backends.kubernetes.live import LiveJob, Pod
from tunewright.backends.kubernetes.obstacles import obstacle
from tunewright.backends.kubernetes.state import phase_of
from tunewright.backends.trainjob.kind import TrainJob

KIND = TrainJob()
NOW = datetime.now(UTC).replace(microsecond=0)
MISSING = 'MountVolume.SetUp failed for volume "config" : configmap "sft-config" not found'
UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."


def event(seconds: int, reason: str, message: str, about: str = "sft-node-0-0-x", type_: str = "Warning") -> dict:
    """An event some seconds ago."""
    at = (NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    return {"involvedObject": {"name": about}, "lastTimestamp": at, "type": type_, "reason": reason, "message": message}


@attrs.frozen
class Api:
    events: list[dict]
    kind: TrainJob = KIND
    context: None = None

    def list(self, kind: str, selector: dict[str, str]) -> Page:
        assert kind == "Event"
        name = selector["fieldSelector"].removeprefix("involvedObject.name=")
        return Page([e for e in self.events if e["involvedObject"]["name"] == name], "1")


def job() -> LiveJob:
    created = (NOW - timedelta(seconds=300)).isoformat()
    about = {
        "name": "sft",
        "namespace": "team",
        "uid": "1",
        "creationTimestamp": created,
        "labels": names.labels("sft"),
    }
    return KIND.read({"metadata": about, "spec": {"trainer": {"numNodes": 1}}})


def pod(node: str = "node-1") -> Pod:
    return Pod(name="sft-node-0-0-x", uid="p", worker=0, created=NOW - timedelta(seconds=200), node=node)


def found(*events: dict, node: str = "node-1") -> str:
    pods = [pod(node)]
    return obstacle(Api(list(events)), job(), phase_of(job(), pods), pods)


def test_a_warning_that_something_followed_is_over() -> None:
    assert (
        found(event(90, "FailedMount", MISSING))
        == f"{MISSING}. Create what is missing, or correct its name in the job: the pod starts by itself then."
    )
    assert found(event(90, "FailedMount", MISSING), event(5, "Started", "Started container", type_="Normal")) == ""


def test_an_image_that_is_pulled_says_how_long_already() -> None:
    pulling = event(40, "Pulling", 'Pulling image "big:1"', type_="Normal")
    said = found(event(90, "FailedMount", MISSING), pulling)
    assert (found_ := re.fullmatch(r'worker 0: pulling image "big:1" for (\d+) s', said)), said
    assert int(found_[1]) >= 40


def test_scheduling_is_over_once_there_is_a_node() -> None:
    assert UNBOUND.rstrip(".") in found(event(90, "FailedScheduling", UNBOUND), node="")
    assert found(event(90, "FailedScheduling", UNBOUND)) == ""


def test_what_is_older_than_the_pod_belongs_to_an_earlier_one() -> None:
    assert found(event(250, "FailedMount", MISSING)) == ""


@pytest.mark.parametrize("about", ["sft", "sft-node-0"], ids=["TrainJob or JobSet", "Job"])
def test_pods_that_cannot_be_created_are_told_by_what_should_create_them(about: str) -> None:
    refusal = event(9, "FailedCreate", 'pods "sft-node-0-0-x" is forbidden: exceeded quota: team', about)
    assert obstacle(Api([refusal]), job(), phase_of(job(), []), []).startswith('pods "sft-node-0-0-x" is forbidden')
