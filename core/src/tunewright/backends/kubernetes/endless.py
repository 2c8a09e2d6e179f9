"""Ending jobs that could never run, where their controller would start them again for ever."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.failures import ApiFailure
from tunewright.backends.kubernetes.live import LiveJob, Pod
from tunewright.backends.kubernetes.state import hopeless


def end_if_hopeless(api: Api, job: LiveJob, pods: Sequence[Pod]) -> LiveJob:
    """Suspend a job whose pods would fail each time in the same way, and note why; return the job as it is then.

    The training-operator has no limit for what fails before `run` can count. Kueue alone suspends the jobs of its queues, so
    these are left as they are.
    """
    idle = not api.kind.restarts_forever or job.ended or job.suspended or job.queue
    if idle or (failure := hopeless(pods)) is None:
        return job
    note = {"metadata": {"annotations": {names.FAILURE: failure.to_message().decode()}}}
    with contextlib.suppress(ApiFailure):  # whoever looks next tries again
        return api.kind.read(api.patch(api.kind.kind, job.name, {**api.kind.suspend(suspended=True), **note}))
    return job
