"""The state of a job, derived from the job object and its pods. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import attrs

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.live import Container, LiveJob, Pod, ended_containers, in_order, newest
from tunewright.backends.kubernetes.remedies import out_of_memory, remedy_for, scheduler_words
from tunewright.errors import Failure
from tunewright.runner.verdicts import FAILURE
from tunewright.status.state import JobState
from tunewright.status.status import JobStatus

# Normal reasons for waiting; any other one is reported.
_ON_ITS_WAY = ("", "PodInitializing", "ContainerCreating")

# Exit codes that are final under the restart policy ExitCode; containers with higher ones are restarted.
_FINAL = range(1, 128)

_CANNOT_START = 128  # containerd's, when a container's command does not exist


@attrs.frozen
class JobPhase:
    """The phase that a job is in.

    Attributes:
        state: the state.
        detail: what it is doing or waiting for; "" for nothing.
        failure: why it failed; None unless it did.
        progress_sources: containers whose newest events may report progress.
    """

    state: JobState
    detail: str = ""
    failure: Failure | None = None
    progress_sources: tuple[tuple[Pod, Container], ...] = ()


def status_of(job: LiveJob, phase: JobPhase, said: str = "", pods: Sequence[Pod] = ()) -> JobStatus:
    """Return the status of a job.

    Args:
        job: the job.
        phase: its phase.
        said: progress, as its containers report it.
        pods: its pods, for their counts.
    """
    return JobStatus(
        name=job.name,
        namespace=job.namespace,
        state=phase.state,
        detail=said or phase.detail,
        failure=phase.failure,
        created=job.created,
        started=job.started,
        finished=job.finished if job.ended else None,
        result=_result(job) if phase.state is JobState.SUCCEEDED else None,
        labels=job.labels,
        pods=Counter(_at(pod) for pod in newest(pods) if not pod.ending),
    )


def _at(pod: Pod) -> str:
    """Return the container that a pod is running, or else its phase."""
    running = pod.active_step or (pod.main if pod.trains else None)
    return running.step if running else pod.phase


def phase_of(job: LiveJob, pods: Sequence[Pod]) -> JobPhase:
    """Return the phase of a job. The controller itself only says Created until the first training process runs."""
    pods = in_order(pods)
    if "Succeeded" in job.conditions:
        return JobPhase(JobState.SUCCEEDED)
    if "Failed" in job.conditions:
        failure = _failure(job, pods)
        return JobPhase(JobState.FAILED, str(failure), failure)
    return _held(job) if job.suspended else _on_its_way(job, pods)


def _on_its_way(job: LiveJob, pods: Sequence[Pod]) -> JobPhase:
    present = [pod for pod in newest(pods) if not pod.ending]
    steps = tuple((pod, step) for pod in present if (step := pod.active_step))
    training = tuple((pod, pod.main) for pod in present if pod.trains and pod.main)
    if training and len(training) == len(present) >= job.workers:
        return JobPhase(JobState.RUNNING, progress_sources=training)
    if "Restarting" in job.conditions or any(_is_replaced(pod) for pod in pods):
        return JobPhase(JobState.RESTARTING, _restart(job, pods, steps), progress_sources=steps)
    if steps:
        return JobPhase(JobState.DOWNLOADING, _step(*steps[0]), progress_sources=steps)
    # The training has just ended, and the controller has not noticed yet.
    if training or any(pod.main and pod.main.phase == "terminated" for pod in present):
        return JobPhase(JobState.RUNNING, _waiting(present), progress_sources=training)
    return JobPhase(JobState.CREATED, _waiting(present))


def _is_replaced(pod: Pod) -> bool:
    """Return whether a pod has failed, and not for good: its controller has replaced it, or will; or is such a replacement."""
    if pod.attempt:
        return True
    return pod.phase == "Failed" and (pod.main is None or pod.main.exit_code not in _FINAL)


def _held(job: LiveJob) -> JobPhase:
    if job.queue:
        return JobPhase(JobState.QUEUED, f"waits for its turn in Kueue's queue {job.queue!r}")
    return JobPhase(JobState.SUSPENDED)


def _result(job: LiveJob) -> str | None:
    uri = job.annotations.get(names.OUTPUT)
    # A training writes its model to a folder beside the checkpoints; what other code writes is up to the code.
    if uri is not None and uri.startswith("pvc://") and names.CHECK in job.steps:
        return f"{uri.rstrip('/')}/model"
    return uri


def _failure(job: LiveJob, pods: Sequence[Pod]) -> Failure:
    """Return the failure of what failed first for good, from its termination message, where `run` and `fetch` write it."""
    if noted := job.annotations.get(names.FAILURE):
        return Failure.from_message(noted, FAILURE)
    failed = sorted(ended_containers(pods), key=lambda pair: pair[1].exit_code not in _FINAL)
    # The controller judges the main container, which exits with the verdict of the init containers before it.
    for pod, container in [pair for pair in failed if not pair[1].init] or failed:
        code = container.exit_code or FAILURE
        said = Failure.from_message(container.message, code) if container.message else None
        found = _known(pod, container, code) or said or Failure(code, _ending(pod, container))
        return found.seen_in(container.step, pod.worker)
    return Failure.from_message(job.conditions["Failed"][0], FAILURE)


def hopeless(pods: Sequence[Pod]) -> Failure | None:
    """Return the failure of a pod that would fail in the same way each time that it is started again; None if there is none.

    What `run` counts is not meant, but what happens before it, or in its place: an image that cannot run the command, and a
    step that needs more memory than its limit.
    """
    for pod, container in ended_containers(in_order(pods)):
        found = _known(pod, container, FAILURE)
        if found and (container.init or not container.out_of_memory):
            return found.seen_in(container.step, pod.worker)
    return None


def waits_since(job: LiveJob, pods: Sequence[Pod]) -> datetime | None:
    """Return since when a pod of a job waits to start, or is not even there; None if all have started."""
    present = [pod for pod in newest(pods) if not pod.ending]
    idle = [since for pod in present if (since := pod.idle_since)]
    if len(present) < job.workers:  # the controller cannot create them, or has not yet replaced them
        restarted = job.conditions.get("Restarting", ("", None))[1]
        ends = [container.finished for _, container in ended_containers(pods)]
        known = [moment for moment in (job.started or job.created, restarted, *ends) if moment]
        idle.append(max(known))
    return min(idle, default=None)


def _known(pod: Pod, container: Container, code: int) -> Failure | None:
    """Return the failure of a container that the node ended, or could not start; None for any other."""
    if container.out_of_memory:
        return Failure(code, *out_of_memory(pod.worker, container.step, container.memory))
    if container.exit_code == _CANNOT_START and (remedy := remedy_for(container.reason)):
        said = container.message.rstrip(".")
        return Failure(code, f"Worker {pod.worker}: {container.step} cannot be started: {said}.", remedy)
    return None


def _ending(pod: Pod, container: Container) -> str:
    if container.out_of_memory:
        return " ".join(out_of_memory(pod.worker, container.step, container.memory))
    why = f" ({container.reason})" if container.reason not in {"", "Error"} else ""
    return f"Worker {pod.worker}: {container.step} ended with exit code {container.exit_code}{why}."


def _restart(job: LiveJob, pods: Sequence[Pod], steps: Sequence[tuple[Pod, Container]]) -> str:
    for pod, container in ended_containers(pods):
        return _ending(pod, container)
    return _step(*steps[0]) if steps else _waiting(pods) or job.conditions.get("Restarting", ("",))[0]


def _step(pod: Pod, step: Container) -> str:
    return step.step if pod.worker == 0 else f"{step.step} of worker {pod.worker}"


def _waiting(pods: Sequence[Pod]) -> str:
    """Return what a stuck pod is waiting for."""
    for pod in pods:
        if pod.problem:
            said = scheduler_words(pod.problem)
            return f"worker {pod.worker} cannot be scheduled: {said}. {remedy_for('FailedScheduling', pod.problem)}".rstrip()
        for container in pod.containers:
            if container.phase == "waiting" and container.reason not in _ON_ITS_WAY:
                said = f": {container.message}" if container.message else ""
                found = f"worker {pod.worker}: {container.step} cannot start: {container.reason}{said}"
                return ". ".join(
                    filter(None, (found.rstrip("."), _verdict(pod) or remedy_for(container.reason, container.message)))
                )
    return ""


def start_of(job: LiveJob, phase: JobPhase, pods: Sequence[Pod]) -> str:
    """Return what a job that has not begun waits for, where nothing stands in its way; "" if it has begun, or something does."""
    if phase.state is not JobState.CREATED or phase.detail:
        return ""
    present = [pod for pod in newest(pods) if not pod.ending]
    if len(present) < job.workers:
        return f"{len(present)} of {job.workers} pods are created"
    for pod in present:
        if not pod.node:
            return f"worker {pod.worker} waits for a node"
        if first := next((c for c in pod.containers if c.phase == "waiting"), None):
            return f"worker {pod.worker} starts {first.step} on {pod.node}: pulling its image, or mounting its volumes"
    return ""


def _verdict(pod: Pod) -> str:
    """Return the failure that an init container reported; `run` would exit with it if it got that far."""
    messages = (c.message for c in pod.containers if c.init and c.exit_code == 0 and c.message)
    return next((str(Failure.from_message(message, FAILURE)) for message in messages), "")
