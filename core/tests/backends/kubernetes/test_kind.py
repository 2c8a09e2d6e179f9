"""What holds for every kind of job object."""

import attrs
import kubernetes_validate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright import JobState, RequestError, SecretValue
from tunewright.backends.any_kind.backend import IN_ORDER
from tunewright.backends.base import BackendOptions
from tunewright.backends.job import IndexedJobBackend
from tunewright.backends.job.kind import IndexedJob
from tunewright.backends.kubernetes.backend import KubernetesBackend
from tunewright.backends.kubernetes.doctor import rights
from tunewright.backends.kubernetes.state import phase_of
from tunewright.backends.pytorchjob import PyTorchJobBackend
from tunewright.backends.pytorchjob.kind import PyTorchJob
from tunewright.backends.pytorchjob.render import MAIN
from tunewright.plan.plan import ContainerSpec, JobPlan, Mount, NewClaim, Volume
from tunewright.plan.policies import Scheduling
from tunewright.plan.resources import DISK, Resources


def plan(**changes: object) -> JobPlan:
    given: dict = {
        "name": "sft",
        "init_containers": [ContainerSpec(name="fetch-model", image="i:1", command=["fetch"])],
        "main": ContainerSpec(
            name="train",
            image="i:1",
            command=["torchrun"],
            env={"TOKEN": SecretValue("s")},
            mounts=[Mount(volume="work", path="/workspace")],
        ),
        "num_workers": 2,
        "volumes": [Volume(name="work", source=NewClaim(size="1Gi", access_modes=("ReadWriteMany",)))],
    }
    return JobPlan(**{**given, **changes})


def rendered(backend: type[KubernetesBackend], job: JobPlan) -> list[dict]:
    return list(backend(BackendOptions(namespace="team")).render(job).reveal())


def test_a_second_kind_is_rendered_with_everything_that_all_kinds_share() -> None:
    job, service, *others = rendered(IndexedJobBackend, plan())
    assert [(d["kind"], d["metadata"]["name"]) for d in (job, service, *others)] == [
        ("Job", "sft"),
        ("Service", "sft"),
        ("Secret", "sft-secrets"),
        ("ConfigMap", "sft-config"),
        ("PersistentVolumeClaim", "sft-work"),
    ]
    assert job["metadata"]["annotations"]["tunewright.dev/objects"].split(",")[0] == "Service/sft"
    assert [c["name"] for c in job["spec"]["template"]["spec"]["containers"]] == ["train"]
    for document in (job, service, *others):
        assert document["metadata"]["namespace"] == "team"
        kubernetes_validate.validate(document, "1.34", strict=True)


RECOMMENDED = ("name", "part-of", "component", "managed-by", "instance")


@pytest.mark.parametrize("backend", IN_ORDER, ids=lambda backend: backend.kind.kind)
def test_every_object_has_the_labels_that_kubernetes_recommends(backend: type[KubernetesBackend]) -> None:
    for document in rendered(backend, plan(labels={"app.kubernetes.io/part-of": "chatbot"})):
        labels = document["metadata"]["labels"]
        assert {f"app.kubernetes.io/{name}" for name in RECOMMENDED} <= set(labels), document["kind"]
        assert labels["app.kubernetes.io/instance"] == "sft"
        if document["kind"] == backend.kind.kind:
            assert labels["app.kubernetes.io/part-of"] == "chatbot", "the user's counts"


def test_the_disk_of_a_node_is_asked_for_by_every_container_and_bounded() -> None:
    main = attrs.evolve(plan().main, resources=Resources(extended={DISK: "40Gi"}, requests={DISK: "10Gi"}))
    sizes = Scheduling(shm_size="8Gi", tmp_size="20Gi")
    spec = pod_of(rendered(PyTorchJobBackend, plan(main=main, scheduling=sizes))[0])
    for container in (*spec["initContainers"], *spec["containers"]):  # as a quota for it wants
        assert container["resources"]["limits"][DISK] == "40Gi", container["name"]
        assert container["resources"]["requests"][DISK] == "10Gi", container["name"]
    volumes = {volume["name"]: volume.get("emptyDir") for volume in spec["volumes"]}
    assert volumes["shm"] == {"medium": "Memory", "sizeLimit": "8Gi"}
    assert volumes["tmp"] == {"sizeLimit": "20Gi"}
    assert volumes["run"] == {"sizeLimit": "1Gi"}


def pod_of(document: dict) -> dict:
    spec = document["spec"]
    return (spec.get("pytorchReplicaSpecs") or {"Worker": spec})["Worker"]["template"]["spec"]


OF_KINDS = ("PET_", "TUNEWRIGHT_WORKER", "TUNEWRIGHT_LINGER")


@given(
    workers=st.integers(1, 5),
    steps=st.lists(st.sampled_from(["fetch-model", "fetch-dataset", "check"]), unique=True),
    env=st.dictionaries(st.sampled_from(["A", "B"]), st.text("xyz$", max_size=3)),
)
def test_two_kinds_have_the_same_pods_but_for_what_their_controllers_want(workers, steps, env) -> None:
    main = ContainerSpec(name="train", image="i:1", command=["torchrun"], env=env)
    inits = [ContainerSpec(name=name, image="i:1", command=["x"]) for name in steps]
    job = plan(main=main, init_containers=inits, num_workers=workers, volumes=[])
    ours, theirs = (pod_of(rendered(backend, job)[0]) for backend in (PyTorchJobBackend, IndexedJobBackend))
    assert ours["containers"][0].pop("name") == MAIN
    assert theirs["containers"][0].pop("name") == "train"
    for pod in (ours, theirs):
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            container["env"] = [v for v in container["env"] if not v["name"].startswith(OF_KINDS)]
    assert ours == {k: v for k, v in theirs.items() if k not in {"subdomain", "restartPolicy"}}


def test_what_a_kind_cannot_do_is_refused_in_its_own_words() -> None:
    with pytest.raises(RequestError, match=r'elastic=.*fixed number of peers.*backend="pytorchjob"'):
        rendered(IndexedJobBackend, plan(elastic=(1, 2)))


def test_a_kinds_own_conditions_become_the_states_of_all_jobs() -> None:
    document = {**rendered(IndexedJobBackend, plan())[0]}
    document["metadata"] = {**document["metadata"], "uid": "u", "creationTimestamp": "2026-11-24T12:00:00Z"}
    document["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    job = IndexedJob().read(document)
    assert (job.workers, job.steps, phase_of(job, ()).state) == (2, ("fetch-model", "train"), JobState.SUCCEEDED)


def test_the_rights_that_a_kind_needs_name_its_own_resource() -> None:
    assert rights(IndexedJob())["jobs.batch"] == rights(PyTorchJob())["pytorchjobs.kubeflow.org"]
