"""The status and the record of a job, and the report that its supervisor writes at the end."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tunewright.backends.local import logs
from tunewright.backends.local.folder import JobFolder, Status
from tunewright.runner.files import write_atomically
from tunewright.status.report import JobReport, make_report
from tunewright.status.state import JobState
from tunewright.status.status import JobCondition, JobRecord, JobStatus, documents_in


def status_of(job: JobFolder, status: Status) -> JobStatus:
    """Return the status of a job, as shown to users."""
    state = JobState(status.state)
    result = result_of(job)
    return JobStatus(
        name=job.name,
        state=state,
        detail=status.detail or (str(status.failure) if status.failure else _detail(job, status)),
        failure=status.failure,
        created=job.created(),
        started=_moment(status.started),
        finished=_moment(status.finished),
        result=str(result) if result else None,
        labels=job.labels(),
    )


def record_of(job: JobFolder) -> JobRecord:
    """Return the record of a job.

    Raises:
        FileNotFoundError: the job was deleted.
    """
    spec = job.spec()
    return JobRecord(
        conditions=[
            JobCondition(state=JobState(state), since=_moment(since), detail=container)
            for state, container, since in job.read().history
        ],
        workers=spec.num_workers,
        processes=spec.num_procs_per_worker,
        command=spec.worker.command,
        documents=documents_in(job.configuration()),
    )


def write_report(job: JobFolder) -> None:
    """Write the report of a job that has ended to its folder.

    Raises:
        OSError: the report cannot be written.
    """
    report = make_report(JobReport, status_of(job, job.read()), record_of(job), logs.read(log_files(job)))
    write_atomically(job.path / "report.json", report.to_json())


def log_files(job: JobFolder) -> list[logs.LogFile]:
    """Return the logs of all containers, in the order in which they start."""
    spec = job.spec()
    containers = [(step.name, 0) for step in spec.steps]
    containers += [(spec.worker.name, worker) for worker in range(spec.num_workers)]
    return [logs.LogFile(container, worker, job.log(container, worker)) for container, worker in containers]


def result_of(job: JobFolder) -> Path | None:
    """Return the folder of the trained model, or None while there is none."""
    folder = job.workspace / "output" / "model"
    return folder if folder.is_dir() else None


def _detail(job: JobFolder, status: Status) -> str:
    state = JobState(status.state)
    if state.at_rest:
        return ""
    # What a job does now is in the log of what has begun last; of several workers, the first says most.
    newest = [file for file in reversed(log_files(job)) if not status.container or file.container == status.container]
    files = sorted(newest, key=lambda file: file.worker)
    return logs.detail(state, files) or status.container


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
