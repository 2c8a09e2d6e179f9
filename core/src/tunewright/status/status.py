"""The status of a job, its pods, its log lines, and the record that its backend keeps."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from datetime import datetime

import attrs

from tunewright._convert import to_dict, to_tuple
from tunewright.errors import Failure
from tunewright.events import Event, Json
from tunewright.status.state import JobState


@attrs.frozen(kw_only=True)
class JobStatus:
    """What is known about a job at one moment.

    Attributes:
        name: the job's name.
        namespace: where it is, on Kubernetes; "" for backends without namespaces.
        state: its state.
        detail: about the state, for people: "model, 43%", or why it failed and what to do.
        failure: why it failed, as a value: exit code, cause, remedy, container and worker; None unless it failed.
        created: when it was submitted.
        started: when its first container started.
        finished: when it ended.
        result: where the finished model is, for people: a folder, or a claim and a folder.
        labels: the job's labels.
        pods: container, or phase where no container runs → number of pods. Empty in lists, and if workers are not pods.
    """

    name: str
    state: JobState
    detail: str = ""
    failure: Failure | None = None
    created: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    result: str | None = None
    labels: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)
    pods: Mapping[str, int] = attrs.field(factory=dict, converter=to_dict)
    namespace: str = ""

    def to_dict(self) -> dict[str, Json]:
        """Return the status as JSON values; times in ISO 8601, to the second, and None while they are unknown."""
        times = {"created": self.created, "started": self.started, "finished": self.finished}
        return {
            "name": self.name,
            "namespace": self.namespace,
            "state": str(self.state),
            "detail": self.detail,
            "failure": {**self.failure.to_dict()} if self.failure else None,
            **{name: time.isoformat(timespec="seconds") if time else None for name, time in times.items()},
            "result": self.result,
            "labels": {**self.labels},
            "pods": {**self.pods},
        }


@attrs.frozen(kw_only=True)
class LogLine:
    """One line of a job's log.

    Attributes:
        container: the container's name: "fetch-model", "check", "train".
        worker: index of the worker.
        text: the line, without its line break. It may be an event: see `tunewright.events.parse_event`.
    """

    container: str
    worker: int
    text: str


@attrs.frozen(kw_only=True)
class JobPod:
    """One worker of a job, as a backend with pods sees it.

    Attributes:
        name: the pod's name.
        worker: index of the worker.
        phase: as in Kubernetes: Pending, Running, Succeeded, Failed or Unknown.
        node: where it runs; "" while that is unknown.
        container: the container that runs, or ran last; "" before the first one.
    """

    name: str
    worker: int
    phase: str
    node: str = ""
    container: str = ""


@attrs.frozen(kw_only=True)
class JobCondition:
    """A state that a job entered.

    Attributes:
        state: the state.
        since: when; None if that is unknown.
        detail: about the state: the container that ran, or the cluster's message.
    """

    state: JobState
    since: datetime | None = None
    detail: str = ""


@attrs.frozen(kw_only=True)
class JobRecord:
    """What is kept of a job besides its log, without secrets.

    Attributes:
        conditions: the states that it has been in, oldest first, as far as they are known.
        workers: number of workers.
        processes: number of processes in each worker.
        command: what the main container runs; empty for an image's own entry point.
        images: container → image; empty if containers run without images.
        documents: the JSON files of its configuration: file name → document.
    """

    conditions: tuple[JobCondition, ...] = attrs.field(default=(), converter=to_tuple)
    workers: int = 1
    processes: int = 1
    command: tuple[str, ...] = attrs.field(default=(), converter=to_tuple)
    images: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)
    documents: Mapping[str, Json] = attrs.field(factory=dict, converter=to_dict)


@attrs.frozen(kw_only=True)
class JobGlance:
    """What a list shows of a job besides its status, as far as it is known.

    Attributes:
        model: URI of the model; "" if the job has none.
        events: the newest events of its main container, newest first.
    """

    model: str = ""
    events: tuple[Event, ...] = attrs.field(default=(), converter=to_tuple)


def documents_in(files: Mapping[str, str]) -> dict[str, Json]:
    """Return the JSON documents among a job's configuration files; damaged ones are left out."""
    found: dict[str, Json] = {}
    for name, text in files.items():
        if name.endswith(".json"):
            with contextlib.suppress(ValueError):
                found[name] = json.loads(text)
    return found
