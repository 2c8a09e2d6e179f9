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
"""What pods that run would not see."""


def refuse_too_late(job: LiveJob, update: JobUpdate) -> None:
    """See whether the job is at a point where all of that can be changed.

    Raises:
        JobError: it is not.
    """
    given = ", ".join(update.given(*_OF_PODS))
    if not given or (job.suspended and not job.ended):
        return
    if job.ended:
        problem = f"Job {job.name!r} has ended: {given} cannot be changed any more."
        raise JobError(f"{problem} Labels, annotations and ttl can.", name=job.name)
    problem = f"The pods of job {job.name!r} are there already, and {given} would not reach them."
    remedy = (
        f"Kueue decides when it runs: delete it and submit it anew: {names.command_for('delete', job.name, job.namespace)}"
        if job.queue
        else f"Suspend it first: {names.command_for('suspend', job.name, job.namespace)}"
    )
    raise JobError(f"{problem} {remedy}", name=job.name)


def patch_for(kind: JobKind, document: Object, update: JobUpdate) -> Object:
    """Return the merge patch for a job as it is now."""
    labels = {**update.labels, **({names.QUEUE: update.queue} if update.queue else {})}
    metadata = {k: v for k, v in (("labels", labels), ("annotations", dict(update.annotations))) if v}
    changes_pods = bool(update.given("priority_class", "deadline", "max_restarts"))
    spec = kind.change(document, update, functools.partial(_pod, kind, update) if changes_pods else None)
    if changes_pods:  # whole lists are replaced: if somebody else has changed them meanwhile, the server refuses
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
    """With new values of the variables that it has; `run`, in the main container, may get one that it has not."""
    old = container.get("env") or []
    env = [{"name": v["name"], "value": variables[v["name"]]} if v["name"] in variables else v for v in old]
    there = {variable["name"] for variable in old}
    if container["name"] == kind.main_container:
        env += [{"name": name, "value": value} for name, value in variables.items() if name not in there]
    return {**container, **({"env": env} if env else {})}
