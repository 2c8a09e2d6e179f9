"""A job and its pods as the cluster sees them, read from the API's JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Self

import attrs

from tunewright.backends.kubernetes import names
from tunewright.plan.plan import MAIN_STEP
from tunewright.status.status import JobPod

Phase = Literal["waiting", "running", "terminated"]


@attrs.frozen(kw_only=True)
class Container:
    """One container of a pod.

    Attributes:
        name: its name in the pod.
        step: its name in logs and messages.
        init: whether it is an init container.
        phase: as in `containerStatuses`.
        reason: why it is waiting or has terminated, in one word: "ImagePullBackOff", "OOMKilled".
        message: the kubelet's words, or its termination message.
        exit_code: None until it has terminated.
        started: when it started.
        finished: when it terminated.
        restarts: how often it was restarted within its pod.
        memory: its limit, as a Kubernetes quantity; "" for none.
    """

    name: str
    step: str
    init: bool
    phase: Phase
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    started: datetime | None = None
    finished: datetime | None = None
    restarts: int = 0
    memory: str = ""

    @property
    def out_of_memory(self) -> bool:
        """Whether the kernel killed a process of it because it reached its limit."""
        return self.reason == "OOMKilled"

    @property
    def failed(self) -> bool:
        """Whether it terminated with a non-zero exit code."""
        return bool(self.exit_code)


@attrs.frozen(kw_only=True)
class Pod:
    """One worker's pod.

    Attributes:
        name: its name, which some controllers give to the pod that replaces it, too; the uid differs.
        worker: index of the worker; a Master is worker 0.
        created: when it was created; None where that does not matter.
        phase: Pending, Running, Succeeded, Failed or Unknown.
        ending: whether it is being deleted.
        node: where it runs; "" while unknown.
        problem: why it cannot be scheduled; "" where it can.
        lost_since: since when its node has not answered; None while it does.
        attempt: how often the whole job was started again before, where the pods of earlier attempts are deleted.
        containers: the ones with a status, init containers first, in start order.
    """

    name: str
    uid: str
    worker: int
    created: datetime | None = None
    phase: str = "Pending"
    ending: bool = False
    node: str = ""
    problem: str = ""
    lost_since: datetime | None = None
    attempt: int = 0
    containers: tuple[Container, ...] = ()

    @classmethod
    def read(cls, document: Mapping[str, Any], worker: int, step_name: Callable[[str], str]) -> Self:
        """Read a Pod of the API.

        Args:
            document: the Pod.
            worker: the index of its worker.
            step_name: maps a container's name to its name in logs and messages.
        """
        metadata, status = document["metadata"], document.get("status") or {}
        limits = _memory_limits(document["spec"])
        known = [
            *(_container(c, step_name, limits, init=True) for c in status.get("initContainerStatuses") or []),
            *(_container(c, step_name, limits, init=False) for c in status.get("containerStatuses") or []),
        ]
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            worker=worker,
            created=moment(metadata.get("creationTimestamp")),
            phase=status.get("phase") or "Pending",
            ending="deletionTimestamp" in metadata,
            node=document["spec"].get("nodeName") or "",
            problem=_unschedulable(status),
            lost_since=_lost(status),
            containers=tuple(known),
        )

    @property
    def main(self) -> Container | None:
        """The training container; None until it has a status."""
        return next((c for c in self.containers if c.step == MAIN_STEP), None)

    @property
    def active_step(self) -> Container | None:
        """The init container that is running now."""
        return next((c for c in self.containers if c.init and c.phase == "running"), None)

    @property
    def idle_since(self) -> datetime | None:
        """Since when it waits to start, or to start its next step; None if something runs in it, or has ended it."""
        if self.phase != "Pending" or self.ending or any(c.phase == "running" for c in self.containers):
            return None
        return max((c.finished for c in self.containers if c.finished), default=self.created)

    @property
    def trains(self) -> bool:
        """Whether the training container is running."""
        return self.main is not None and self.main.phase == "running"


@attrs.frozen(kw_only=True)
class LiveJob:
    """A job object as it is in the cluster.

    Attributes:
        name: the job's name.
        namespace: where it is.
        uid: of the object; it changes when a job is deleted and recreated.
        ours: whether Tunewright created it.
        created: when it was created.
        started: when the controller first saw it.
        finished: when it ended.
        conditions: the conditions that hold: type → (message, since).
        suspended: whether it is suspended.
        ending: whether it is being deleted.
        labels: the user's and ours.
        annotations: the user's and ours.
        steps: names of the first worker's containers in logs and messages, in start order.
        workers: number of pods, all replicas together.
        wait_for: seconds that its pods may wait to start; None for ever.
        deadline: seconds from `started` after which its controller ends it as soon as something changes; None where it needs no
            change to see that, or there is no deadline.
    """

    name: str
    namespace: str
    uid: str
    ours: bool
    created: datetime
    started: datetime | None
    finished: datetime | None
    conditions: Mapping[str, tuple[str, datetime | None]]
    suspended: bool
    ending: bool
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    steps: tuple[str, ...]
    workers: int
    wait_for: int | None = None
    deadline: int | None = None

    @classmethod
    def read(
        cls,
        document: Mapping[str, Any],
        *,
        suspended: bool,
        steps: tuple[str, ...],
        workers: int,
        called: Mapping[str, str] | None = None,
    ) -> Self:
        """Read what all kinds of job object have in common.

        Args:
            document: the object.
            suspended: see the class.
            steps: likewise.
            workers: likewise.
            called: the kind's name of a condition → ours, where they differ.
        """
        metadata, status = document["metadata"], document.get("status") or {}
        labels, called = metadata.get("labels") or {}, called or {}
        conditions = {
            called.get(c["type"], c["type"]): (c.get("message") or "", moment(c.get("lastTransitionTime")))
            for c in status.get("conditions") or []
            if c["status"] == "True"
        }
        annotations = metadata.get("annotations") or {}
        if failure := annotations.get(names.FAILURE):
            conditions = {"Failed": (failure, conditions.get("Suspended", ("", None))[1])}
        ended = conditions.get("Failed") or conditions.get("Succeeded")
        return cls(
            name=metadata["name"],
            namespace=metadata["namespace"],
            uid=metadata["uid"],
            ours=labels.get(names.MANAGED_BY) == "tunewright",
            created=moment(metadata["creationTimestamp"]) or datetime.min,
            started=moment(status.get("startTime")),
            finished=moment(status.get("completionTime")) or (ended[1] if ended else None),
            conditions=conditions,
            suspended=suspended,
            ending="deletionTimestamp" in metadata,
            labels=labels,
            annotations=annotations,
            steps=steps,
            workers=workers,
            wait_for=_whole(annotations.get(names.WAIT_FOR)),
        )

    @property
    def queue(self) -> str | None:
        """Kueue's local queue; Kueue then decides when the job is suspended."""
        return self.labels.get(names.QUEUE)

    @property
    def ended(self) -> bool:
        """Whether it has succeeded or failed."""
        return "Succeeded" in self.conditions or "Failed" in self.conditions


