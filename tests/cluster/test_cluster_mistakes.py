"""What people get wrong about a cluster: each thing is told, with what to do about it, and ends by itself."""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest
from tests.cluster import trainer
from tests.cluster.cluster import Cluster
from tests.cluster.helpers import client_in, command, eventually
from tests.cluster.images import PAUSE

from tunewright import Job, JobState

pytestmark = pytest.mark.timeout(900)

SLEEPS = command("import time; time.sleep(600)")
WAIT = 45
"""Seconds that the jobs may wait for what keeps their pods from starting."""

QUOTA = {
    "apiVersion": "v1",
    "kind": "LimitRange",
    "metadata": {"name": "small"},
    "spec": {
        "limits": [
            {
                "type": "Container",
                "max": {"memory": "8Gi"},
                "default": {"memory": "256Mi"},
                "defaultRequest": {"memory": "32Mi"},
            }
        ]
    },
}


@attrs.frozen
class Mistake:
    """Something wrong about a job.

    Attributes:
        options: what its submission says.
        told: regular expressions of what is told, cause and remedy.
    """

    options: Mapping[str, Any]
    told: tuple[str, ...]


def spec(**fields: object) -> Mapping[str, Any]:
    """Options that override the pods' spec."""
    return {"pod_overrides": {"spec": fields}}


def container(main: str, **fields: object) -> Mapping[str, Any]:
    """Options that override the main container."""
    return spec(containers=[{"name": main, **fields}])


def mounted(main: str, **source: object) -> Mapping[str, Any]:
    """Options that mount a volume from a source into the main container."""
    volume = {"name": "more", **source}
    mount = {"name": "more", "mountPath": "/more"}
    return spec(volumes=[volume], containers=[{"name": main, "volumeMounts": [mount]}])


def mistakes(main: str) -> Mapping[str, Mistake]:
    """Name of the job → what is wrong, where the main container is called `main`."""
    secret = {"valueFrom": {"secretKeyRef": {"name": "nowhere", "key": "token"}}}
    return {
        "image": Mistake({"base_image": "cluster.test/nowhere:1"}, ("cluster.test/nowhere:1", "image_pull_secrets=")),
        "python": Mistake({"base_image": PAUSE}, ("cannot be started", "holds Python 3")),
        "program": Mistake({"command": ["no-such-program"]}, ("no-such-program",)),
        "crash": Mistake({"command": ["false"], "max_restarts": 0}, ("exit code 1", "max_restarts=")),
        "memory": Mistake(
            {"command": command("a = []\nwhile True: a.append(bytearray(16 << 20))"), "max_restarts": 0}
            | {"resources_per_worker": {"memory": "96Mi"}},
            ("ran out of memory.*limit of 96Mi", r"resources_per_worker=\{'memory'"),
        ),
        "large": Mistake({"resources_per_worker": {"memory": "7Gi", "cpu": 900}}, ("Insufficient cpu", "Ask for less")),
        "limits": Mistake(
            {"resources_per_worker": {"memory": "64Gi"}},
            ("maximum memory usage per Container is 8Gi", "kubectl describe limitrange"),
        ),
        "gpu": Mistake({"resources_per_worker": {"gpu": 8}}, (r"nvidia\.com/gpu", "Ask for less")),
        "selector": Mistake(
            {"node_selector": {"pool": "gpus"}}, ("didn't match Pod's node affinity/selector", "node_selector=")
        ),
        "storage": Mistake(
            {"storage": {"storage_class": "nowhere", "size": "1Gi"}}, ("nowhere", "kubectl get storageclass")
        ),
        "account": Mistake({"service_account": "nowhere"}, ('serviceaccount "nowhere" not found', "service_account=")),
        "priority": Mistake({"priority_class": "nowhere"}, ("nowhere", "priority_class=")),
        "runtime": Mistake({"runtime_class": "nowhere"}, ("nowhere", "runtime_class=")),
        "secret": Mistake(
            container(main, env=[{"name": "TOKEN", **secret}]), ('secret "nowhere" not found', "Create what")
        ),
        "config-map": Mistake(
            mounted(main, configMap={"name": "nowhere"}), ('configmap "nowhere" not found', "Create what")
        ),
        "secret-file": Mistake(
            mounted(main, secret={"secretName": "nowhere"}), ('secret "nowhere" not found', "Create what")
        ),
        "claim": Mistake(
            mounted(main, persistentVolumeClaim={"claimName": "nowhere"}),
            ('persistentvolumeclaim "nowhere" not found', "Create"),
        ),
        "affinity": Mistake(
            {
                "affinity": {
                    "podAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": [
                            {
                                "topologyKey": "kubernetes.io/hostname",
                                "labelSelector": {"matchLabels": {"app": "nowhere"}},
                            }
                        ]
                    }
                }
            },
            ("pod affinity rules", "affinity="),
        ),
        "device": Mistake(
            container(main, resources={"limits": {"nowhere.test/device": "1"}}),
            (r"nowhere\.test/device", "Ask for less"),
        ),
        "user": Mistake(spec(securityContext={"runAsUser": 0}), ("runAsNonRoot|non-root", "image")),
    }


