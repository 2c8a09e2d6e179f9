"""The contract of a backend: what a plugin implements to run jobs somewhere.

A backend derives from `Backend`. It renders a `JobPlan` without side effects, submits it, and reports on the job.
"""

from __future__ import annotations

import builtins
import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import attrs

from tunewright.errors import JobError, RequestError, TunewrightError
from tunewright.events import Event, parse_event
from tunewright.plan.manifests import Manifests
from tunewright.plan.plan import JobPlan
from tunewright.status.report import requested, source_of
from tunewright.status.status import JobGlance, JobPod, JobRecord, JobStatus, LogLine

if TYPE_CHECKING:
    from tunewright.request.raw import RawManifest
    from tunewright.request.update import JobUpdate

# Seconds between two checks of a watched job.
_POLL = 0.2

GLANCES_AT_ONCE = 8
"""Jobs that a list looks at in parallel."""
GLANCED_EVENTS = 200
"""How many of a job's newest events a list looks at, for the last loss."""

Level = Literal["ok", "note", "problem"]


@attrs.frozen(kw_only=True)
class BackendOptions:
    """The connection options of `TrainingClient`. A backend ignores those that do not apply to it.

    Attributes:
        namespace: Kubernetes namespace; None for the namespace of the context.
        config_file: path of a kubeconfig; None for the default locations.
        context: name of a kubeconfig context; None for the current one.
        kind: of the job objects that the backend "kubernetes" creates: "pytorchjob", "trainjob" or "job"; None for the first of
            them that the cluster can run.
    """

    namespace: str | None = None
    config_file: str | None = None
    context: str | None = None
    kind: str | None = None


