"""The spec of a PyTorchJob, from a plan or from the user's manifest. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.labels import labelled
from tunewright.errors import RequestError
from tunewright.plan.manifests import Document
from tunewright.plan.plan import JobPlan
from tunewright.request.raw import RawManifest, part

MASTER: Final = "Master"
WORKER: Final = "Worker"

MAIN: Final = "pytorch"
"""The main container's name: the operator's webhook refuses a job without it."""

_REPLICAS = "manifest.spec.pytorchReplicaSpecs"

# Seconds in which the workers must find each other: their downloads may end at different times. `read_timeout` is how
# long a worker waits for the store, which worker 0 opens after its own download.
# https://docs.pytorch.org/docs/stable/elastic/rendezvous.html
_RENDEZVOUS = {"join_timeout": 900, "read_timeout": 900}


def spec_of(plan: JobPlan, template: Document) -> Document:
    """Return the spec for a plan whose pods have a template."""
    return {
        "runPolicy": _run_policy(plan),
        # Always a number: the operator's default `auto` starts a process for each core of the node.
        "nprocPerNode": str(plan.num_procs_per_worker),
        **({} if plan.self_starting else {"elasticPolicy": _elastic_policy(plan)}),
        "pytorchReplicaSpecs": _replicas(plan, template),
    }


def _run_policy(plan: JobPlan) -> Document:
    """Return the run policy. It has no `backoffLimit`: `run` counts attempts itself, and the operator counts other things."""
    given = {
        "cleanPodPolicy": "Running",
        "ttlSecondsAfterFinished": plan.run_policy.ttl,
        "activeDeadlineSeconds": plan.run_policy.deadline,
        "suspend": plan.run_policy.suspend or None,
        "schedulingPolicy": plan.scheduling.scheduling_policy,
    }
    return {k: v for k, v in given.items() if v is not None}


def _elastic_policy(plan: JobPlan) -> Document:
    """Return the elastic policy, for a fixed number of workers too: Workers only need no Master and no init container."""
    least, most = plan.elastic or (plan.num_workers, plan.num_workers)
    return {
        "rdzvBackend": "c10d",
        "rdzvId": plan.name,
        "rdzvConf": [{"key": k, "value": str(v)} for k, v in _RENDEZVOUS.items()],
        "minReplicas": least,
        "maxReplicas": most,
    }


def _replicas(plan: JobPlan, template: Document) -> Document:
    # An image that starts itself finds its peers through MASTER_ADDR, which the operator sets only if there is a Master.
    counts = {MASTER: 1, WORKER: plan.num_workers - 1} if plan.self_starting else {WORKER: plan.num_workers}
    pod = {**cast("dict[str, Any]", template["spec"]), **pod_deadline(plan.run_policy.deadline)}
    template = {**template, "spec": pod}
    return {
        role: {"replicas": count, "restartPolicy": "ExitCode", "template": template}
        for role, count in counts.items()
        if count
    }


def pod_deadline(seconds: int | None) -> Document:
    """Return a pod's part in keeping the job's deadline: the operator only looks at it when a pod changes, as this one then does."""
    return {} if seconds is None else {"activeDeadlineSeconds": seconds}


def raw_spec(manifest: RawManifest) -> Document:
    """Return the spec that the user wrote, with labelled pods; raises as `JobKind.raw`."""
    spec = part(manifest.document, "spec", "manifest")
    replicas = part(spec, "pytorchReplicaSpecs", "manifest.spec")
    if not replicas or set(replicas) - {MASTER, WORKER}:
        remedy = f"Use {MASTER}, {WORKER} or both."
        raise RequestError(
            "are not the replicas of a PyTorchJob", field=_REPLICAS, value=sorted(replicas), remedy=remedy
        )
    return {**spec, "pytorchReplicaSpecs": {role: _replica(manifest.name, replicas, role) for role in replicas}}


def _replica(job: str, replicas: Mapping[str, Any], role: str) -> Document:
    replica, path = part(replicas, role, _REPLICAS), f"{_REPLICAS}.{role}.template"
    template = part(replica, "template", f"{_REPLICAS}.{role}")
    containers = part(template, "spec", path).get("containers")
    listed = containers if isinstance(containers, list) else []
    if MAIN not in [c.get("name") for c in listed if isinstance(c, Mapping)]:
        remedy = f"Name the training container {MAIN!r}: the operator requires it."
        raise RequestError(f"has no container named {MAIN!r}", field=f"{path}.spec.containers", remedy=remedy)
    metadata = part(template, "metadata", path)
    return {
        **replica,
        "template": {**template, "metadata": labelled(metadata, names.labels(job), f"{path}.metadata", "worker")},
    }
