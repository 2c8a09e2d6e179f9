"""The same jobs on a real cluster as each kind of job object, for a user with the kind's published role and no other right."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest
import yaml
from tests.cluster import trainer
from tests.cluster.cluster import Cluster
from tests.cluster.helpers import (
    CHEAP,
    RBAC,
    RUN,
    STEPS,
    WAITS,
    at_s3,
    client_in,
    command,
    eventually,
    left,
    requests,
)
from tests.cluster.images import PAUSE
from tests.servers.s3 import Gateway, S3Proxy

from tunewright import Job, JobError, JobState, RequestError, SecretValue, TrainingClient
from tunewright._client.doctor import diagnose
from tunewright.backends.any_kind.backend import IN_ORDER
from tunewright.errors import AlreadySucceeded
from tunewright.status.status import JobStatus

pytestmark = pytest.mark.timeout(600)


@attrs.frozen(kw_only=True)
class Kind:
    """What differs.

    Attributes:
        main: name of the main container.
        object: the job's kind.
        creates: what a submission creates, besides a ConfigMap and a claim.
        resources: of all that may be left of a job.
        keeps_pods: whether the pods of earlier attempts stay.
        changes: what can be changed of a suspended job.
    """

    main: str
    object: str
    creates: tuple[str, ...]
    resources: str
    keeps_pods: bool = False
    changes: tuple[str, ...] = ()


KIND_LABELS = {one.kind.backend: one.kind.job_label for one in IN_ORDER}
KINDS: Mapping[str, Kind] = {
    "kubernetes": Kind(
        main="pytorch",
        object="PyTorchJob",
        creates=("pytorchjobs",),
        resources="pytorchjobs,pods,services,secrets,configmaps",
        changes=("ttl", "max_restarts"),
    ),
    "job": Kind(
        main="train",
        object="Job",
        creates=("jobs", "services"),
        resources="jobs,pods,services,secrets,configmaps",
        keeps_pods=True,
        changes=("ttl",),
    ),
    "trainjob": Kind(
        main="node",
        object="TrainJob",
        creates=("trainjobs", "trainingruntimes"),
        resources="trainjobs,trainingruntimes,jobsets,jobs,pods,services,secrets,configmaps",
    ),
}
REDUCE = """
import os, sys
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
ranks = torch.tensor([dist.get_rank() + 1])
dist.all_reduce(ranks)
dist.destroy_process_group()
sys.stdout.write(f"rank {os.environ['RANK']} {os.environ['LOCAL_RANK']} {os.environ['WORLD_SIZE']} {int(ranks)}\\n")
"""
# Ends as `run` does when a worker is to be started again; and once `go` is there, well.
AGAIN = f"""{WAITS.partition("while")[0]}
if len(list(output.glob("life-*"))) < 2:
    raise SystemExit(129)
