"""What holds a job up, where neither the job nor its pods say so: read from the cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.events import time_of
from tunewright.backends.kubernetes.failures import ApiFailure
from tunewright.backends.kubernetes.live import LiveJob, Pod, moment
from tunewright.backends.kubernetes.state import JobPhase
from tunewright.status.state import JobState


def obstacle(api: Api, job: LiveJob, phase: JobPhase, pods: Sequence[Pod]) -> str:
    """Return what holds a job up, from what is missing and from Kubernetes' warnings; "" for nothing."""
    starting = phase.state is JobState.CREATED
    if starting and (incomplete := incompleteness(api, job)):
        return incomplete
    present = [pod for pod in pods if not pod.ending]
    lacks = len(present) < job.workers  # the controller could not create them all
    # Under gang scheduling the existing pods wait for the missing ones, and report nothing else.
    if (phase.detail and not (starting and lacks)) or not (starting or phase.state is JobState.RUNNING):
        return ""
    if lacks:
        return _warning(api, job.created, *(f"{job.name}{suffix}" for suffix in ("", *api.kind.between.values())))
    return _warning(api, present[0].created or job.created, present[0].name) if starting else ""


def incompleteness(api: Api, job: LiveJob) -> str:
    """Say that the object created last is missing; return "" where it exists or may not be read."""
    kind, _, name = job.annotations.get(names.OBJECTS, "").rpartition(",")[2].partition("/")
    with contextlib.suppress(ApiFailure):
        if name and not api.find(kind, name, metadata=True):
            delete = names.command_for("delete", job.name, job.namespace, backend=api.kind.backend, context=api.context)
            remedy = f"The client stopped while submitting the job. Delete it: {delete}"
            return f"Incomplete: {kind}/{name} is missing. {remedy}"
    return ""


def _warning(api: Api, since: datetime, *names: str) -> str:
    """Return the newest warning among the events of objects of these names; what is older belongs to earlier ones."""
    found: list[tuple[str, str]] = []
    with contextlib.suppress(ApiFailure):
        for name in dict.fromkeys(names):
            selector = f"involvedObject.name={name},type=Warning"
            found += [
                (time_of(e), str(e.get("message", ""))) for e in api.list("Event", {"fieldSelector": selector}).items
            ]
    return max(((when, said) for when, said in found if (moment(when) or since) >= since), default=("", ""))[1]
