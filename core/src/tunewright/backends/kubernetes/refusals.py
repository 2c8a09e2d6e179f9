"""What cannot be done to a job, told by the job and not by the cluster."""

from __future__ import annotations

from typing import Final

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.failures import ClusterError
from tunewright.backends.kubernetes.kind import JobKind
from tunewright.backends.kubernetes.live import LiveJob
from tunewright.errors import JobError

END_TIMEOUT: Final = 180.0
"""Seconds to wait until pods have ended. A pod gets half a minute to end, or as long as the user's TUNEWRIGHT_GRACE says."""


def refuse_queued(kind: JobKind, job: LiveJob) -> None:
    """Refuse to suspend or resume a job of a queue.

    Raises:
        JobError: it is one.
    """
    if job.queue:
        delete = names.command_for("delete", job.name, job.namespace, backend=kind.backend)
        problem = f"Job {job.name!r} is in Kueue's queue {job.queue!r}; only Kueue suspends and resumes it."
        raise JobError(f"{problem} To end it: {delete}", name=job.name)


def no_such(name: str, namespace: str) -> ClusterError:
    """Return the error about a job that is gone."""
    return ClusterError(f"Job {name!r} no longer exists in namespace {namespace!r}.", name=name)


def still_ending(kind: JobKind, name: str) -> JobError:
    """Return the error about pods that do not end."""
    problem = f"The pods of job {name!r} have not terminated after {END_TIMEOUT:.0f} seconds."
    return JobError(
        f"{problem} Look for finalizers or a lost node: kubectl describe pods -l {kind.job_label}={name}", name=name
    )