def _whole(text: str | None) -> int | None:
    """Return an annotation as a number; None if it is none: anyone may write annotations."""
    return int(text) if text and text.isdecimal() else None


def moment(text: str | None) -> datetime | None:
    """Parse a timestamp of the API."""
    return datetime.fromisoformat(text) if text else None


def in_order(pods: Sequence[Pod]) -> list[Pod]:
    """Sort the pods by worker; of two pods of one worker, the terminating one comes first, and the older one."""
    return sorted(pods, key=lambda pod: (pod.worker, not pod.ending, str(pod.created or "")))


def newest(pods: Sequence[Pod]) -> list[Pod]:
    """Return the pods without those that have ended and were followed by others: some controllers keep them, for their logs."""
    last = {pod.worker: pod for pod in in_order(pods)}
    return [pod for pod in in_order(pods) if pod.phase not in ("Failed", "Succeeded") or pod is last[pod.worker]]


def ended_containers(pods: Sequence[Pod]) -> Iterator[tuple[Pod, Container]]:
    """Yield the containers that failed, in the order in which they terminated."""
    found = [(pod, c) for pod in pods for c in pod.containers if c.failed]
    yield from sorted(found, key=lambda pair: str(pair[1].finished or ""))


def _memory_limits(spec: Mapping[str, Any]) -> dict[str, str]:
    containers = (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    return {c["name"]: str(((c.get("resources") or {}).get("limits") or {}).get("memory", "")) for c in containers}


def _container(
    status: Mapping[str, Any], step_name: Callable[[str], str], limits: Mapping[str, str], *, init: bool
) -> Container:
    state = status.get("state") or {}
    phase: Phase = "terminated" if "terminated" in state else "running" if "running" in state else "waiting"
    said = state.get(phase) or {}
    return Container(
        name=status["name"],
        step=step_name(status["name"]),
        init=init,
        phase=phase,
        reason=said.get("reason") or "",
        message=(said.get("message") or "").strip(),
        exit_code=said.get("exitCode"),
        started=moment(said.get("startedAt")),
        finished=moment(said.get("finishedAt")),
        restarts=int(status.get("restartCount") or 0),
        memory=limits.get(status["name"], ""),
    )


def _unschedulable(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message") or condition.get("reason") or "")
    return ""


def _lost(status: Mapping[str, Any]) -> datetime | None:
    """Return since when the node has not answered: the cluster says then that the pod is not ready, and no container says why.

    https://kubernetes.io/docs/reference/node/node-status/#condition
    """
    ready = next((c for c in status.get("conditions") or [] if c["type"] == "Ready"), None)
    containers = status.get("containerStatuses") or []
    run = bool(containers) and all(c.get("ready") and "running" in (c.get("state") or {}) for c in containers)
    return (
        moment(ready.get("lastTransitionTime"))
        if ready and ready["status"] == "False" and not ready.get("reason") and run
        else None
    )


def as_job_pod(pod: Pod) -> JobPod:
    """Return a pod as users see it."""
    begun = [container.step for container in pod.containers if container.phase != "waiting"]
    last = begun[-1] if begun else ""
    return JobPod(name=pod.name, worker=pod.worker, phase=pod.phase, node=pod.node, container=last)
