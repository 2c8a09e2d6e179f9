"""The client side of the local backend: submit, inspect and change jobs."""

from __future__ import annotations

import builtins
import contextlib
import importlib.util
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import attrs

from tunewright._doing import doing
from tunewright._markers import hookimpl
from tunewright.backends.base import Backend, BackendOptions, Finding
from tunewright.backends.local import logs
from tunewright.backends.local.folder import DamagedJob, JobFolder, Status
from tunewright.backends.local.record import log_files, record_of, result_of, status_of
from tunewright.backends.local.render import render, secrets_of
from tunewright.environment import state_home, user_setting
from tunewright.errors import AlreadyRunning, AlreadySucceeded, JobError, RequestError
from tunewright.events import Event
from tunewright.plan.manifests import Manifests
from tunewright.plan.plan import JobPlan
from tunewright.request.update import JobUpdate
from tunewright.status.state import JobState
from tunewright.status.status import JobRecord, JobStatus, LogLine

if TYPE_CHECKING:
    from filelock import BaseFileLock

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
# Longer than the 30 s that the supervisor gives its processes.
_STOP_TIMEOUT = 45.0
_TICK = 0.05


class LocalBackend(Backend):
    """Run jobs on this machine: each container is a process, and a folder takes the place of the volume.

    Each job has a supervisor process, which outlives the client. It runs the init containers one after another, and then
    all workers in parallel, with the same commands and variables as in a cluster. A job's folder below
    `tunewright.environment.state_home()` holds everything about the job, so any process can manage it.

    Differences from a cluster:

    - `python`, `python3` and `torchrun` come from the client's own Python environment, where the plugins are installed.
      Images are ignored, and so is the step that installs plugins into them: `base_image=` with a command runs that
      command on this machine.
    - CPU and memory limits, scheduling, queues, node selectors, service accounts and `pod_overrides` are ignored.
      Requested GPUs are divided among the workers with CUDA_VISIBLE_DEVICES.
    - Steps inherit the environment of the user who submitted or resumed the job, without the variables that launchers set.
    - Inputs are fetched once for all jobs, into a folder that they share, and linked into each; see `environment.cache_home`.
    - Init containers run once rather than once per worker: the local workers share their files.
    - If one worker has to restart, all workers do, as a rendezvous needs all of them. Any exit code of 128 or more causes
      a restart.
    - Literal secrets are kept in a file that only its owner can read, until the job succeeds or is deleted, so that the job
      can be resumed from another terminal. The process of a step receives only the secrets of its own container.
    - `delete`, and `ttl=` some time after the job ends, remove the result together with the job. There is no timer for the
      TTL: an expired job is removed the next time that jobs are read.
    """

    shares_client_filesystem: ClassVar[bool] = True

    def __init__(self, jobs: Path) -> None:
        self._jobs = jobs

    @classmethod
    def connect(cls, options: BackendOptions) -> Self:  # noqa: ARG003 - there is one local machine
        """Return a backend for this machine; nothing is written to the disk."""
        # Symbolic links are resolved, as a supervisor is recognized by this path in its command line.
        return cls((state_home() / "jobs").resolve())

    def render(self, plan: JobPlan) -> Manifests:
        """Return a LocalJob and its LocalFiles: the commands, variables and folders that the supervisor will use."""
        return render(plan, self._jobs / plan.name)

    def submit(self, plan: JobPlan) -> None:
        """Start the job, or continue the identical job where it stopped.

        Raises:
            RequestError: the plan requires something that only Kubernetes can do, or a library that is not installed.
            AlreadySucceeded: the identical job has already succeeded.
            JobError: a job of this name is running, or was made from a different plan.
        """
        documents, secrets = self.render(plan), secrets_of(plan)
        _check_machine(plan)
        with self._lock(plan.name):
            job = self._existing(plan.name)
            if job is None:
                job = JobFolder.create(self._jobs / plan.name, documents, secrets)
                if plan.run_policy.suspend:
                    return job.write(Status(state=JobState.SUSPENDED))
                try:
                    return job.start_supervisor()
                except BaseException:
                    _stop(job)
                    job.remove()
                    raise
            self._refuse_taken(job, documents)
            if not plan.run_policy.suspend:
                job.renew(documents, secrets)
                self._start(job)
        return None

    def get(self, name: str) -> JobStatus:  # noqa: D102 - the base's
        try:
            job = self._job(name)
            return status_of(job, job.status())
        except DamagedJob as damaged:
            return JobStatus(name=name, state=JobState.FAILED, detail=str(damaged), failure=damaged.to_failure())
        except FileNotFoundError:  # deleted just now
            raise _no_such(name) from None

    def list(self, labels: Mapping[str, str] | None = None) -> builtins.list[JobStatus]:  # noqa: D102 - the base's
        found = []
        for path in self._jobs.glob("[!.]*/job.json"):
            with contextlib.suppress(JobError):  # deleted just now
                found.append(self.get(path.parent.name))
        wanted = dict(labels or {}).items()
        chosen = [status for status in found if wanted <= status.labels.items()]
        return sorted(chosen, key=lambda status: status.created or datetime.min.replace(tzinfo=UTC), reverse=True)

    def logs(  # noqa: D102 - the base's
        self, name: str, *, follow: bool = False, container: str | None = None, worker: int | None = None
    ) -> Iterator[LogLine]:
        job = self._job(name)
        files = log_files(job)
        known = builtins.list(dict.fromkeys(file.container for file in files))
        if container is not None and container not in known:
            raise JobError(f"Job {name!r} has no container {container!r}. It has: {', '.join(known)}.", name=name)
        workers = max(file.worker for file in files) + 1
        if worker is not None and not 0 <= worker < workers:
            raise JobError(f"Job {name!r} has no worker {worker}. Its workers are 0 to {workers - 1}.", name=name)
        chosen = [f for f in files if container in (None, f.container) and worker in (None, f.worker)]
        return logs.follow(chosen, lambda: _at_rest(job)) if follow else logs.read(chosen)

    def newest_events(self, name: str) -> Iterator[Event]:  # noqa: D102 - the base's
        job = self._job(name)
        return logs.newest_events(job.log(job.spec().worker.name, 0))

    def record(self, name: str) -> JobRecord:  # noqa: D102 - the base's
        try:
            return record_of(self._job(name))
        except FileNotFoundError:  # deleted just now
            raise _no_such(name) from None

    def update(self, name: str, update: JobUpdate) -> None:  # noqa: D102 - the base's
        for field in update.given("queue", "priority_class"):
            problem, remedy = "is only supported on Kubernetes", "The local backend has no queue: leave it out."
            raise RequestError(problem, field=field, remedy=remedy)
        with self._lock(name):
            job = self._job(name)
            state = JobState(job.status().state)
            given = ", ".join(update.given("deadline", "max_restarts"))
            if given and not state.at_rest:
                problem = f"{given} cannot be changed while job {name!r} is {state.lower()}."
                raise JobError(f"{problem} Suspend it first: tunewright suspend {name}", name=name)
            if given and state is JobState.SUCCEEDED:
                problem = f"Job {name!r} has succeeded, so {given} can no longer be changed."
                raise JobError(f"{problem} You can still change labels, annotations and ttl.", name=name)
            job.change(update)

    def suspend(self, name: str) -> None:  # noqa: D102 - the base's
        with self._lock(name):
            job = self._job(name)
            state = JobState(job.status().state)
            if state.final:
                raise JobError(f"Job {name!r} has already {state.lower()}: there is nothing to suspend.", name=name)
            _stop(job)
            status = job.read()
            if not JobState(status.state).at_rest:  # its supervisor died before it could write the end
                job.write(attrs.evolve(status, state=JobState.SUSPENDED, detail=""))

    def resume(self, name: str) -> None:  # noqa: D102 - the base's
        with self._lock(name):
            job = self._job(name)
            state = JobState(job.status().state)
            if state is JobState.SUCCEEDED:
                raise JobError(f"Job {name!r} has already succeeded: there is nothing to resume.", name=name)
            if not state.at_rest:
                raise JobError(
                    f"Job {name!r} is {state.lower()}. Follow it: {self.command_for('follow', name)}", name=name
                )
            self._start(job)

    def delete(self, name: str) -> None:  # noqa: D102 - the base's
        with self._lock(name):
            job = self._job(name)
            _stop(job)
            job.remove()

    def result_folder(self, name: str) -> Path | None:
        """Return the folder of the finished model, `output/model` in the workspace, or None while there is none."""
        return result_of(self._job(name))

    def command_for(self, command: str, name: str) -> str:  # noqa: D102 - the base's
        chosen = "" if user_setting("backend") in (None, "local") else " --backend local"
        return f"tunewright {command} {name}{chosen}"

    def diagnose(self, plan: JobPlan | None) -> Iterator[Finding]:  # noqa: D102 - the base's
        missing = _missing(plan)
        for module, remedy in missing.items():
            text = f"The module {module} is not installed in this Python environment."
            yield Finding(about="machine", level="problem", text=text, remedy=remedy)
        if not missing:
            text = f"This Python environment has all modules that the steps need. Jobs are stored in {self._jobs}."
            yield Finding(about="machine", level="ok", text=text)

    def _start(self, job: JobFolder) -> None:
        _stop(job)  # an interruption may have left processes
        job.start_supervisor()

    def _job(self, name: str) -> JobFolder:
        job = self._existing(name)
        if job is None:
            raise _no_such(name)
        return job

    def _existing(self, name: str) -> JobFolder | None:
        path = self._jobs / name
        if not _NAME.fullmatch(name) or not (path / "job.json").exists():
            return None
        job = JobFolder(path)
        if not _has_expired(job):
            return job
        with contextlib.suppress(FileNotFoundError):  # another process was first
            job.remove()
        return None

    def _refuse_taken(self, job: JobFolder, documents: Manifests) -> None:
        name, state = job.name, JobState(job.status().state)
        if differences := job.differences(documents):
            raise JobError(
                f"Job {name!r} already exists ({state.lower()}), and this request differs from it in {differences}. "
                f"Choose another name, or delete the job and its result: tunewright delete {name}",
                name=name,
            )
        if state is JobState.SUCCEEDED:
            message = f"Job {name!r} has already succeeded with the same plan. To run it again, delete it: tunewright delete {name}"
            raise AlreadySucceeded(message, name=name)
        if not state.at_rest:
            message = f"Job {name!r} already exists ({state.lower()}). Follow it: {self.command_for('follow', name)}"
            raise AlreadyRunning(message, name=name)

    def _lock(self, name: str) -> BaseFileLock:
        """Return the lock that lets only one client at a time change a job."""
        from filelock import FileLock

        if not _NAME.fullmatch(name):
            raise _no_such(name)
        folder = self._jobs / ".locks"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return FileLock(folder / f"{name}.lock")


