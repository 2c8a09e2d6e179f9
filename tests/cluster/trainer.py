"""Another second stage: the real controllers of Kubeflow Trainer 2 and of JobSet, for the backend `trainjob`.

    python -m tests.cluster up --with trainer
    TUNEWRIGHT_CLUSTER_TESTS=KUBECONFIG pytest tests/cluster/test_cluster_trainjob_kind.py

They make and renew the certificates of their webhooks themselves.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from tests.cluster import images, programs
from tests.cluster.cluster import Broken, Cluster
from tests.cluster.programs import Module

JOBSET = Module("sigs.k8s.io/jobset", "0.12.0", {"jobset": "sigs.k8s.io/jobset"})
TRAINER = Module(
    "github.com/kubeflow/trainer/v2",
    "2.3.0",
    {"trainer-controller-manager": "github.com/kubeflow/trainer/v2/cmd/trainer-controller-manager"},
)

_JOBSET_IMAGE, _TRAINER_IMAGE = f"{images.HOST}/jobset:1", f"{images.HOST}/trainer:1"
_PROBE = {
    "apiVersion": "trainer.kubeflow.org/v1alpha1",
    "kind": "TrainingRuntime",
    "metadata": {"name": "probe", "namespace": "default"},
    "spec": {
        "template": {
            "spec": {
                "replicatedJobs": [
                    {
                        "name": "node",
                        "template": {
                            "spec": {
                                "template": {
                                    "spec": {"restartPolicy": "Never", "containers": [{"name": "node", "image": "i:1"}]}
                                }
                            }
                        },
                    }
                ]
            }
        }
    },
}
_READY = 240.0  # seconds


def installed(cluster: Cluster) -> bool:
    """Whether the cluster has Trainer."""
    return bool(cluster.kubectl("get", "crd", "trainjobs.trainer.kubeflow.org", "--ignore-not-found"))


def build() -> list[Path]:
    """The archives of the controllers' images.

    Raises:
        programs.CannotRun: a module cannot be had, or does not build.
    """
    folder = programs.build([JOBSET, TRAINER])
    return [
        images.of_program(_JOBSET_IMAGE, folder / "jobset"),
        images.of_program(_TRAINER_IMAGE, folder / "trainer-controller-manager"),
    ]


def install(cluster: Cluster) -> None:
    """Install both from their own manifests, which are part of their modules, and wait until their webhooks answer.

    Raises:
        Broken: they do not.
    """
    for archive in build():
        cluster.import_image(archive)
    _apply(cluster, _without_third_party(cluster), _TRAINER_IMAGE, "/trainer-controller-manager")
    _apply(cluster, programs.module_folder(JOBSET) / "config" / "default", _JOBSET_IMAGE, "/jobset")
    _await_webhook(cluster)


@contextlib.contextmanager
def feature_gate(cluster: Cluster, name: str) -> Iterator[None]:
    """Turn a feature of Trainer on, and off again."""
    place = ("deployment", "kubeflow-trainer-controller-manager", "-n", "kubeflow-system")
    given = cluster.json(*place)["spec"]["template"]["spec"]["containers"][0]["args"]

    def start(arguments: list[str]) -> None:
        path = "/spec/template/spec/containers/0/args"
        change = json.dumps([{"op": "replace", "path": path, "value": arguments}])
        cluster.kubectl("patch", *place, "--type=json", "-p", change)
        cluster.kubectl("rollout", "status", *place, f"--timeout={_READY:.0f}s")
        _await_webhook(cluster)

    start([*given, f"--feature-gates={name}=true"])
    try:
        yield
    finally:
        start(given)


def _await_webhook(cluster: Cluster) -> None:
    end = time.monotonic() + _READY
    while True:
        try:
            cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(_PROBE))
        except AssertionError as error:
            if time.monotonic() > end:
                raise Broken(f"Trainer does not answer after {_READY:.0f} seconds: {error}") from error
            time.sleep(1)
        else:
            return


def _without_third_party(cluster: Cluster) -> Path:
    """A copy of Trainer's overlay that does not fetch JobSet's manifests from elsewhere."""
    assert cluster.state is not None
    source = programs.module_folder(TRAINER) / "manifests"
    copy = cluster.state / "trainer"
    overlay = copy / "overlays" / "manager"
    if not overlay.exists():
        for folder in ("base/crds", "base/manager", "base/rbac", "base/webhook", "overlays/manager"):
            (copy / folder).mkdir(parents=True)
            for file in (source / folder).iterdir():
                (copy / folder / file.name).write_bytes(file.read_bytes())
    kustomization = overlay / "kustomization.yaml"
    document = yaml.safe_load(kustomization.read_text("utf-8"))
    document["resources"] = [path for path in document["resources"] if "third-party" not in path]
    kustomization.write_text(yaml.safe_dump(document), "utf-8")
    return overlay


def _apply(cluster: Cluster, source: Path, image: str, program: str) -> None:
    documents = [d for d in yaml.safe_load_all(cluster.kubectl("kustomize", str(source))) if d]
    for document in documents:
        if document["kind"] == "Deployment":
            _adapt(document, image, program)
    stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=stdin)


def _adapt(document: dict[str, Any], image: str, program: str) -> None:
    """For this cluster: the image that was built here, and a small machine."""
    pod = document["spec"]["template"]["spec"]
    pod["securityContext"] = {
        **pod.get("securityContext", {}),
        "runAsUser": 65532,
    }  # published images say so themselves
    for container in pod["containers"]:
        container |= {"image": image, "imagePullPolicy": "Never", "command": [program]}
        container["resources"] = {"requests": {"cpu": "10m", "memory": "64Mi"}}
