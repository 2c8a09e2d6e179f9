"""What is known of a job in the cluster: the job object and its pods, read from the API's JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Self

import attrs

from tunewright.backends.kubernetes import names
from tunewright.plan.plan import MAIN_STEP

Phase = Literal["waiting", "running", "terminated"]


@attrs.frozen(kw_only=True)
class Container:
    """One container of a pod.

    Attributes:
        name: its name in the pod.
        step: what it is called in logs and messages.
        init: whether it is an init container.
        phase: as in `containerStatuses`.
        reason: why it waits or has ended, in one word: "ImagePullBackOff", "OOMKilled".
        message: the kubelet's words, or its termination message.
        exit_code: once it has terminated.
        started: when.
        finished: when.
        restarts: how often it was started again in its pod.
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

    @property
    def failed(self) -> bool:
        """Whether it has ended otherwise than well."""
        return bool(self.exit_code)


@attrs.frozen(kw_only=True)
class Pod:
    """One worker's pod.

    Attributes:
        name: the same each time that the operator creates it again; the uid is not.
        worker: index of the worker; of an image that starts itself the Master is 0.
        phase: Pending, Running, Succeeded, Failed or Unknown.
        ending: whether it is being deleted.
        node: where it runs, if that is known.
        problem: why it cannot be scheduled.
        containers: init containers first, in the order in which they start; as far as they are known.
    """

    name: str
    uid: str
    worker: int
    phase: str = "Pending"
    ending: bool = False
    node: str = ""
    problem: str = ""
    containers: tuple[Container, ...] = ()

    @classmethod
    def read(cls, document: Mapping[str, Any], worker: int, step_name: Callable[[str], str]) -> Self:
        """Understand a Pod of the API.

        Args:
            document: the Pod.
            worker: the index of the worker that it is.
            step_name: from a container's name to what it is called in logs and messages.
        """
        metadata, status = document["metadata"], document.get("status") or {}
        known = [
            *(_container(c, step_name, init=True) for c in status.get("initContainerStatuses") or []),
            *(_container(c, step_name, init=False) for c in status.get("containerStatuses") or []),
        ]
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            worker=worker,
            phase=status.get("phase") or "Pending",
            ending="deletionTimestamp" in metadata,
            node=document["spec"].get("nodeName") or "",
            problem=_unschedulable(status),
            containers=tuple(known),
        )

    @property
    def main(self) -> Container | None:
        """The training container, once it is known."""
        return next((c for c in self.containers if c.step == MAIN_STEP), None)

    @property
    def active_step(self) -> Container | None:
        """The init container that runs now."""
        return next((c for c in self.containers if c.init and c.phase == "running"), None)

    @property
    def trains(self) -> bool:
        """Whether the training container runs."""
        return self.main is not None and self.main.phase == "running"


@attrs.frozen(kw_only=True)
class LiveJob:
    """The job object as it is in the cluster.

    Attributes:
        name: the job's name.
        namespace: where it is.
        uid: of the object: a job that was deleted and created again has another.
        ours: whether Tunewright made it.
        created: when.
        started: when the operator first looked at it.
        finished: when it ended.
        conditions: those that hold, type → (message, since).
        suspended: whether its pods are held back.
        ending: whether it is being deleted.
        labels: the user's, and ours.
        annotations: likewise.
        steps: what the containers of the first worker are called, in the order in which they start.
        workers: pods, all replicas together.
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
        """Understand a job object of the API, as far as all kinds are alike.

        Args:
            document: the object.
            suspended: see the class.
            steps: likewise.
            workers: likewise.
            called: the kind's own name of a condition → what it is called here.
        """
        metadata, status = document["metadata"], document.get("status") or {}
        labels, called = metadata.get("labels") or {}, called or {}
        conditions = {
            called.get(c["type"], c["type"]): (c.get("message") or "", moment(c.get("lastTransitionTime")))
            for c in status.get("conditions") or []
            if c["status"] == "True"
        }
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
            annotations=metadata.get("annotations") or {},
            steps=steps,
            workers=workers,
        )

    @property
    def queue(self) -> str | None:
        """Kueue's local queue, which then decides when the job is suspended."""
        return self.labels.get(names.QUEUE)

    @property
    def ended(self) -> bool:
        """Whether it has succeeded or failed."""
        return "Succeeded" in self.conditions or "Failed" in self.conditions


def moment(text: str | None) -> datetime | None:
    """A time of the API."""
    return datetime.fromisoformat(text) if text else None


def in_order(pods: Sequence[Pod]) -> list[Pod]:
    """The pods by worker; of two generations of one worker, the one that is ending first."""
    return sorted(pods, key=lambda pod: (pod.worker, not pod.ending))


def ended_containers(pods: Sequence[Pod]) -> Iterator[tuple[Pod, Container]]:
    """The containers that failed, in the order in which they ended."""
    found = [(pod, c) for pod in pods for c in pod.containers if c.failed]
    yield from sorted(found, key=lambda pair: str(pair[1].finished or ""))


def _container(status: Mapping[str, Any], step_name: Callable[[str], str], *, init: bool) -> Container:
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
    )


def _unschedulable(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message") or condition.get("reason") or "")
    return ""