class Backend(ABC):
    """Render plans and run them as jobs.

    Class attributes:
        shares_client_filesystem: whether containers see the client's files, so that local sources can be checked before
            the job is submitted.
        suspends_on_interrupt: whether pressing Ctrl-C while following a job suspends it. Otherwise the job keeps running.
    """

    shares_client_filesystem: ClassVar[bool] = False
    suspends_on_interrupt: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def connect(cls, options: BackendOptions) -> Self:
        """Return a backend for these options. Must not require a network, so that a dry run works anywhere."""

    @abstractmethod
    def render(self, plan: JobPlan) -> Manifests:
        """Return the manifests that `submit` would create. Pure: the same plan gives the same manifests.

        Raises:
            RequestError: the plan requires something that this backend does not support.
        """

    @abstractmethod
    def submit(self, plan: JobPlan) -> None:
        """Start the job. If that fails halfway, remove what was created.

        Raises:
            JobError: the name is taken, or the backend refuses the job.
        """

    def render_raw(self, manifest: RawManifest) -> Manifests:
        """Return the manifests for a raw manifest that the user wrote; see `render`.

        Raises:
            RequestError: the manifest is not a job of this backend, or the backend does not accept manifests.
        """
        problem = f"is a manifest (job {manifest.name!r}), which this backend does not accept"
        remedy = 'Use backend="kubernetes", or pass train_func=, script= or base_image=.'
        raise RequestError(problem, field="manifest", remedy=remedy)

    def submit_raw(self, manifest: RawManifest) -> None:
        """Start the job of a raw manifest that the user wrote; see `submit`.

        Raises:
            RequestError: the manifest is not a job of this backend, or the backend does not accept manifests.
            JobError: the name is taken, or the backend refuses the job.
        """
        self.render_raw(manifest)

    @abstractmethod
    def get(self, name: str) -> JobStatus:
        """Return the job's status.

        Raises:
            JobError: there is no such job.
        """

    def watch(self, name: str) -> Iterator[JobStatus]:
        """Yield the job's status now, after each change, and at least about once a second. The iterator never ends.

        The default polls `get` five times a second. Override it if the backend receives notifications.

        Raises:
            JobError: there is no such job.
        """
        while True:
            yield self.get(name)
            time.sleep(_POLL)

    @abstractmethod
    def list(self, labels: Mapping[str, str] | None = None) -> list[JobStatus]:
        """Return all jobs, newest first; with `labels`, only those that have all of these labels."""

    def list_everywhere(self, labels: Mapping[str, str] | None = None) -> builtins.list[JobStatus]:
        """Return the jobs of all namespaces, newest first; by default those of `list`, for backends without namespaces.

        Raises:
            JobError: the user may not see them all.
        """
        return self.list(labels)

    def glances(self, jobs: Sequence[JobStatus]) -> builtins.list[JobGlance]:
        """Return what a list shows of each job besides its status; nothing of one that has been deleted, or may not be read.

        The default asks about each job. Override it if a few requests can tell about all of them.
        """
        with ThreadPoolExecutor(GLANCES_AT_ONCE) as pool:
            return builtins.list(pool.map(self._glance, jobs))

    def _glance(self, job: JobStatus) -> JobGlance:
        there = self.at(job.namespace)
        try:
            model = source_of(requested(there.record(job.name)), "model")
            return JobGlance(model=model, events=itertools.islice(there.newest_events(job.name), GLANCED_EVENTS))
        except TunewrightError:
            return JobGlance()

    def at(self, namespace: str) -> Backend:  # noqa: ARG002 - for backends with namespaces
        """Return the backend for the jobs of another namespace; by default this one, for backends without namespaces."""
        return self

    @abstractmethod
    def logs(
        self, name: str, *, follow: bool = False, container: str | None = None, worker: int | None = None
    ) -> Iterator[LogLine]:
        """Yield the lines of a job's log, events included.

        Args:
            name: name of the job.
            follow: keep yielding new lines, across restarts, until the job ends.
            container: name of the container whose lines to yield; None for all.
            worker: index of the worker whose lines to yield; None for all.

        Raises:
            JobError: there is no such job, container or worker.
        """

    def updates(self, name: str) -> Iterator[LogLine | JobStatus]:
        """Yield what happens until the job ends: the lines of its log and, between them, each new status.

        The default yields only the lines. Override it if jobs can wait in a queue, to report their status meanwhile.

        Raises:
            JobError: there is no such job.
        """
        return self.logs(name, follow=True)

    def newest_events(self, name: str) -> Iterator[Event]:
        """Yield the events of the main container of worker 0, newest first; a list of jobs reads the first few of each.

        The default reads the whole log. Override it if the end of a log can be read by itself, and leave out what is before.

        Raises:
            JobError: there is no such job.
        """
        lines = builtins.list(self.logs(name, worker=0))
        return (event for line in reversed(lines) if (event := parse_event(line.text)) is not None)

    def events(self, name: str) -> builtins.list[Event]:
        """Return events about the job from the backend itself, oldest first; by default none, as all are in the log.

        Raises:
            JobError: there is no such job.
        """
        self.get(name)
        return []

    def pods(self, name: str) -> builtins.list[JobPod]:
        """Return the job's pods, ordered by worker; by default none, for backends without pods.

        Raises:
            JobError: there is no such job.
        """
        self.get(name)
        return []

    def record(self, name: str) -> JobRecord:
        """Return what the backend stores about the job besides its log.

        Raises:
            JobError: there is no such job.
        """
        self.get(name)
        return JobRecord()

    def update(self, name: str, update: JobUpdate) -> None:  # noqa: ARG002 - for backends that can
        """Change an existing job. Apply either the whole update or nothing.

        Raises:
            RequestError: the backend does not support one of the fields.
            JobError: there is no such job, or it can no longer be changed in this way.
        """
        self.get(name)
        raise JobError(f"Job {name!r} cannot be changed: its backend does not support updates.", name=name)

    @abstractmethod
    def suspend(self, name: str) -> None:
        """Stop the job's processes and keep its files. Wait until the processes have ended.

        Raises:
            JobError: there is no such job, or it has ended.
        """

    @abstractmethod
    def resume(self, name: str) -> None:
        """Resume a suspended, interrupted or failed job from its newest complete checkpoint.

        Raises:
            JobError: there is no such job, it is running, or it has succeeded.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Stop the job and delete it with everything that it owns.

        Raises:
            JobError: there is no such job.
        """

    def kept(self, name: str) -> builtins.list[str]:  # noqa: ARG002 - for backends that keep something
        """Return what `delete` leaves, or has left, of a job: volumes that hold the only copy of its result; by default none."""
        return []

    def discard(self, kept: Sequence[str]) -> None:
        """Delete what `kept` returned, after its job.

        Raises:
            JobError: the user may not, or the backend keeps nothing.
        """
        if kept:
            raise JobError(f"{kept[0]!r} cannot be deleted: this backend keeps nothing of its jobs.", name=kept[0])

    def command_for(self, command: str, name: str) -> str:
        """Return the command line that runs a `tunewright` command on a job, with the options that select this backend.

        Args:
            command: the command with its options: "logs -f", "follow".
            name: name of the job.
        """
        return f"tunewright {command} {name}"

    def diagnose(self, plan: JobPlan | None) -> Iterator[Finding]:  # noqa: ARG002 - for backends that need something
        """Yield findings about what the backend needs for the plan, or for any job if None. Create nothing."""
        return iter(())

    def result_folder(self, name: str) -> Path | None:  # noqa: ARG002 - for backends that have one
        """Return the folder of the finished model on this machine, or None if there is none."""
        return None


@attrs.frozen(kw_only=True)
class Finding:
    """The result of one check of `tunewright doctor`.

    Attributes:
        about: what was checked: "plugin hf", "rights", "storage".
        level: "ok"; "note" for what is worth knowing or could not be checked; "problem" if jobs would fail.
        text: what was found, as a sentence.
        remedy: what to do about it; "" if there is nothing to do.
    """

    about: str
    level: Level
    text: str
    remedy: str = ""


def problem(about: str, error: TunewrightError) -> Finding:
    """Return an error as a finding."""
    failure = error.to_failure()
    return Finding(about=about, level="problem", text=failure.cause, remedy=failure.remedy)
