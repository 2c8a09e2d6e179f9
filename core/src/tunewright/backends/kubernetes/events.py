"""Kubernetes' own events about a job and its pods, as events of the job. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.kind import JobKind
from tunewright.backends.kubernetes.live import LiveJob, moment
from tunewright.events import ClusterEvent, Event


def time_of(event: Mapping[str, Any]) -> str:
    """Return when the event was last seen, as the API writes it."""
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])


def events_about(kind: JobKind, job: LiveJob, found: Iterable[Mapping[str, Any]]) -> list[Event]:
    """Return the events about the job, its pods and its claims, oldest first; not those of an earlier job of the same name.

    Args:
        kind: its kind.
        job: the job.
        found: Events of the job's namespace.
    """
    pod = re.compile(re.escape(job.name) + kind.pod_name)
    between = {(name, f"{job.name}{suffix}") for name, suffix in kind.between.items()}
    owned = {(kind.kind, job.name), *between, *_objects(job)}
    about = [
        event
        for event in found
        if (key := (event["involvedObject"].get("kind"), event["involvedObject"].get("name", ""))) in owned
        or (key[0] == "Pod" and pod.fullmatch(key[1]))
    ]
    return [_event(e) for e in sorted(about, key=time_of) if (moment(time_of(e)) or datetime.min) >= job.created]


def _objects(job: LiveJob) -> list[tuple[str, str]]:
    ids = job.annotations.get(names.OBJECTS, "").split(",")
    return [(kind, name) for kind, _, name in (i.partition("/") for i in ids)]


def _event(event: Mapping[str, Any]) -> Event:
    about = event["involvedObject"]
    return ClusterEvent(
        time=time_of(event),
        type=event.get("type") or "Normal",
        reason=event.get("reason") or "",
        about=f"{about.get('kind')}/{about.get('name')}",
        message=(event.get("message") or "").strip(),
        count=event.get("count") or 1,
    )
