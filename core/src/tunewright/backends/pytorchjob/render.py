"""The spec of a PyTorchJob: of a plan, and of what the user wrote. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.labels import labelled
from tunewright.errors import RequestError
from tunewright.plan.manifests import Document
from tunewright.plan.plan import JobPlan
from tunewright.request.whole import RawManifest, part

MASTER: Final = "Master"
WORKER: Final = "Worker"

MAIN: Final = "pytorch"
"""The main container's name: the operator's webhook refuses a job without it."""

_REPLICAS = "job.spec.pytorchReplicaSpecs"

# Seconds in which the workers have to find each other: their downloads may end at different times. `read_timeout` is
# how long a worker waits for the store, which worker 0 opens when its own download has ended.
# https://docs.pytorch.org/docs/stable/elastic/rendezvous.html
_RENDEZVOUS = {"join_timeout": 900, "read_timeout": 900}


def spec_of(plan: JobPlan, template: Document) -> Document:
    """Return the spec for a plan whose pods have a template."""
    return {
        "runPolicy": _run_policy(plan),
        # A number always: without one the operator says `auto`, which starts a process for each core of the node.
        "nprocPerNode": str(plan.num_procs_per_worker),
        **({} if plan.self_starting else {"elasticPolicy": _elastic_policy(plan)}),
        "pytorchReplicaSpecs": _replicas(plan, template),
    }


def _run_policy(plan: JobPlan) -> Document:
    """No `backoffLimit`: the operator counts other things against it than `run`, which counts the attempts itself."""
    given = {
        "cleanPodPolicy": "Running",
        "ttlSecondsAfterFinished": plan.run_policy.ttl,
        "activeDeadlineSeconds": plan.run_policy.deadline,
        "suspend": plan.run_policy.suspend or None,
        "schedulingPolicy": plan.scheduling.scheduling_policy,
    }
    return {k: v for k, v in given.items() if v is not None}


def _elastic_policy(plan: JobPlan) -> Document:
    """Also where the number of workers is fixed: Workers alone need no Master, and no init container that waits for it."""
    least, most = plan.elastic or (plan.num_workers, plan.num_workers)
    return {
        "rdzvBackend": "c10d",
        "rdzvId": plan.name,
        "rdzvConf": [{"key": k, "value": str(v)} for k, v in _RENDEZVOUS.items()],
        "minReplicas": least,
        "maxReplicas": most,
    }


def _replicas(plan: JobPlan, template: Document) -> Document:
    # An image that starts itself finds the others through MASTER_ADDR, which the operator sets where there is a Master.
    counts = {MASTER: 1, WORKER: plan.num_workers - 1} if plan.self_starting else {WORKER: plan.num_workers}
    return {
        role: {"replicas": count, "restartPolicy": "ExitCode", "template": template}
        for role, count in counts.items()
        if count
    }


def raw_spec(job: RawManifest) -> Document:
    """Return the spec that the user wrote, with labelled pods; raises as `JobKind.raw`."""
    spec = part(job.job, "spec", "job")
    replicas = part(spec, "pytorchReplicaSpecs", "job.spec")
    if not replicas or set(replicas) - {MASTER, WORKER}:
        remedy = f"Write {MASTER} and {WORKER}, or one of them."
        raise RequestError("are not those of a PyTorchJob", field=_REPLICAS, value=sorted(replicas), remedy=remedy)
    return {**spec, "pytorchReplicaSpecs": {role: _replica(job.name, replicas, role) for role in replicas}}


def _replica(job: str, replicas: Mapping[str, Any], role: str) -> Document:
    replica, path = part(replicas, role, _REPLICAS), f"{_REPLICAS}.{role}.template"
    template = part(replica, "template", f"{_REPLICAS}.{role}")
    containers = part(template, "spec", path).get("containers")
    listed = containers if isinstance(containers, list) else []
    if MAIN not in [c.get("name") for c in listed if isinstance(c, Mapping)]:
        remedy = f"Call the container that trains {MAIN!r}: the operator looks for it."
        raise RequestError(f"has no container {MAIN!r}", field=f"{path}.spec.containers", remedy=remedy)
    metadata = part(template, "metadata", path)
    return {
        **replica,
        "template": {**template, "metadata": labelled(metadata, names.labels(job), f"{path}.metadata")},
    }