# Jobs differ from TrainJobs in little that is told here: CI leaves them out, as each kind takes minutes.
@pytest.fixture(params=["pytorchjob", pytest.param("job", marks=pytest.mark.slow), "trainjob"])
def backend(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    if request.param == "trainjob" and not trainer.installed(cluster):
        pytest.skip("needs Trainer: python -m tests.cluster up --with trainer")
    found: str = request.param
    return found


MAIN = {"pytorchjob": "pytorch", "job": "train", "trainjob": "node"}


def test_each_mistake_is_told_with_its_remedy_and_ends(
    own_cluster: Cluster, backend: str, namespace: str, image: str, volumes: Callable[..., object]
) -> None:
    client = client_in(own_cluster, namespace, backend)
    own_cluster.apply({**QUOTA, "metadata": {"name": "small", "namespace": namespace}})
    seconds: dict[str, float] = {}
    problems: list[str] = []
    for name, mistake in mistakes(MAIN[backend]).items():
        if "storage" not in mistake.options:
            volumes()
        options = {"base_image": image, "command": SLEEPS, "wait_for": WAIT, **mistake.options}
        began = time.monotonic()
        job = client.create_job(name, **options)
        said = ""
        while time.monotonic() - began < 120:
            said = heard(job)
            if all(re.search(words, said) for words in mistake.told):
                seconds[name] = time.monotonic() - began
                break
            time.sleep(0.3)
        else:
            problems.append(f"{name}: {said!r} and not {mistake.told}")
        print(f"{name}: {seconds.get(name, -1):.1f} s: {said}")
    assert not problems, "\n".join(problems)
    for name in mistakes(MAIN[backend]):
        job = client.get_job(name)
        end = time.monotonic() + 120
        while job.state is not JobState.FAILED:
            assert time.monotonic() < end, job.status()
            time.sleep(0.5)


@pytest.mark.parametrize("waits", ["for a node", "in a step"])
def test_a_deadline_holds_while_nothing_happens(
    own_cluster: Cluster, backend: str, namespace: str, image: str, volumes: Callable[..., object], waits: str
) -> None:
    volumes()
    client = client_in(own_cluster, namespace, backend)
    options: Mapping[str, Any] = {"node_selector": {"pool": "nowhere"}}
    if waits == "in a step":
        step = {"name": "waits", "image": image, "command": SLEEPS}
        options = {"pod_overrides": {"spec": {"initContainers": [step]}}}
    job = client.create_job("late", base_image=image, command=["true"], deadline=10, **options)
    status = job.wait([JobState.FAILED], timeout=120)
    assert status.failure is not None
    assert "deadline" in str(status.failure), status
    eventually(lambda: [pod for pod in client.get_job_pods("late") if pod.phase in ("Pending", "Running")], [])


def heard(job: Job) -> str:
    status = job.status()
    return str(status.failure) if status.failure else status.detail