def _no_such(name: str) -> JobError:
    remedy = "List the jobs: tunewright list; for a job on a cluster, add --backend kubernetes."
    return JobError(f"There is no job {name!r} on this machine. {remedy}", name=name)


def _check_machine(plan: JobPlan) -> None:
    """Refuse a plan whose steps would fail for lack of a library."""
    for module, remedy in _missing(plan).items():
        problem = f"requires the module {module}, which is not installed in this Python environment"
        raise RequestError(problem, field="backend", value="local", remedy=remedy)


def _missing(plan: JobPlan | None) -> dict[str, str]:
    """Return the missing modules that the plan needs, or any training if None: module → remedy."""
    containers = (*plan.init_containers, plan.main) if plan else ()
    words = {word for container in containers for word in container.command} or {"tunewright_launcher", "torchrun"}
    needed = {
        "psutil": "pip install 'tunewright[local]'",
        "filelock": "pip install 'tunewright[local]'",
        **({"tunewright_launcher": "pip install 'tunewright[local]'"} if "tunewright_launcher" in words else {}),
        **({"torch": "pip install torch"} if "torchrun" in words else {}),
        **({"pip": "python -m ensurepip"} if "pip" in words else {}),
    }
    return {m: f"Install it: {command}" for m, command in needed.items() if importlib.util.find_spec(m) is None}


