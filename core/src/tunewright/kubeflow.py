"""The client of kubeflow-training 1.9, for programs that were written for it: only their imports change.

    from tunewright.kubeflow import TrainingClient, constants
    from tunewright_hf import HuggingFaceDatasetParams, HuggingFaceModelParams, HuggingFaceTrainerParams

Methods take 1.9's arguments and return what 1.9 returns, as far as programs use it. New programs use `tunewright.TrainingClient`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Final

import attrs

from tunewright._client.client import TrainingClient as _Client
from tunewright._client.job import Job
from tunewright.errors import RequestError
from tunewright.events import parse_event
from tunewright.plan.plan import MAIN_STEP
from tunewright.plugins.registry import Registry
from tunewright.status.state import JobState
from tunewright.status.status import JobCondition, JobStatus

__all__ = ["JobObject", "TrainingClient", "constants"]


class constants:  # noqa: N801 - 1.9's name for it
    """The constants of 1.9 that programs use."""

    PYTORCHJOB_KIND: Final = "PyTorchJob"
    JOB_CONDITION_CREATED: Final = "Created"
    JOB_CONDITION_RUNNING: Final = "Running"
    JOB_CONDITION_RESTARTING: Final = "Restarting"
    JOB_CONDITION_SUCCEEDED: Final = "Succeeded"
    JOB_CONDITION_FAILED: Final = "Failed"
    INIT_CONTAINER_MOUNT_PATH: Final = "/workspace"
    DEFAULT_NAMESPACE: Final = "default"
    DEFAULT_TIMEOUT: Final = 120


@attrs.frozen(kw_only=True)
class Metadata:
    """The `metadata` of a job object."""

    name: str
    namespace: str | None = None
    labels: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Condition:
    """A condition of a job object: its type, whether it holds, since when, and the message."""

    type: str
    status: str = "True"
    last_transition_time: datetime | None = None
    message: str = ""
    reason: str = ""


@attrs.frozen(kw_only=True)
class ObjectStatus:
    """The `status` of a job object."""

    conditions: tuple[Condition, ...]
    start_time: datetime | None = None
    completion_time: datetime | None = None


@attrs.frozen(kw_only=True)
class JobObject:
    """A job as 1.9 returns it.

    Attributes:
        metadata: its name, namespace and labels.
        status: its conditions and times, when it was read.
        kind: "PyTorchJob".
        job: the handle on it that `tunewright.TrainingClient` returns.
    """

    metadata: Metadata
    status: ObjectStatus
    kind: str = constants.PYTORCHJOB_KIND
    job: Job = attrs.field(repr=False, eq=False)


class TrainingClient:
    """The client of 1.9.

    Args:
        config_file: path of a kubeconfig; None for the default locations.
        context: context in the kubeconfig; None for the current one.
        client_configuration: has no equivalent, and must be None.
        namespace: the namespace of calls that name none; None for the context's.
        job_kind: "PyTorchJob", the only kind.
        backend: name of a backend plugin.
        registry: the plugins to use; None for all that are installed.

    Raises:
        RequestError: another kind of job, or a client configuration.
    """

    def __init__(
        self,
        config_file: str | None = None,
        context: str | None = None,
        client_configuration: object = None,
        namespace: str | None = None,
        job_kind: str = constants.PYTORCHJOB_KIND,
        *,
        backend: str = "kubernetes",
        registry: Registry | None = None,
    ) -> None:
        if client_configuration is not None:
            remedy = "Give config_file= and context=."
            raise RequestError("is not supported", field="client_configuration", remedy=remedy)
        self.namespace, self.job_kind = namespace, _checked_kind(job_kind)
        self._options: dict[str, Any] = {"config_file": config_file, "context": context, "registry": registry}
        self._backend = backend
        self._clients: dict[str | None, _Client] = {}

    def _client(self, namespace: str | None, job_kind: str | None = None) -> _Client:
        _checked_kind(job_kind or self.job_kind)
        chosen = namespace or self.namespace
        if chosen not in self._clients:
            self._clients[chosen] = _Client(self._backend, namespace=chosen, **self._options)
        return self._clients[chosen]

    def _job(self, name: str | None, namespace: str | None, job_kind: str | None, job: object) -> Job:
        """Return the job that a call is about: by its object, or by its name."""
        if isinstance(job, JobObject):
            return job.job
        metadata = getattr(job, "metadata", None)
        chosen = name or getattr(metadata, "name", None)
        if chosen is None:
            raise RequestError("is missing", field="name", remedy="Give name= or job=.")
        return self._client(namespace or getattr(metadata, "namespace", None), job_kind).get_job(chosen)

    def train(self, name: str | None = None, namespace: str | None = None, **options: Any) -> Any:
        """Fine-tune a model; see `tunewright.TrainingClient.train`. Several workers share a ReadWriteMany claim by default.

        Raises:
            RequestError: as there.
            JobError: as there.
        """
        if options.get("num_workers", 1) > 1 and not ({"storage_config", "storage", "output"} & set(options)):
            # 1.9 has one claim for all workers, which in its default mode only those on one node could mount.
            options["storage_config"] = {"access_modes": ["ReadWriteMany"]}
        start: Callable[..., Any] = self._client(namespace).train
        return start(name=name, **options)

    def create_job(
        self,
        job: object = None,
        name: str | None = None,
        namespace: str | None = None,
        job_kind: str | None = None,
        **options: Any,
    ) -> Any:
        """Run code or submit a manifest; see `tunewright.TrainingClient.create_job`."""
        if isinstance(job, str):  # ours begins with the name
            job, name = None, job
        given = {**options, "manifest": job} if job is not None else options
        start: Callable[..., Any] = self._client(namespace or _namespace_of(job), job_kind).create_job
        return start(name, **given)

    def get_job(
        self, name: str, namespace: str | None = None, job_kind: str | None = None, timeout: int = 0
    ) -> JobObject:
        """Return a job."""
        del timeout
        return _object(self._job(name, namespace, job_kind, None), namespace or self.namespace)

    def list_jobs(self, namespace: str | None = None, job_kind: str | None = None, timeout: int = 0) -> list[JobObject]:
        """Return all jobs of a namespace, newest first."""
        del timeout
        return [_object(job, namespace or self.namespace) for job in self._client(namespace, job_kind).list_jobs()]

    def get_job_conditions(
        self,
        name: str | None = None,
        namespace: str | None = None,
        job_kind: str | None = None,
        job: object = None,
        timeout: int = 0,
    ) -> list[Condition]:
        """Return the conditions of a job, oldest first."""
        del timeout
        found = self._job(name, namespace, job_kind, job)
        return [_condition(c) for c in self._client(namespace, job_kind).get_job_conditions(found.name)]

    def is_job_created(self, *arguments: Any, **named: Any) -> bool:
        """Return whether a job exists: its condition Created stays once it runs."""
        return self._job(*_which(*arguments, **named)).state in JobState

    def is_job_running(self, *arguments: Any, **named: Any) -> bool:
        """Return whether a job is running."""
        return self._job(*_which(*arguments, **named)).state is JobState.RUNNING

    def is_job_restarting(self, *arguments: Any, **named: Any) -> bool:
        """Return whether a job is restarting."""
        return self._job(*_which(*arguments, **named)).state is JobState.RESTARTING

    def is_job_succeeded(self, *arguments: Any, **named: Any) -> bool:
        """Return whether a job has succeeded."""
        return self._job(*_which(*arguments, **named)).state is JobState.SUCCEEDED

    def is_job_failed(self, *arguments: Any, **named: Any) -> bool:
        """Return whether a job has failed."""
        return self._job(*_which(*arguments, **named)).state is JobState.FAILED

    def wait_for_job_conditions(
        self,
        name: str,
        namespace: str | None = None,
        job_kind: str | None = None,
        expected_conditions: Collection[str] = (constants.JOB_CONDITION_SUCCEEDED,),
        wait_timeout: float = 600,
        polling_interval: float = 2,
        callback: Callable[[JobObject], None] | None = None,
        timeout: int = 0,
    ) -> JobObject:
        """Wait until a job has one of the conditions; one that it had and that it left counts, as in 1.9.

        Raises:
            JobError: the job ended without it.
            TimeoutError: `wait_timeout` seconds have passed.
        """
        del polling_interval, timeout
        job, where = self._job(name, namespace, job_kind, None), namespace or self.namespace

        def tell(status: JobStatus) -> None:
            if callback is not None:
                callback(_object(job, where, status))

        return _object(job, where, job.wait(_reached(expected_conditions), timeout=wait_timeout, callback=tell))

    def get_job_pod_names(self, name: str, namespace: str | None = None, *which: Any, **named: Any) -> list[str]:
        """Return the names of a job's pods, by worker; `is_master`, `replica_type` and `replica_index` choose among them."""
        return [pod.name for pod in self.get_job_pods(name, namespace, *which, **named)]

    def get_job_pods(
        self,
        name: str,
        namespace: str | None = None,
        is_master: bool = False,
        replica_type: str | None = None,
        replica_index: int | None = None,
        timeout: int = 0,
    ) -> list[Any]:
        """Return a job's pods, by worker; none on a backend without pods."""
        del timeout
        pods = self._client(namespace).get_job_pods(name)
        if is_master:
            return [pod for pod in pods if pod.worker == 0]
        kept = [pod for pod in pods if replica_type is None or f"-{replica_type.lower()}-" in pod.name]
        return [pod for pod in kept if replica_index is None or pod.name.endswith(f"-{replica_index}")]

    def get_job_logs(
        self,
        name: str,
        namespace: str | None = None,
        job_kind: str | None = None,
        is_master: bool = True,
        replica_type: str | None = None,
        replica_index: int | None = None,
        follow: bool = False,
        timeout: int = 0,
        verbose: bool = False,
    ) -> tuple[dict[str, str], dict[str, list[str]]]:
        """Return the log of each pod's training container by the pod's name, and its events if `verbose`.

        `follow` waits until the job has ended, and prints the lines as they come.
        """
        del timeout, replica_type
        client = self._client(namespace, job_kind)
        job = client.get_job(name)
        worker = 0 if is_master and replica_index is None else replica_index
        names = {pod.worker: pod.name for pod in client.get_job_pods(name)}
        logs: dict[str, str] = {}
        for line in job.log_lines(follow=follow, container=MAIN_STEP, worker=worker):
            if parse_event(line.text) is None:
                pod = names.get(line.worker, f"{name}-worker-{line.worker}")
                logs[pod] = f"{logs.get(pod, '')}{line.text}\n"
                if follow:
                    sys.stdout.write(f"[Pod {pod}]: {line.text}\n")
        events = [str(event) for event in job.events()] if verbose else []
        return logs, {name: events} if verbose else {}

    def update_job(self, name: str, namespace: str | None = None, **options: Any) -> None:
        """Change a job; see `tunewright.TrainingClient.update_job`."""
        self._client(namespace).update_job(name, **options)

    def delete_job(
        self, name: str, namespace: str | None = None, job_kind: str | None = None, delete_options: object = None
    ) -> None:
        """Stop a job and delete it with everything that it owns."""
        del delete_options
        self._client(namespace, job_kind).delete_job(name)


