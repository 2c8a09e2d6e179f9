"""Backends: what runs a plan. Each is a plugin; `TrainingClient(backend="<name>")` selects one by name."""

from __future__ import annotations

import builtins
import contextlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import attrs

from tunewright._convert import to_dict, to_tuple
from tunewright.errors import JobError, RequestError
from tunewright.events import Json
from tunewright.manifests import Manifests
from tunewright.specs import JobPlan
from tunewright.states import JobState

if TYPE_CHECKING:
    from tunewright.doctor import Finding
    from tunewright.update import JobUpdate
    from tunewright.whole_job import WholeJob

# Seconds between two looks at a job that is watched.
_POLL = 0.2


@attrs.frozen(kw_only=True)
class BackendOptions:
    """What `TrainingClient` was given; a backend ignores what it has no use for.

    Attributes:
        namespace: Kubernetes namespace; None for the context's.
        config_file: path of a kubeconfig; None for the usual places.
        context: the kubeconfig's context; None for the current one.
    """

    namespace: str | None = None
    config_file: str | None = None
    context: str | None = None


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


class Backend(ABC):
    """Renders plans and runs them.

    Class attributes:
        sees_client_files: whether containers see the client's own files, so that local sources can be checked before
            submit.
        interrupt_suspends: whether Ctrl-C, while the job is followed, suspends it; else it goes on without a follower.
    """

    sees_client_files: ClassVar[bool] = False
    interrupt_suspends: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def connect(cls, options: BackendOptions) -> Self:
        """Make one. Must not need a network: a dry run works anywhere."""

    @abstractmethod
    def render(self, plan: JobPlan) -> Manifests:
        """What would be submitted. Pure.

        Raises:
            RequestError: the plan has something that this backend cannot do.
        """

    @abstractmethod
    def submit(self, plan: JobPlan) -> None:
        """Start the job. A failure in between leaves nothing over.

        Raises:
            JobError: the name is taken, or the backend refuses.
        """

    def render_whole(self, job: WholeJob) -> Manifests:
        """As `render`, of a job that the user wrote whole.

        Raises:
            RequestError: it is not a job of the backend's, which may take none.
        """
        problem = f"is a whole job ({job.name!r}), and this backend takes none"
        remedy = 'Use backend="kubernetes", or give train_func=, script= or base_image=.'
        raise RequestError(problem, field="job", remedy=remedy)

    def submit_whole(self, job: WholeJob) -> None:
        """As `submit`, of a job that the user wrote whole.

        Raises:
            RequestError: it is not a job of the backend's, which may take none.
            JobError: the name is taken, or the backend refuses.
        """
        self.render_whole(job)

    @abstractmethod
    def get(self, name: str) -> JobStatus:
        """The job's status.

        Raises:
            JobError: there is no such job.
        """

    def watch(self, name: str) -> Iterator[JobStatus]:
        """The job's status now, and again after each change and at least about once a second, without end.

        A backend that is told of changes does better than this, which looks five times a second.

        Raises:
            JobError: there is no such job.
        """
        while True:
            yield self.get(name)
            time.sleep(_POLL)

    @abstractmethod
    def list(self, labels: Mapping[str, str] | None = None) -> list[JobStatus]:
        """All jobs, newest first; with `labels`, those that have all of them."""

    @abstractmethod
    def logs(
        self, name: str, *, follow: bool = False, step: str | None = None, worker: int | None = None
    ) -> Iterator[LogLine]:
        """The lines of a job's log, events included, from all steps and workers unless one is named.

        Args:
            name: the job's name.
            follow: go on, also across restarts, until the job has ended.
            step: only this container's.
            worker: only this worker's.

        Raises:
            JobError: there is no such job.
        """

    def news(self, name: str) -> Iterator[LogLine | JobStatus]:
        """What happens until the job has ended: the lines of its log, and between them its status where that changes.

        A backend whose jobs wait for others tells the status; this tells the lines alone.

        Raises:
            JobError: there is no such job.
        """
        return self.logs(name, follow=True)

    def events(self, name: str) -> builtins.list[dict[str, Json]]:
        """What the backend itself tells of the job, as events, oldest first; nothing where all is in the log.

        Raises:
            JobError: there is no such job.
        """
        self.get(name)
        return []

    def pods(self, name: str) -> builtins.list[JobPod]:
        """The job's pods, by worker; none where workers are not pods.

        Raises:
            JobError: there is no such job.
        """
        self.get(name)
        return []

    def record(self, name: str) -> JobRecord:
        """What is kept of the job besides its log.

        Raises:
            JobError: there is no such job.
        """
        self.get(name)
        return JobRecord()

    def update(self, name: str, update: JobUpdate) -> None:  # noqa: ARG002 - for backends that can
        """Change a job that is there: all of it, or nothing.

        Raises:
            RequestError: the backend has no such thing.
            JobError: there is no such job, or it is too late for that.
        """
        self.get(name)
        raise JobError(f"Job {name!r} cannot be changed: its backend does not do that.", name=name)

    @abstractmethod
    def suspend(self, name: str) -> None:
        """End the job's processes and keep its files. Waits until they have ended.

        Raises:
            JobError: there is no such job, or it has ended.
        """

    @abstractmethod
    def resume(self, name: str) -> None:
        """Start a suspended or interrupted job again, from its newest complete checkpoint.

        Raises:
            JobError: there is no such job, or it is running or has succeeded.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """End the job and remove it with everything that it owns.

        Raises:
            JobError: there is no such job.
        """

    def hint(self, command: str, name: str) -> str:
        """What to type to do something with a job: "tunewright logs -f NAME", with the options that find this backend's."""
        return f"tunewright {command} {name}"

    def diagnose(self, plan: JobPlan | None) -> Iterator[Finding]:  # noqa: ARG002 - for backends that need something
        """What is there and what is missing of what the backend needs for the plan, or for any job; creates nothing."""
        return iter(())

    def result_folder(self, name: str) -> Path | None:  # noqa: ARG002 - for backends that have one
        """The finished model's folder on this machine, where there is one."""
        return None