def _stop(job: JobFolder) -> None:
    """Stop the supervisor and all processes of the job; return once none is left."""
    import psutil

    from tunewright.backends.local import process

    job.stop_file.touch()  # reaches even a supervisor whose pid is lost because the status file is damaged
    if job.is_supervised():
        doing(f"waiting until the processes of {job.name} have ended")
        end = time.monotonic() + _STOP_TIMEOUT
        while job.is_supervised() and time.monotonic() < end:
            time.sleep(_TICK)
        if job.is_supervised() and (pid := job.read().pid):
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).kill()
    process.end_all(job.workspace, patience=_STOP_TIMEOUT)
    with contextlib.suppress(DamagedJob):
        if scratch := job.read().scratch:  # its supervisor could not remove it
            shutil.rmtree(scratch, ignore_errors=True)


def _at_rest(job: JobFolder) -> bool:
    try:
        return JobState(job.status().state).at_rest
    except FileNotFoundError:  # deleted
        return True


def _has_expired(job: JobFolder) -> bool:
    with contextlib.suppress(DamagedJob):
        if (finished := job.read().finished) is not None:
            ttl = job.spec().run_policy.ttl
            return ttl is not None and time.time() > finished + ttl
    return False


@hookimpl
def tunewright_backend() -> type[Backend]:
    """Return the backend that the name `local` stands for."""
    return LocalBackend
