"""The spec of an Indexed Job, and its Service, from a plan or from the user's manifest. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from tunewright import environment
from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.labels import labelled
from tunewright.errors import RequestError
from tunewright.plan.manifests import Document
from tunewright.plan.plan import MAIN_STEP, JobPlan
from tunewright.request.raw import RawManifest, part

MAIN: Final = MAIN_STEP
"""The main container's name."""

JOB_NAME: Final = "batch.kubernetes.io/job-name"
INDEX: Final = "batch.kubernetes.io/job-completion-index"

_RANK = "PET_NODE_RANK"
_PORT = "29500"
_RENDEZVOUS = (
    "timeout=900"  # seconds in which the workers must find each other: their downloads may end at different times
)

# Exit codes after which a worker is started again. `run` counts its own restarts (129), and SIGTERM (143) comes from a drain or
# a deletion: neither is the Job's to count. What kills a worker (137) is, as nobody else does. All other codes are final.
_COUNTED_BY_RUN = (129, 143)
_KILLED = 137


def spec_of(plan: JobPlan, template: Document) -> Document:
    """Return the spec for a plan whose pods have a template."""
    policy = plan.run_policy
    given = {
        "suspend": policy.suspend or None,
        "ttlSecondsAfterFinished": policy.ttl,
        "activeDeadlineSeconds": policy.deadline,
    }
    return {
        "completionMode": "Indexed",
        "completions": plan.num_workers,
        "parallelism": plan.num_workers,
        "backoffLimit": policy.max_restarts,
        "podReplacementPolicy": "Failed",  # two pods of one worker would write the same checkpoints
        "podFailurePolicy": {"rules": _rules()},
        **{k: v for k, v in given.items() if v is not None},
        "template": _template(plan, template),
    }


def _rules() -> list[Document]:
    """Return what the Job controller does about a failed pod; the first rule that fits counts, else the pod is counted."""
    again = [*_COUNTED_BY_RUN, _KILLED]
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": _codes("In", _COUNTED_BY_RUN)},
        {"action": "FailJob", "onExitCodes": _codes("NotIn", sorted(again))},
    ]


def _codes(operator: str, values: Sequence[int]) -> Document:
    return {"containerName": MAIN, "operator": operator, "values": list(values)}


def _template(plan: JobPlan, template: Document) -> Document:
    spec = cast("dict[str, Any]", template["spec"])
    first, *others = spec["containers"]
    first = {**first, "env": [*first.get("env", ()), *_rendezvous(plan)]}
    # The subdomain is the Service's name: with it, a pod's host name can be resolved.
    pod = {**spec, "containers": [first, *others], "subdomain": plan.name, "restartPolicy": "Never"}
    return {**template, "spec": pod}


def _rendezvous(plan: JobPlan) -> list[Document]:
    """Return the variables by which torchrun, or an image that starts itself, finds its peers.

    The rendezvous is static: worker 0 listens whatever its name resolves to at that moment, as that of a new pod may lag.
    """
    address, processes = f"{plan.name}-0.{plan.name}", plan.num_procs_per_worker
    found = {
        "PET_NNODES": str(plan.num_workers),
        "PET_NPROC_PER_NODE": str(processes),
        "PET_MASTER_ADDR": address,
        "PET_MASTER_PORT": _PORT,
    }
    if not plan.self_starting:
        return [_variable(name, value) for name, value in {**found, "PET_RDZV_CONF": _RENDEZVOUS}.items()]
    world = str(plan.num_workers * processes)
    found |= {"MASTER_ADDR": address, "MASTER_PORT": _PORT, "WORLD_SIZE": world, "RANK": f"$({_RANK})"}
    return [_variable(name, value) for name, value in found.items()]


def worker_name(plan: JobPlan) -> list[Document]:
    """Return the variables for a worker's index, and for a name that does not change when its pod is replaced."""
    index = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
    return [{"name": _RANK, "valueFrom": index}, _variable(environment.WORKER, f"{plan.name}-$({_RANK})")]


def _variable(name: str, value: str) -> Document:
    return {"name": name, "value": value}


def service(plan: JobPlan) -> Document:
    """Return the headless Service that gives the workers their names, before they are ready, too."""
    metadata = {"name": plan.name, "labels": names.labels(plan.name)}
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {JOB_NAME: plan.name}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def raw_spec(manifest: RawManifest) -> Document:
    """Return the spec that the user wrote, with labelled pods; raises as `JobKind.raw`."""
    spec = part(manifest.document, "spec", "manifest")
    template = part(spec, "template", "manifest.spec")
    containers = part(template, "spec", "manifest.spec.template").get("containers")
    if not isinstance(containers, list) or not containers:
        remedy = "Write the container that trains."
        raise RequestError("has no containers", field="manifest.spec.template.spec.containers", remedy=remedy)
    path = "manifest.spec.template.metadata"
    metadata = labelled(part(template, "metadata", "manifest.spec.template"), names.labels(manifest.name), path)
    return {**spec, "template": {**template, "metadata": metadata}}
