"""Lists of many jobs: read in pages, of one namespace or all, and each kind asked once."""

import copy
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.faulty import Answer, Request
from tests.servers.kubernetes import KubernetesServer

from tunewright import TrainingClient
from tunewright._page.overview import rows
from tunewright.backends.any_kind.backend import IN_ORDER, AnyKindBackend
from tunewright.backends.base import BackendOptions
from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.failures import Forbidden
from tunewright.backends.kubernetes.render import render
from tunewright.events import Step, format_event
from tunewright.plan.plan import ContainerSpec, JobPlan

pytestmark = pytest.mark.slow

PYTORCHJOB, TRAINJOB, JOB = (backend.kind for backend in IN_ORDER)
MODEL = '{"provider": "hf", "params": {"uri": "hf://org/name"}}'
MAIN = ContainerSpec(name="train", image="i:1", command=("train",))
PLAN = JobPlan(name="sft", init_containers=(), main=MAIN, files={"model.json": MODEL})
MANY, MEGABYTES = 2000, 150

RUN = """
import pathlib, sys
from tunewright.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
# Of this program alone: getrusage counts what the process had before it became this program.
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) // 1024)
"""


@pytest.fixture
def server() -> Iterator[KubernetesServer]:
    with KubernetesServer() as started:
        yield started


def add(server: KubernetesServer, name: str, *, namespace: str = "team", ended: bool = False) -> None:
    """A PyTorchJob and its pod, each as large as a real one."""
    job = copy.deepcopy(render(PYTORCHJOB, PLAN, namespace).reveal()[0])
    job["metadata"] |= {"name": name, "labels": {**job["metadata"]["labels"], names.INSTANCE: name}}
    condition = {"type": "Succeeded" if ended else "Running", "status": "True"}
    job["status"] = {"conditions": [{**condition, "lastTransitionTime": "2026-11-29T12:00:00Z", "message": "m" * 100}]}
    job["metadata"]["managedFields"] = [{"fieldsV1": {f"f:field-{i}": {} for i in range(100)}}]
    server.add(job, namespace)
    labels = {PYTORCHJOB.job_label: name, "training.kubeflow.org/replica-index": "0"}
    state = {"terminated": {"exitCode": 0}} if ended else {"running": {"startedAt": "2026-11-29T12:00:00Z"}}
    status = {
        "phase": "Succeeded" if ended else "Running",
        "containerStatuses": [{"name": PYTORCHJOB.main_container, "state": state}],
    }
    template = PYTORCHJOB.template(job)
    metadata = {"name": f"{name}-worker-0", "labels": labels, "managedFields": job["metadata"]["managedFields"]}
    spec = {**copy.deepcopy(template["spec"]), "nodeName": "node"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}
    server.add(pod, namespace)


def run(server: KubernetesServer, folder: Path, *arguments: str) -> list[str]:
    command = [sys.executable, "-c", RUN, *arguments, "--backend", "kubernetes"]
    env = {**os.environ, "KUBECONFIG": str(server.kubeconfig(folder))}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines()


def backend(server: KubernetesServer, folder: Path) -> AnyKindBackend:
    return AnyKindBackend(BackendOptions(config_file=str(server.kubeconfig(folder))))


def test_two_thousand_jobs_are_listed_within_little_memory(server: KubernetesServer, tmp_path: Path) -> None:
    for number in range(MANY):
        add(server, f"sft-{number}", ended=number % 4 != 0)
    *lines, peak = run(server, tmp_path, "list")
    assert len([line for line in lines if " sft-" in line]) == MANY
    assert int(peak) < MEGABYTES
    lists = Counter(path.rpartition("/")[2] for path in server.asked())
    assert lists["pytorchjobs"] == 1 + 1, "all of them, and what the 50 that are shown train"
    assert lists["pods"] == 2, "all that run, and those of the 50 jobs whose loss is shown"
    assert lists["log"] == 50
    *lines, _ = run(server, tmp_path, "list", "--state", "running", "--limit", "3")
    assert [line.split()[:2] for line in lines if " sft-" in line] == [
        [f"sft-{number}", "Running"] for number in (1996, 1992, 1988)
    ]


