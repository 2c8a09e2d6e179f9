"""Jobs on a runtime of the platform's: what the job does not set is as there."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from tunewright import RequestError
from tunewright.backends.any_kind.backend import AnyKindBackend
from tunewright.backends.base import BackendOptions
from tunewright.backends.job.kind import IndexedJob
from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.bases import find_base
from tunewright.backends.kubernetes.failures import ApiFailure
from tunewright.backends.kubernetes.render import render
from tunewright.backends.pytorchjob.kind import PyTorchJob
from tunewright.backends.trainjob.kind import TrainJob
from tunewright.plan.plan import ContainerSpec, JobPlan
from tunewright.plan.policies import RunPolicy, Scheduling
from tunewright.plan.resources import Resources

KIND = TrainJob()
STEP = "trainer.kubeflow.org/trainjob-ancestor-step"


def replicated(name: str, containers: list[dict[str, Any]], step: str = "", **pod: object) -> dict[str, Any]:
    labels = {STEP: step} if step else {}
    spec = {"template": {"metadata": {"labels": {"cost": "research"}}, "spec": {"containers": containers, **pod}}}
    return {"name": name, "template": {"metadata": {"labels": labels}, "spec": spec}}


def platform(policy: Mapping[str, object] | None = None) -> dict[str, Any]:
    """A runtime with a limit, a sidecar, a node pool, a pod group, and two jobs besides its trainer."""
    node = {
        "name": "node",
        "image": "torch:2",
        "resources": {"limits": {"memory": "64Gi"}},
        "env": [{"name": "NCCL_IB", "value": "1"}],
    }
    jobs = [
        replicated("dataset", [{"name": "dataset"}], "dataset-initializer"),
        replicated(
            "node",
            [{"name": "meter", "image": "meter:1"}, node],
            "trainer",
            nodeSelector={"pool": "h100"},
            priorityClassName="low",
        ),
        replicated("monitor", [{"name": "monitor"}]),
    ]
    spec = {"network": {"publishNotReadyAddresses": True}, "replicatedJobs": jobs}
    return {
        "metadata": {"name": "torch-distributed", "labels": {"trainer.kubeflow.org/framework": "torch"}, "uid": "7"},
        "spec": {
            "mlPolicy": policy or {"numNodes": 1, "torch": {"numProcPerNode": "auto"}},
            "podGroupPolicy": {"coscheduling": {}},
            "template": {"metadata": {"labels": {"set": "x"}}, "spec": spec},
        },
    }


def plan(runtime: str | None = "torch-distributed", **main: object) -> JobPlan:
    container = ContainerSpec(name="train", image="ours:1", command=["torchrun"], **main)
    fetch = ContainerSpec(name="fetch-model", image="ours:1", command=["fetch"])
    where = Scheduling(runtime=runtime, priority_class="high")
    policy = RunPolicy(max_restarts=5)
    return JobPlan(
        name="sft",
        init_containers=[fetch],
        main=container,
        num_workers=2,
        num_procs_per_worker=4,
        scheduling=where,
        run_policy=policy,
    )


def rendered(base: dict[str, Any], **main: object) -> dict[str, Any]:
    before = copy.deepcopy(base)
    found: dict[str, Any] = render(KIND, plan(**main), "team", base).reveal()[0]
    assert base == before
    return found


def test_what_the_job_does_not_set_is_the_platforms() -> None:
    runtime = rendered(platform())
    assert (runtime["kind"], runtime["metadata"]["name"], runtime["metadata"]["namespace"]) == (
        "TrainingRuntime",
        "sft",
        "team",
    )
    assert "uid" not in runtime["metadata"]
    assert runtime["metadata"]["labels"]["trainer.kubeflow.org/framework"] == "torch"
    assert runtime["spec"]["podGroupPolicy"] == {"coscheduling": {}}
    assert runtime["spec"]["mlPolicy"] == {"numNodes": 2, "torch": {"numProcPerNode": "auto"}}
    job_set = runtime["spec"]["template"]["spec"]
    assert job_set["network"] == {"publishNotReadyAddresses": True}
    assert job_set["failurePolicy"]["maxRestarts"] == 5
    assert [job["name"] for job in job_set["replicatedJobs"]] == ["node", "monitor"], "the job's own steps fetch"
    pod = job_set["replicatedJobs"][0]["template"]["spec"]["template"]
    assert pod["metadata"]["labels"]["cost"] == "research"
    spec = pod["spec"]
    assert (spec["nodeSelector"], spec["priorityClassName"]) == ({"pool": "h100"}, "high")
    assert [c["name"] for c in spec["initContainers"]] == ["fetch-model"]
    node, meter = spec["containers"]
    assert (node["name"], node["image"], node["command"]) == ("node", "ours:1", ["torchrun"])
    assert meter == {"name": "meter", "image": "meter:1"}
    assert node["resources"] == {"limits": {"memory": "64Gi"}}
    env = {variable["name"]: variable.get("value") for variable in node["env"]}
    assert (env["NCCL_IB"], env["PET_NNODES"]) == ("1", "2")


def test_what_the_job_sets_has_the_last_word() -> None:
    job_set = rendered(platform(), resources=Resources(memory="8Gi", gpu=1))["spec"]["template"]["spec"]
    node = job_set["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]
    assert node["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": "1"}


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (platform({"numNodes": 1, "mpi": {}}), "is a runtime for mpi, and not for torch"),
        (
            {**platform(), "spec": {"template": {"spec": {"replicatedJobs": [replicated("a", [])]}}}},
            "has no job with the label",
        ),
    ],
)
def test_a_runtime_that_is_not_for_torch_is_refused(base: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=rf"runtime='torch-distributed': {words}.*kubectl get trainingruntimes"):
        rendered(base)


@pytest.mark.parametrize("kind", [PyTorchJob(), IndexedJob()])
def test_other_kinds_have_no_runtimes(kind: PyTorchJob | IndexedJob) -> None:
    with pytest.raises(RequestError, match=r"runtime='torch-distributed': is Kubeflow Trainer 2's.*--backend trainjob"):
        render(kind, plan(), None)


def test_a_job_that_names_one_is_a_trainjob_and_a_dry_run_says_what_it_lacks() -> None:
    manifests = AnyKindBackend(BackendOptions()).render(plan())
    assert [document["kind"] for document in manifests][:2] == ["TrainingRuntime", "TrainJob"]
    assert "Rendered without runtime 'torch-distributed'" in (manifests.note or "")


class Cluster(Api):
    """Has some objects, and forbids others."""

    def __init__(self, answers: Mapping[str, int | dict[str, Any]]) -> None:
        self.kind, self.namespace, self.answers = KIND, "team", answers

    def ask(self, path: str) -> dict[str, Any]:
        found = self.answers[path]
        if isinstance(found, int):
            raise ApiFailure(found, "no")
        return found


OURS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team/trainingruntimes/torch-distributed"
ALL = "/apis/trainer.kubeflow.org/v1alpha1/clustertrainingruntimes/torch-distributed"


def test_the_namespaces_runtime_comes_before_the_clusters() -> None:
    assert find_base(Cluster({}), plan(runtime=None)) is None
    assert find_base(Cluster({OURS: {"a": 1}}), plan()) == {"a": 1}
    assert find_base(Cluster({OURS: 404, ALL: {"b": 1}}), plan()) == {"b": 1}
    with pytest.raises(RequestError, match="neither among the trainingruntimes nor clustertrainingruntimes"):
        find_base(Cluster({OURS: 404, ALL: 403}), plan())
    with pytest.raises(ApiFailure):
        find_base(Cluster({OURS: 500}), plan())