print("the end", flush=True)
"""


@pytest.fixture(params=list(KINDS))
def backend(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    """The backend whose jobs are of the kind."""
    if request.param == "trainjob" and not trainer.installed(cluster):
        pytest.skip(
            "needs Trainer: python -m tests.cluster up --with trainer, and TUNEWRIGHT_CLUSTER_TESTS=its KUBECONFIG"
        )
    found: str = request.param
    return found


@pytest.fixture
def kind(backend: str) -> Kind:
    return KINDS[backend]


@pytest.fixture
def client(cluster: Cluster, namespace: str, backend: str) -> TrainingClient:
    return client_in(cluster, namespace, backend)


def test_two_workers_of_two_processes_reduce_together(
    own_cluster: Cluster,
    client: TrainingClient,
    backend: str,
    kind: Kind,
    namespace: str,
    image: str,
    volumes,
    on_node,
    tmp_path: Path,
) -> None:
    volumes("ReadWriteMany")
    (tmp_path / "reduce.py").write_text(REDUCE)

    def submit() -> Job:
        return client.create_job(
            "reduce",
            script=tmp_path / "reduce.py",
            base_image=image,
            num_workers=2,
            num_procs_per_worker=2,
            storage={"access_modes": ["ReadWriteMany"]},
            resources_per_worker=CHEAP,
            pod_overrides=on_node(main=kind.main),
            env={"TOKEN": SecretValue("a-literal-secret")},
        )

    job = submit()
    assert job.wait(timeout=300).state is JobState.SUCCEEDED, list(job.logs())
    lines = list(job.log_lines())
    said = {line.text[line.text.index("rank ") :] for line in lines if "rank " in line.text}
    wanted = {f"rank {rank} {rank % 2} 4 10" for rank in range(4)}
    of_first = {line.text[line.text.index("rank ") :] for line in lines if "rank " in line.text and line.worker == 0}
    assert of_first == {f"rank {rank} {rank} 4 10" for rank in range(2)}, "whichever ended first"
    assert said <= wanted
    if backend != "kubernetes":  # the operator removes the pods that still run when the first one has succeeded
        assert said == wanted
    assert (job.report().record.workers, job.report().record.processes) == (2, 2)
    with pytest.raises(AlreadySucceeded, match=f"tunewright delete reduce --backend {backend}"):
        submit()
    job.delete()
    eventually(lambda: left(own_cluster, namespace, "reduce", kind.resources), [])


def test_submitting_creates_what_a_job_needs_and_nothing_else(
    own_cluster: Cluster, client: TrainingClient, kind: Kind, namespace: str, image: str, volumes
) -> None:
    volumes()
    client.create_job("hello", base_image=image, command=command("print('hello')")).wait(timeout=180)
    written = {
        what: n for what, n in requests(own_cluster, namespace).items() if what.startswith(("create ", "patch "))
    }
    adopted = {f"patch {resource}": 1 for resource in kind.creates if resource == "trainingruntimes"}
    created = ("configmaps", "persistentvolumeclaims", *kind.creates)
    assert written == {f"create {resource}": 1 for resource in created} | adopted
    for resource in {"configmap/hello-config", *(f"{r}/hello" for r in kind.creates if r not in ("jobs", "trainjobs"))}:
        if resource != "pytorchjobs/hello":
            owners = own_cluster.json(resource, "-n", namespace)["metadata"]["ownerReferences"]
            assert [owner["kind"] for owner in owners] == [kind.object]


def test_a_worker_that_asks_for_it_starts_again_and_its_log_is_followed(
    client: TrainingClient, kind: Kind, image: str, volumes
) -> None:
    volumes()
    job = client.create_job("again", base_image=image, command=command(AGAIN))
    states = []
    status = job.wait(timeout=240, callback=lambda status: states.append(status.state))
    assert status.state is JobState.SUCCEEDED, list(job.logs())
    assert JobState.RESTARTING in states
    lives = [line for line in job.logs() if line.startswith("lives")]
    assert lives == (["lives: 1", "lives: 2"] if kind.keeps_pods else ["lives: 2"])


def test_what_run_calls_final_is_final_at_once(client: TrainingClient, image: str, volumes) -> None:
    volumes()
    job = client.create_job("final", base_image=image, command=command("raise SystemExit(3)"), max_restarts=0)
    began = time.monotonic()
    status = job.wait([JobState.FAILED], timeout=120)
    assert status.failure is not None
    assert "exit code 3" in status.failure.cause
    assert len(client.get_job_pods("final")) == 1, "it was not started again"
    assert time.monotonic() - began < 90


def test_a_lack_of_memory_is_told_with_the_limit(client: TrainingClient, image: str, volumes) -> None:
    volumes()
    hungry = command("held = []\nwhile True: held.append(bytearray(16 << 20))")
    limit = {"cpu": "500m", "memory": "96Mi"}
    job = client.create_job("hungry", base_image=image, command=hungry, max_restarts=0, resources_per_worker=limit)
    failure = job.wait([JobState.FAILED], timeout=180).failure
    assert failure is not None
    assert "train ran out of memory: the memory limit of 96Mi is too small for it" in failure.cause
    assert "resources_per_worker={'memory': …}" in failure.remedy


def test_an_image_that_is_not_there_is_told_with_what_to_do(client: TrainingClient, volumes) -> None:
    volumes()
    job = client.create_job("no-image", base_image="cluster.test/nowhere:1", command=["true"])
    eventually(lambda: "cannot start" in job.status().detail, wanted=True)
    assert "for a private registry, give image_pull_secrets=" in job.status().detail
    job.delete()


def test_an_image_that_cannot_run_the_command_ends_the_job_at_once(
    own_cluster: Cluster, client: TrainingClient, backend: str, namespace: str, volumes
) -> None:
    volumes()
    job = client.create_job("no-python", base_image=PAUSE, command=["true"])
    failure = job.wait([JobState.FAILED], timeout=120).failure
    assert failure is not None
    assert "train cannot be started" in failure.cause
    assert "that the image holds Python 3" in failure.remedy
    selector = KIND_LABELS[backend]
    unfinished = ("pods", "-n", namespace, "-l", f"{selector}=no-python", "--field-selector=status.phase!=Failed")
    eventually(lambda: own_cluster.json(*unfinished)["items"], [])
    assert job.state is JobState.FAILED, "and it stays so"
    job.delete()


@pytest.mark.parametrize("backend", ["kubernetes"], indirect=True)
def test_kubectl_shows_the_progress_of_a_job_that_is_followed(
    cluster: Cluster, client: TrainingClient, namespace: str, image: str, volumes
) -> None:
    volumes()
    event = {"event": "step", "step": 7, "total_steps": 9, "loss": 0.5}
    job = client.create_job("steps", base_image=image, command=command(f"print({json.dumps(event)!r})"))
    assert JobState.SUCCEEDED in [news.state for news in client.backend.updates("steps") if isinstance(news, JobStatus)]
    annotations = cluster.json("pytorchjob", "steps", "-n", namespace)["metadata"]["annotations"]
    assert annotations["tunewright.dev/progress"] == "step 7/9, loss 0.5000"
    job.delete()


STEPS_OF_A_RANK = """
import os, time
from tunewright.events import Step, emit
from tunewright_launcher.job_object import job_object, noted
with noted(job_object(os.environ), emit, "train") as tell:
    tell(Step(step=7, total_steps=9, loss=0.5))
    while not os.path.exists(os.path.join(os.environ["TUNEWRIGHT_WORKSPACE"], "output", "go")):
        time.sleep(0.2)
    tell(Step(step=9, total_steps=9, loss=0.25))