@pytest.mark.parametrize("namespaces", [("team",), ("team", "other")])
def test_two_hundred_jobs_cost_a_few_lists_and_a_log_for_each_that_is_shown(
    server: KubernetesServer, tmp_path: Path, namespaces: tuple[str, ...]
) -> None:
    for number in range(200):
        add(server, f"sft-{number}", namespace=namespaces[number % len(namespaces)], ended=number % 2 == 0)
        line = format_event(Step(step=number, total_steps=200, loss=float(number)))
        server.logs[f"sft-{number}-worker-0", PYTORCHJOB.main_container] = line.encode()
    there = backend(server, tmp_path)
    listed = there.list() if len(namespaces) == 1 else there.list_everywhere()
    shown = rows(there, listed)
    assert Counter(path.rpartition("/")[2] for path in server.asked()) == {
        "pytorchjobs": 2, "trainjobs": 1, "jobs": 1, "pods": 2, "log": 50,
    }  # fmt: skip
    numbers = [int(row.status.name.rpartition("-")[2]) for row in shown]
    assert numbers == [*range(199, -1, -1)]
    assert [row.loss for row in shown[:50]] == numbers[:50]
    assert {row.model for row in shown[:50]} == {"hf://org/name"}
    assert {(row.model, row.loss) for row in shown[50:]} == {("", None)}


def test_each_kind_is_asked_once(server: KubernetesServer, tmp_path: Path) -> None:
    add(server, "sft", ended=True)
    assert [job.name for job in backend(server, tmp_path).list()] == ["sft"]
    assert Counter(server.asked()) == {kind.paths[kind.kind].format("team"): 1 for kind in (PYTORCHJOB, TRAINJOB, JOB)}


def test_a_submission_looks_once_at_what_is_there(server: KubernetesServer, tmp_path: Path) -> None:
    del server.served["/apis/kubeflow.org/v1"]
    backend(server, tmp_path).submit(PLAN)
    before = server.asked()[: server.asked().index("/apis/jobset.x-k8s.io/v1alpha2") + 1]
    assert before == [
        *(kind.paths[kind.kind].format("team") + "/sft" for kind in (PYTORCHJOB, TRAINJOB, JOB)),
        "/apis/jobset.x-k8s.io/v1alpha2",
    ]
    assert [job.name for job in backend(server, tmp_path).list()] == ["sft"]


def test_the_jobs_of_all_namespaces_are_told_with_theirs(server: KubernetesServer, tmp_path: Path) -> None:
    add(server, "sft")
    add(server, "sft", namespace="other", ended=True)
    *lines, _ = run(server, tmp_path, "list", "-A")
    rows = [line.split()[:3] for line in lines if "sft" in line]
    assert rows == [["other", "sft", "Succeeded"], ["team", "sft", "Running"]]
    client = TrainingClient("kubernetes", config_file=str(server.kubeconfig(tmp_path)))
    other, own = client.list_jobs(all_namespaces=True)
    assert [(job.status().namespace, str(job.state)) for job in (other, own)] == [
        ("other", "Succeeded"),
        ("team", "Running"),
    ]
    assert other.command_for("logs") == "tunewright logs sft --backend kubernetes -n other"
    assert [job.status().namespace for job in client.list_jobs()] == ["team"]


class Refusing(KubernetesServer):
    """Allows lists of one namespace only."""

    def answer(self, request: Request) -> Answer:
        if "/namespaces/" not in request.path and request.path.startswith("/apis/"):
            return Answer(status=403, body=b'{"message": "User cannot list at the cluster scope"}')
        return super().answer(request)


def test_who_may_see_one_namespace_is_told_how_to_list_it(tmp_path: Path) -> None:
    with (
        Refusing() as server,
        pytest.raises(Forbidden, match=r"may not see the jobs of all namespaces.*\(-n\).*viewer\.yaml"),
    ):
        backend(server, tmp_path).list_everywhere()
