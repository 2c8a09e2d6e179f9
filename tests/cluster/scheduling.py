"""The second stage: a real Kueue, whose queues decide when jobs run.

    python -m tests.cluster up --with kueue
    TUNEWRIGHT_CLUSTER_TESTS=KUBECONFIG pytest tests/cluster/test_cluster_scheduling.py

It makes and renews the certificates of its webhooks itself.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import yaml
from tests.cluster import images, programs
from tests.cluster.cluster import Broken, Cluster
from tests.cluster.programs import Module

KUEUE = Module("sigs.k8s.io/kueue", "0.17.0", {"kueue": "sigs.k8s.io/kueue/cmd/kueue"})
QUEUES = {"tunewright.test/queues": "kueue"}
"""Label of the namespaces whose jobs Kueue looks at: in all others it can do no harm while it starts."""

_IMAGE = f"{images.HOST}/kueue:1"
_KINDS = {"kubeflow.org/pytorchjob": "pytorchjobs", "trainer.kubeflow.org/trainjob": "trainjobs", "batch/job": "jobs"}
"""Kueue's name of an integration → the resource whose webhook is kept."""
_NAMESPACE = "kueue-system"
_READY = 120.0  # seconds


def build() -> Path:
    """The archive of Kueue's image.

    Raises:
        programs.CannotRun: the module cannot be had, or does not build.
    """
    return images.of_program(_IMAGE, programs.build([KUEUE]) / "kueue")


def install(cluster: Cluster) -> None:
    """Install Kueue from its own manifests, which are part of its module, and wait until its webhooks answer.

    Raises:
        Broken: they do not.
    """
    cluster.import_image(build())
    source = programs.module_folder(KUEUE) / "config" / "default"
    found = yaml.safe_load_all(cluster.kubectl("kustomize", str(source)))
    # Not its own API of pending workloads: while the server of an API is away, no namespace can be removed.
    documents = [document for document in found if document["kind"] != "APIService"]
    for document in documents:
        _adapt(document)
    stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=stdin)
    cluster.kubectl("-n", _NAMESPACE, "rollout", "status", "deploy/kueue-controller-manager", "--timeout=180s")
    flavor = {"apiVersion": "kueue.x-k8s.io/v1beta1", "kind": "ResourceFlavor", "metadata": {"name": "any"}}
    end = time.monotonic() + _READY
    while True:
        try:
            return cluster.apply(flavor)
        except AssertionError as error:
            if time.monotonic() > end:
                raise Broken(f"Kueue does not answer after {_READY:.0f} seconds: {error}") from error
            time.sleep(1)


def _adapt(document: dict[str, Any]) -> None:
    """For this cluster: our image, only our kinds of jobs, and only in the namespaces that are meant."""
    if document["kind"] == "Deployment":
        pod = document["spec"]["template"]["spec"]
        pod["securityContext"]["runAsUser"] = 65532  # published images say so themselves
        container = pod["containers"][0]
        container |= {"image": _IMAGE, "imagePullPolicy": "Never", "command": ["/kueue"]}
        container["resources"] = {"requests": {"cpu": "10m", "memory": "64Mi"}}
    elif document["kind"] == "ConfigMap" and document["metadata"]["name"] == "kueue-manager-config":
        ((file, text),) = document["data"].items()
        configuration = yaml.safe_load(text)
        configuration["integrations"]["frameworks"] = list(_KINDS)
        configuration["leaderElection"]["leaderElect"] = False
        document["data"][file] = yaml.safe_dump(configuration)
    elif document["kind"].endswith("WebhookConfiguration"):
        document["webhooks"] = [webhook for webhook in document["webhooks"] if _looks_at_our_kinds(webhook)]
        for webhook in document["webhooks"]:
            if not _own(webhook):
                webhook["namespaceSelector"] = {"matchLabels": QUEUES}


def _own(webhook: dict[str, Any]) -> bool:
    return any("kueue.x-k8s.io" in rule["apiGroups"] for rule in webhook["rules"])


def _looks_at_our_kinds(webhook: dict[str, Any]) -> bool:
    looked_at = {resource for rule in webhook["rules"] for resource in rule["resources"]}
    return _own(webhook) or bool(looked_at & set(_KINDS.values()))


def queue(namespace: str, **quota: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A queue `team` of the namespace, with a quota of its own."""
    resources = [{"name": name, "nominalQuota": amount} for name, amount in quota.items()]
    group = {"coveredResources": list(quota), "flavors": [{"name": "any", "resources": resources}]}
    about = {"apiVersion": "kueue.x-k8s.io/v1beta1"}
    spec = {"namespaceSelector": {}, "resourceGroups": [group]}
    return (
        {**about, "kind": "ClusterQueue", "metadata": {"name": namespace}, "spec": spec},
        {
            **about,
            "kind": "LocalQueue",
            "metadata": {"name": "team", "namespace": namespace},
            "spec": {"clusterQueue": namespace},
        },
    )