"""


def test_kubectl_shows_the_progress_of_a_job_that_nobody_follows(
    own_cluster: Cluster, client: TrainingClient, kind: Kind, namespace: str, image: str, on_node, s3: S3Proxy,
    gateway: Gateway, volumes,
) -> None:  # fmt: skip
    for key in ("models/one/config.json", "data/rows/rows.jsonl"):
        gateway.put(key, b"{}")
    folder = volumes()
    account = {"kind": "ServiceAccount", "metadata": {"name": "progress", "namespace": namespace}, "apiVersion": "v1"}
    role = yaml.safe_load((RBAC / "progress.yaml").read_text("utf-8"))
    role["metadata"]["namespace"] = namespace
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "progress", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role["metadata"]["name"]},
        "subjects": [{"kind": "ServiceAccount", "name": "progress", "namespace": namespace}],
    }
    own_cluster.apply(account, role, binding)
    train = [*RUN, *command(STEPS_OF_A_RANK)]
    job = client.train(
        "steps",
        model=at_s3(s3, "models/one"),
        dataset=at_s3(s3, "data/rows"),
        trainer="hf",
        image=image,
        progress_account="progress",
        resources_per_worker=CHEAP,
        pod_overrides=on_node(*STEPS, commands={"check": ["true"], "train": train}, main="train"),
    )

    def shown() -> str | None:
        found = own_cluster.json(kind.object, "steps", "-n", namespace)["metadata"]["annotations"]
        return found.get("tunewright.dev/progress")

    eventually(shown, "step 7/9, loss 0.5000")
    (pod,) = client.get_job_pods("steps")
    spec = own_cluster.json("pod", pod.name, "-n", namespace)["spec"]
    mounted = {
        container["name"]: any("serviceaccount" in mount["mountPath"] for mount in container["volumeMounts"])
        for container in (*spec.get("initContainers", ()), *spec["containers"])
    }
    assert [name for name, mounts in mounted.items() if mounts] == [kind.main]
    (folder / "output" / "go").touch()
    assert job.wait(timeout=120).state is JobState.SUCCEEDED
    assert str(shown()).startswith("step 9/9, loss 0.2500")


def test_it_is_suspended_and_goes_on(
    own_cluster: Cluster, client: TrainingClient, kind: Kind, namespace: str, image: str, volumes
) -> None:
    folder = volumes()
    job = client.create_job("rests", base_image=image, command=command(WAITS))
    eventually(lambda: any("lives: 1" in line for line in job.logs()), wanted=True)
    job.suspend()
    assert job.state is JobState.SUSPENDED
    assert [p for p in client.get_job_pods("rests") if p.phase not in ("Failed", "Succeeded")] == []
    for field, value in (("ttl", 3600), ("max_restarts", 9)):
        if field in kind.changes:
            client.update_job("rests", **{field: value})
        else:
            with pytest.raises(RequestError, match=rf"{field}: cannot be changed.*submit it again"):
                client.update_job("rests", **{field: value})
    job.resume()
    eventually(lambda: any("lives: 2" in line for line in job.logs()), wanted=True)
    (folder / "output" / "go").touch()
    assert job.wait(timeout=120).state is JobState.SUCCEEDED


@pytest.mark.parametrize("backend", ["kubernetes"], indirect=True)
def test_a_node_that_no_longer_answers_is_told(
    own_cluster: Cluster, client: TrainingClient, image: str, volumes
) -> None:
    folder = volumes()
    job = client.create_job("alone", base_image=image, command=command(WAITS))
    eventually(lambda: any("lives: 1" in line for line in job.logs()), wanted=True)
    own_cluster.stop("kubelet")
    try:
        eventually(lambda: "has not answered for" in job.status().detail, wanted=True)
        assert "Kubernetes replaces it after 5 minutes, unless the node comes back" in job.status().detail
    finally:
        own_cluster.start("kubelet")
    eventually(lambda: "has not answered" in job.status().detail, wanted=False)
    (folder / "output" / "go").touch()
    assert job.wait(timeout=120).state is JobState.SUCCEEDED
    assert len(list(folder.glob("output/life-*"))) == 1, "it was not started again"


@pytest.mark.usefixtures("team")
def test_a_job_waits_in_its_queue_for_the_one_before_it(client: TrainingClient, image: str, volumes) -> None:
    def submit(name: str) -> Job:
        volumes()
        waits = command(WAITS)
        return client.create_job(name, base_image=image, command=waits, queue="team", resources_per_worker=CHEAP)

    first = submit("first")
    first.wait([JobState.RUNNING], timeout=180)
    second = submit("second")
    assert second.wait([JobState.QUEUED], timeout=180).detail == "waits for its turn in Kueue's queue 'team'"
    for change in (second.suspend, second.resume, first.suspend):
        with pytest.raises(JobError, match="Kueue's queue 'team'; only Kueue suspends and resumes it"):
            change()
    assert second.status().pods == {}
    first.delete()
    assert second.wait([JobState.RUNNING], timeout=180).pods == {"train": 1}
    second.delete()


@pytest.mark.parametrize("backend", ["kubernetes"], indirect=True)
def test_a_result_that_stays_is_told_and_removed_on_request(
    cluster: Cluster, client: TrainingClient, namespace: str, image: str, volumes
) -> None:
    volumes()
    client.create_job("brief", base_image=image, command=["true"]).wait(timeout=180)
    options = ("--backend", "kubernetes", "-n", namespace)
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig.with_name("kubeconfig-alice"))}

    def delete(*words: str) -> str:
        arguments = [str(Path(sys.executable).with_name("tunewright")), "delete", "brief", *words, *options]
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout

    said = delete()
    assert "stays on the claim brief-workspace. To delete it, too: tunewright delete brief --with-result" in said
    assert cluster.json("pvc", "-n", namespace)["items"]
    assert "Deleted brief." in delete("--with-result")
    eventually(lambda: cluster.json("pvc", "-n", namespace)["items"], [])


def test_doctor_finds_nothing_missing(client: TrainingClient, kind: Kind) -> None:
    findings = {finding.about: finding for finding in diagnose(client)}
    assert (findings["rights"].level, findings["operator"].level) == ("ok", "ok")
    assert kind.object in findings["operator"].text


@pytest.mark.parametrize("backend", ["job"], indirect=True)
def test_jobs_of_others_are_not_touched(
    own_cluster: Cluster, client: TrainingClient, namespace: str, image: str
) -> None:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": image, "command": ["true"]}]}
    about = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "theirs", "namespace": namespace}}
    own_cluster.apply({**about, "spec": {"template": {"spec": pod}}})
    assert client.list_jobs() == []
    with pytest.raises(JobError, match="Tunewright did not create the Job 'theirs'"):
        client.get_job("theirs").status()
