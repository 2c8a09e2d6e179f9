"""What kinds share whose pods come from Indexed Jobs: indexes, how workers find worker 0, and what a failed pod means. Pure.

https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tunewright import environment
from tunewright.plan.manifests import Document
from tunewright.plan.plan import JobPlan

INDEX: Final = "batch.kubernetes.io/job-completion-index"

COUNTED_BY_RUN: Final = (129, 143)
"""Exit codes that no controller has to count: `run` counts its own restarts, and SIGTERM comes from a drain or a deletion."""

_KILLED = 137  # nobody else counts what kills a worker
_AGAIN = (*COUNTED_BY_RUN, _KILLED)  # all other codes are final

_RANK = "PET_NODE_RANK"
_PORT = "29500"
_RENDEZVOUS = (
    "timeout=900"  # seconds in which the workers must find each other: their downloads may end at different times
)


def worker_of(pod: dict[str, Any]) -> int:
    """Return the index of the worker that a pod is."""
    return int((pod["metadata"].get("labels") or {}).get(INDEX) or 0)


def worker_name(plan: JobPlan) -> list[Document]:
    """Return the variables for a worker's index, and for a name that does not change when its pod is replaced."""
    index = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
    return [{"name": _RANK, "valueFrom": index}, _variable(environment.WORKER, f"{plan.name}-$({_RANK})")]


def rendezvous(plan: JobPlan, address: str) -> list[Document]:
    """Return the variables by which torchrun, or an image that starts itself, finds its peers.

    The rendezvous is static: worker 0 listens whatever its name resolves to at that moment, as that of a new pod may lag.

    Args:
        plan: the job.
        address: worker 0's host name.
    """
    processes = plan.num_procs_per_worker
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


def indexed_spec(workers: int, main: str, *, backoff_limit: int, ignored: Sequence[int] = ()) -> Document:
    """Return the spec of an Indexed Job, without the template of its pods.

    Args:
        workers: number of pods, all at once.
        main: name of the main container, whose exit code decides what follows.
        backoff_limit: how many counted failures do not end the Job.
        ignored: exit codes after which the pod alone is replaced, and not counted.
    """
    return {
        "completionMode": "Indexed",
        "completions": workers,
        "parallelism": workers,
        "backoffLimit": backoff_limit,
        "podReplacementPolicy": "Failed",  # two pods of one worker would write the same checkpoints
        "podFailurePolicy": {"rules": _pod_failure_rules(main, ignored)},
    }


def _pod_failure_rules(main: str, ignored: Sequence[int]) -> list[Document]:
    """Return what the Job controller does about a failed pod; the first rule that fits counts, else the pod is counted."""
    ignores = [{"action": "Ignore", "onExitCodes": _codes(main, "In", ignored)}] if ignored else []
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        *ignores,
        {"action": "FailJob", "onExitCodes": _codes(main, "NotIn", sorted(_AGAIN))},
    ]


def _codes(main: str, operator: str, values: Sequence[int]) -> Document:
    return {"containerName": main, "operator": operator, "values": list(values)}


def _variable(name: str, value: str) -> Document:
    return {"name": name, "value": value}
