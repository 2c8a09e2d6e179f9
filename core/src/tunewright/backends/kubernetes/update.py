"""Changing a job that has been submitted, by a JSON merge patch. Pure."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from tunewright import environment
from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.kind import JobKind, Object
from tunewright.backends.kubernetes.live import LiveJob
from tunewright.errors import JobError
from tunewright.request.update import JobUpdate

_OF_PODS = ("queue", "priority_class", "deadline", "max_restarts")
"""Fields that would not reach running pods."""


def refuse_too_late(kind: JobKind, job: LiveJob, update: JobUpdate) -> None:
    """Refuse an update that would not take effect any more.

    Raises:
        JobError: the job has ended, or its pods already exist.
    """
    given = ", ".join(update.given(*_OF_PODS))
    if not given or (job.suspended and not job.ended):
        return
    if job.ended:
        problem = f"Job {job.name!r} has ended, so {given} can no longer be changed."
        raise JobError(f"{problem} You can still change labels, annotations and ttl.", name=job.name)
    problem = f"The pods of job {job.name!r} already exist, and {given} would not reach them."
    command = names.command_for("delete" if job.queue else "suspend", job.name, job.namespace, backend=kind.backend)
    first = "Kueue decides when it runs, so delete it and submit it again" if job.queue else "Suspend it first"
    remedy = f"{first}: {command}"
    raise JobError(f"{problem} {remedy}", name=job.name)


def patch_for(kind: JobKind, document: Object, update: JobUpdate) -> Object:
    """Return the merge patch for a job as it is now."""
    labels = {**update.labels, **({names.QUEUE: update.queue} if update.queue else {})}
    metadata = {k: v for k, v in (("labels", labels), ("annotations", dict(update.annotations))) if v}
    changes_pods = bool(update.given("priority_class", "deadline", "max_restarts"))
    spec = kind.change(document, update, functools.partial(_pod, kind, update) if changes_pods else None)
    if (
        changes_pods
    ):  # the patch replaces whole lists, so the server must refuse it if somebody else changed them meanwhile
        metadata["resourceVersion"] = document["metadata"]["resourceVersion"]
    return {k: v for k, v in (("metadata", metadata), ("spec", spec)) if v}


def _pod(kind: JobKind, update: JobUpdate, spec: Object) -> Object:
    values = {environment.DEADLINE: update.deadline, environment.MAX_RESTARTS: update.max_restarts}
    variables = {name: str(value) for name, value in values.items() if value is not None}
    changed: Object = {"priorityClassName": update.priority_class} if update.priority_class else {}
    if variables:
        for key in ("initContainers", "containers"):
            if key in spec:
                changed[key] = [_container(kind, container, variables) for container in spec[key]]
    return changed


def _container(kind: JobKind, container: Mapping[str, Any], variables: Mapping[str, str]) -> Object:
    """Return a container with new values of its variables; the main container also gets variables that it lacks."""
    old = container.get("env") or []
    env = [{"name": v["name"], "value": variables[v["name"]]} if v["name"] in variables else v for v in old]
    there = {variable["name"] for variable in old}
    if container["name"] == kind.main_container:
        env += [{"name": name, "value": value} for name, value in variables.items() if name not in there]
    return {**container, **({"env": env} if env else {})}