def _checked_kind(kind: str) -> str:
    if kind != constants.PYTORCHJOB_KIND:
        remedy = "Give PyTorchJob, or leave it out; other kinds stay with the SDK of kubeflow-training."
        raise RequestError("is not a kind that Tunewright runs", field="job_kind", value=kind, remedy=remedy)
    return kind


def _which(
    name: str | None = None,
    namespace: str | None = None,
    job_kind: str | None = None,
    job: object = None,
    timeout: int = 0,
) -> tuple[str | None, str | None, str | None, object]:
    del timeout
    return name, namespace, job_kind, job


def _reached(conditions: Collection[str]) -> tuple[JobState, ...]:
    """Return the states in which a job has one of the conditions, or had it."""
    given = {conditions} if isinstance(conditions, str) else set(conditions)
    if constants.JOB_CONDITION_CREATED in given:
        return tuple(JobState)
    after_running = (JobState.RUNNING, JobState.RESTARTING, JobState.SUCCEEDED)
    started = after_running if constants.JOB_CONDITION_RUNNING in given else ()
    return (*started, *(state for state in JobState if str(state) in given))


def _object(job: Job, namespace: str | None, status: JobStatus | None = None) -> JobObject:
    now = status or job.status()
    metadata = Metadata(name=now.name, namespace=namespace, labels=now.labels)
    condition = Condition(type=str(now.state), last_transition_time=now.finished or now.started, message=now.detail)
    about = ObjectStatus(conditions=(condition,), start_time=now.started, completion_time=now.finished)
    return JobObject(metadata=metadata, status=about, job=job)


def _condition(condition: JobCondition) -> Condition:
    return Condition(type=str(condition.state), last_transition_time=condition.since, message=condition.detail)


def _namespace_of(job: object) -> str | None:
    metadata = job.get("metadata") if isinstance(job, Mapping) else getattr(job, "metadata", None)
    found = metadata.get("namespace") if isinstance(metadata, Mapping) else getattr(metadata, "namespace", None)
    return found if isinstance(found, str) else None
