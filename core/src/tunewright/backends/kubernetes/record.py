"""What the cluster keeps of a job besides its log: the job object, its pods and its ConfigMap. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tunewright.backends.kubernetes.kind import JobKind, Object
from tunewright.backends.kubernetes.live import Pod, moment
from tunewright.status.state import JobState
from tunewright.status.status import JobCondition, JobRecord, documents_in

_NEVER = datetime.max.replace(tzinfo=UTC)


def record_of(
    kind: JobKind, job: Object, pods: Sequence[Pod], config: Mapping[str, Any] | None, holder: Object
) -> JobRecord:
    """Return the record of a job.

    Args:
        kind: its kind.
        job: the job object.
        pods: its remaining pods.
        config: its ConfigMap; None if it could not be read.
        holder: what holds its pods' template; empty if it could not be read.
    """
    pod = kind.template(holder)["spec"] if holder else {"containers": []}
    containers = [*pod.get("initContainers", ()), *pod["containers"]]
    main: Mapping[str, Any] = next((c for c in containers if c["name"] == kind.main_container), {})
    conditions = [*_conditions(job), *_downloads(pods)]
    return JobRecord(
        conditions=sorted(conditions, key=lambda condition: condition.since or _NEVER),
        workers=kind.read(job).workers,
        processes=kind.processes(job),
        command=[*main.get("command", ()), *main.get("args", ())],
        images={kind.step_name(c["name"]): c["image"] for c in containers if "image" in c},
        documents=documents_in((config or {}).get("data") or {}),
    )


def _conditions(job: Mapping[str, Any]) -> Iterator[JobCondition]:
    """Yield the controller's conditions, including past ones."""
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition["type"] in {str(state) for state in JobState}:
            since, said = moment(condition.get("lastTransitionTime")), condition.get("message") or ""
            yield JobCondition(state=JobState(condition["type"]), since=since, detail=said)


def _downloads(pods: Sequence[Pod]) -> Iterator[JobCondition]:
    """Yield the init containers, which the controller does not report, each from when its first pod started it."""
    begun: dict[str, datetime] = {}
    for pod in pods:
        for container in pod.containers:
            if container.init and container.started:
                begun[container.step] = min(container.started, begun.get(container.step, _NEVER))
    for step, since in begun.items():
        yield JobCondition(state=JobState.DOWNLOADING, since=since, detail=step)
