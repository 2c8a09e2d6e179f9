"""The contract of a backend."""

from __future__ import annotations

import builtins
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import attrs

from tunewright.errors import JobError, RequestError, TunewrightError
from tunewright.events import Json
from tunewright.plan.manifests import Manifests
from tunewright.plan.plan import JobPlan
from tunewright.status.status import JobPod, JobRecord, JobStatus, LogLine

if TYPE_CHECKING:
    from tunewright.request.raw import RawManifest
    from tunewright.request.update import JobUpdate

# Seconds between two looks at a job that is watched.
_POLL = 0.2

Level = Literal["ok", "note", "problem"]


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


class Backend(ABC):
    """Renders plans and runs them.

    Class attributes:
        shares_client_filesystem: whether containers see the client's own files, so that local sources can be checked before
            submit.
        suspends_on_interrupt: whether Ctrl-C, while the job is followed, suspends it; else it goes on without a follower.
    """

    shares_client_filesystem: ClassVar[bool] = False
    suspends_on_interrupt: ClassVar[bool] = True

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

    def render_raw(self, manifest: RawManifest) -> Manifests:
        """As `render`, for a manifest that the user wrote.

        Raises:
            RequestError: it is not a job of this backend, which may not accept manifests at all.
        """
        problem = f"is a manifest (job {manifest.name!r}), which this backend does not accept"
        remedy = 'Use backend="kubernetes", or give train_func=, script= or base_image=.'
        raise RequestError(problem, field="manifest", remedy=remedy)

    def submit_raw(self, manifest: RawManifest) -> None:
        """As `submit`, for a manifest that the user wrote.

        Raises:
            RequestError: it is not a job of this backend, which may not accept manifests at all.
            JobError: the name is taken, or the backend refuses.
        """
        self.render_raw(manifest)

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

    def updates(self, name: str) -> Iterator[LogLine | JobStatus]:
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

    def command_for(self, command: str, name: str) -> str:
        """What to type to do something with a job: "tunewright logs -f NAME", with the options that find this backend's."""
        return f"tunewright {command} {name}"

    def diagnose(self, plan: JobPlan | None) -> Iterator[Finding]:  # noqa: ARG002 - for backends that need something
        """What is there and what is missing of what the backend needs for the plan, or for any job; creates nothing."""
        return iter(())

    def result_folder(self, name: str) -> Path | None:  # noqa: ARG002 - for backends that have one
        """The finished model's folder on this machine, where there is one."""
        return None


@attrs.frozen(kw_only=True)
class Finding:
    """What one look found.

    Attributes:
        about: what was looked at: "plugin hf", "rights", "storage".
        level: "ok"; "note" is worth knowing, or could not be looked at; with a "problem", jobs fail.
        text: what was found, as a sentence.
        remedy: what to do; "" for nothing.
    """

    about: str
    level: Level
    text: str
    remedy: str = ""


def problem(about: str, error: TunewrightError) -> Finding:
    """The finding that an error is."""
    remedy = str(getattr(error, "remedy", ""))
    return Finding(about=about, level="problem", text=str(error).removesuffix(remedy).rstrip(), remedy=remedy)
