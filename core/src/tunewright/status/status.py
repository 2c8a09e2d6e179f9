"""The status of a job, its pods, its log lines, and what is kept of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from datetime import datetime

import attrs

from tunewright._convert import to_dict, to_tuple
from tunewright.events import Json
from tunewright.status.state import JobState


@attrs.frozen(kw_only=True)
class JobStatus:
    """What is known of a job at one moment.

    Attributes:
        name: the job's name.
        state: where it is on its way.
        detail: about the state: "model, 43%", or why it failed and what to do.
        created: when it was submitted.
        started: when its first step started.
        finished: when it ended.
        result: where the finished model is, for people: a folder, or claim and folder.
        labels: the job's labels.
        pods: how many pods are at what: step, or phase where no step runs → number. Empty where workers are not pods, and
            in lists.
    """

    name: str
    state: JobState
    detail: str = ""
    created: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    result: str | None = None
    labels: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)
    pods: Mapping[str, int] = attrs.field(factory=dict, converter=to_dict)


@attrs.frozen(kw_only=True)
class LogLine:
    """One line of a job's log.

    Attributes:
        step: the container's name: "fetch-model", "check", "train".
        worker: index of the worker.
        text: the line, without its line break. May be an event: see `tunewright.events.parse_event`.
    """

    step: str
    worker: int
    text: str


@attrs.frozen(kw_only=True)
class JobPod:
    """One worker of a job, as a backend that has pods sees it.

    Attributes:
        name: the pod's name.
        worker: index of the worker.
        phase: Kubernetes' own: Pending, Running, Succeeded, Failed or Unknown.
        node: where it runs; "" while that is not known.
        step: the step that runs, or ran last; "" before the first one.
    """

    name: str
    worker: int
    phase: str
    node: str = ""
    step: str = ""


@attrs.frozen(kw_only=True)
class JobCondition:
    """A state that a job came into.

    Attributes:
        state: a JobState.
        since: when; None where that is not known.
        detail: about it: the step that ran, or what the cluster says.
    """

    state: JobState
    since: datetime | None = None
    detail: str = ""


@attrs.frozen(kw_only=True)
class JobRecord:
    """What is kept of a job besides its log; none of it is secret.

    Attributes:
        conditions: the states that it was in, oldest first, as far as they are known.
        workers: how many.
        processes: in each worker.
        command: what the main container runs; empty for an image's own entry point.
        images: step → image; empty where steps run in no image.
        documents: the JSON files of its configuration: file name → document.
    """

    conditions: tuple[JobCondition, ...] = attrs.field(default=(), converter=to_tuple)
    workers: int = 1
    processes: int = 1
    command: tuple[str, ...] = attrs.field(default=(), converter=to_tuple)
    images: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)
    documents: Mapping[str, Json] = attrs.field(factory=dict, converter=to_dict)


def documents_in(files: Mapping[str, str]) -> dict[str, Json]:
    """The JSON documents among a job's configuration files; a damaged one is left out."""
    found: dict[str, Json] = {}
    for name, text in files.items():
        if name.endswith(".json"):
            with contextlib.suppress(ValueError):
                found[name] = json.loads(text)
    return found
