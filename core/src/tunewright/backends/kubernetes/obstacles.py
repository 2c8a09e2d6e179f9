"""What holds a job up, where neither the job nor its pods say so: read from the cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime

import attrs

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.events import time_of
from tunewright.backends.kubernetes.failures import ApiFailure
from tunewright.backends.kubernetes.kind import Object
from tunewright.backends.kubernetes.live import LiveJob, Pod, in_order, moment, newest
from tunewright.backends.kubernetes.remedies import LOST, remedy_for, scheduler_words
from tunewright.backends.kubernetes.state import JobPhase
from tunewright.status.state import JobState


def obstacle(api: Api, job: LiveJob, phase: JobPhase, pods: Sequence[Pod]) -> str:
    """Return what holds a job up, from what is missing and from Kubernetes' warnings; "" for nothing."""
    starting, again = phase.state is JobState.CREATED, phase.state is JobState.RESTARTING
    if starting and (incomplete := incompleteness(api, job)):
        return incomplete
    present = [pod for pod in newest(pods) if not pod.ending]
    if again:
        held = next((said for pod in present if pod.idle_since and (said := _held(api, job, pod))), "")
        return " ".join(filter(None, (phase.detail, held)))
    if starting and any("unbound" in pod.problem for pod in present) and (said := _of_claims(api, job)):
        return said
    lacks = len(present) < job.workers  # the controller could not create them all
    # Under gang scheduling the existing pods wait for the missing ones, and report nothing else.
    if (phase.detail and not (starting and lacks)) or not (starting or phase.state is JobState.RUNNING):
        return ""
    if lacks:
        return _newest(api, job.created, *(f"{job.name}{suffix}" for suffix in ("", *api.kind.between.values())))
    return _held(api, job, present[0]) if starting else ""


def lost_node(pods: Sequence[Pod]) -> str:
    """Say that a pod's node no longer answers; "" if all do. Until Kubernetes replaces the pod, all else looks as before."""
    lost = next((pod for pod in in_order(pods) if pod.lost_since), None)
    if lost is None or lost.lost_since is None:
        return ""
    seconds = max(int((datetime.now(UTC) - lost.lost_since).total_seconds()), 0)
    then = (
        "Kubernetes replaces it"
        if lost.ending
        else "Kubernetes replaces it after 5 minutes, unless the node comes back"
    )
    return f"worker {lost.worker}: its node {lost.node} has not answered for {seconds} s. {then}. {LOST}"


def _of_claims(api: Api, job: LiveJob) -> str:
    """Return why a claim of the job gets no volume, which its pods' scheduler does not say."""
    for owned in job.annotations.get(names.OBJECTS, "").split(","):
        kind, _, name = owned.partition("/")
        if kind == "PersistentVolumeClaim" and (said := _newest(api, job.created, name)):
            return f"claim {name}: {said}"
    return ""


def _held(api: Api, job: LiveJob, pod: Pod) -> str:
    """Return what holds up a pod: its newest event, if that is a warning, or the image that is being pulled."""
    events = [e for e in _events(api, pod.created or job.created, pod.name) if not (pod.node and e.scheduling)]
    newest = max(events, key=lambda event: event.when, default=None)
    if newest is None:
        return ""
    if newest.reason == "Pulling":
        seconds = int((datetime.now(UTC) - newest.when).total_seconds())
        return f"worker {pod.worker}: {newest.message[:1].lower()}{newest.message[1:]} for {max(seconds, 0)} s"
    return newest.said() if newest.warns else ""


def incompleteness(api: Api, job: LiveJob) -> str:
    """Say that the object created last is missing; return "" where it exists or may not be read."""
    kind, _, name = job.annotations.get(names.OBJECTS, "").rpartition(",")[2].partition("/")
    with contextlib.suppress(ApiFailure):
        if name and not api.find(kind, name, metadata=True):
            delete = names.command_for("delete", job.name, job.namespace, backend=api.kind.backend, context=api.context)
            remedy = f"The client stopped while submitting the job. Delete it: {delete}"
            return f"Incomplete: {kind}/{name} is missing. {remedy}"
    return ""


@attrs.frozen
class _Seen:
    when: datetime
    warns: bool
    reason: str
    message: str

    @property
    def scheduling(self) -> bool:
        """Whether it is about finding a node, and so over once there is one."""
        return self.reason == "FailedScheduling"

    def said(self) -> str:
        said = scheduler_words(self.message)
        return " ".join(filter(None, (f"{said}.", remedy_for(self.reason, self.message))))


def _newest(api: Api, since: datetime, *objects: str) -> str:
    """Return the newest warning among the events of objects of these names."""
    warnings = [event for event in _events(api, since, *objects) if event.warns]
    return max(warnings, key=lambda event: event.when).said() if warnings else ""


def _events(api: Api, since: datetime, *objects: str) -> list[_Seen]:
    """Return the events of objects of these names; what is older than they are belongs to earlier ones."""
    found: list[_Seen] = []
    with contextlib.suppress(ApiFailure):
        for name in dict.fromkeys(objects):
            listed = api.list("Event", {"fieldSelector": f"involvedObject.name={name}"}).items
            found += [_seen(event, since) for event in listed]
    return [event for event in found if event.when >= since]


def _seen(event: Object, since: datetime) -> _Seen:
    warns = event.get("type") == "Warning"
    return _Seen(moment(time_of(event)) or since, warns, event.get("reason") or "", str(event.get("message") or ""))
