"""Ending jobs that nothing else would end: their controllers start them again for ever, or let them wait for ever."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.failures import ApiFailure
from tunewright.backends.kubernetes.live import LiveJob, Pod
from tunewright.backends.kubernetes.state import hopeless, waits_since
from tunewright.errors import Failure
from tunewright.runner.verdicts import FAILURE

_LATE = timedelta(seconds=10)  # after a deadline: the controller may be about to see it by itself


def end_if_endless(api: Api, job: LiveJob, pods: Sequence[Pod], waits_for: Callable[[], str]) -> LiveJob:
    """End a job that would never run, has waited longer than it may, or whose deadline its controller has not seen.

    Kueue alone suspends the jobs of its queues, so these are left as they are.

    Args:
        api: the cluster.
        job: the job.
        pods: its pods.
        waits_for: returns what its pods wait for.

    Returns:
        The job as it is then.
    """
    if job.ended or job.suspended or job.queue:
        return job
    now = datetime.now(UTC)
    with contextlib.suppress(ApiFailure):  # whoever looks next tries again
        if api.kind.restarts_forever and (failure := hopeless(pods)):
            return _end(api, job, failure)
        since = waits_since(job, pods) if job.wait_for is not None else None
        if since and (now - since).total_seconds() > (job.wait_for or 0):
            return _end(api, job, _waited(job, waits_for()))
        if job.deadline is not None and job.started and now > job.started + timedelta(seconds=job.deadline) + _LATE:
            _wake(api, job)
    return job


def _end(api: Api, job: LiveJob, failure: Failure) -> LiveJob:
    """Suspend a job, which ends its pods, and note why."""
    note = {"metadata": {"annotations": {names.FAILURE: failure.to_message().decode()}}}
    return api.kind.read(api.patch(api.kind.kind, job.name, {**api.kind.suspend(suspended=True), **note}))


def _waited(job: LiveJob, what: str) -> Failure:
    cause = f"Its pods waited to start for longer than wait_for={job.wait_for} s: {what or 'Kubernetes does not say what for'}."
    remedy = "Mend what it waited for, or let it wait longer with wait_for=, and submit it again."
    return Failure(FAILURE, cause.replace("..", "."), remedy)


def _wake(api: Api, job: LiveJob) -> None:
    """Change a job's annotations once, so that its controller looks at it: it only does so when something changes."""
    if names.LATE not in job.annotations:
        api.patch(api.kind.kind, job.name, {"metadata": {"annotations": {names.LATE: "true"}}})
