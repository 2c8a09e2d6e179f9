"""Render a plan as documents that tell people, and the supervisor, what the local backend runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import attrs

from tunewright.backends.local.env import distributed_environment
from tunewright.backends.local.spec import FILES, JOB, Program, Spec, paths_in
from tunewright.errors import RequestError
from tunewright.plan.manifests import Manifests
from tunewright.plan.plan import WORKSPACE, ContainerSpec, ExistingClaim, JobPlan
from tunewright.plan.secrets import SecretValue

API = "tunewright/v1"


def render(plan: JobPlan, folder: Path) -> Manifests:
    """Return the documents for a plan: a LocalJob, and a LocalFiles with its configuration files.

    Args:
        plan: the plan.
        folder: the job's folder.

    Raises:
        RequestError: the plan requires something that only Kubernetes can do.
    """
    for problem in _refusals(plan):
        raise problem
    shape: dict[str, Any] = {
        "num_workers": plan.num_workers,
        "num_procs_per_worker": plan.num_procs_per_worker,
        "gpus": plan.main.resources.gpu if plan.main.resources else 0,
        "self_starting": plan.self_starting,
        "elastic": plan.elastic,
        "run_policy": plan.run_policy,
        "secret_variables": plan.secret_variables,
    }
    metadata = {"name": plan.name, "labels": plan.labels, "annotations": plan.annotations, "folder": str(folder)}
    spec = {
        **shape,
        "run_policy": attrs.asdict(plan.run_policy),
        "environment": _environment(Spec(**shape, steps=(), worker=Program(name="", command=(), env={})), plan, folder),
        "steps": [_program(container) for container in plan.init_containers],
        "worker": _program(plan.main),
    }
    return Manifests(
        [
            {"apiVersion": API, "kind": JOB, "metadata": metadata, "spec": spec},
            {"apiVersion": API, "kind": FILES, "metadata": {"name": plan.name}, "data": plan.files},
        ]
    )


def _environment(shape: Spec, plan: JobPlan, folder: Path) -> dict[str, str]:
    """Return the variables that the backend will set for worker 0, for people to read."""
    logs = folder / "logs" / "ranks" / f"{plan.main.name}-0"
    distributed = distributed_environment(shape, job=plan.name, worker=0, port="<a free port>", logs=logs)
    return {**paths_in(folder, 0).to_env(), **distributed}


def secrets_of(plan: JobPlan) -> dict[str, dict[str, str]]:
    """Return the literal secrets: container → variable → value."""
    found = {c.name: {k: v.reveal() for k, v in c.secrets.items()} for c in (*plan.init_containers, plan.main)}
    return {name: values for name, values in found.items() if values}


def _program(container: ContainerSpec) -> dict[str, object]:
    return {"name": container.name, "command": container.command, "env": dict(container.env)}


def _refusals(plan: JobPlan) -> Iterator[RequestError]:
    for container in (*plan.init_containers, plan.main):
        if not container.command:
            problem = f"container {container.name!r} runs its image's entry point, and the local backend has no images"
            yield RequestError(problem, field="command", remedy='Pass command=[…], or use backend="kubernetes".')
        yield from _foreign_mounts(container)
        for variable, value in container.env.items():
            if not isinstance(value, str | SecretValue):
                problem = f"is a key of Kubernetes Secret {value.name!r}, which this machine cannot read"
                remedy = 'Pass the secret itself (in a job file: {env: NAME}), or use backend="kubernetes".'
                yield RequestError(problem, field=f"{container.name}.{variable}", remedy=remedy)
    for volume in plan.volumes:
        if isinstance(volume.source, ExistingClaim):
            problem = f"is a claim in a Kubernetes cluster (volume {volume.name!r}), which this machine cannot mount"
            remedy = 'Use file:///folder instead of pvc://, leave storage.claim out, or use backend="kubernetes".'
            yield RequestError(problem, field="claim", value=volume.source.claim, remedy=remedy)


def _foreign_mounts(container: ContainerSpec) -> Iterator[RequestError]:
    for mount in container.mounts:
        if not PurePosixPath(mount.path).is_relative_to(WORKSPACE):
            problem = (
                f"container {container.name!r} mounts a volume there, and the local backend only provides {WORKSPACE}"
            )
            remedy = 'Mount it inside the workspace, or use backend="kubernetes".'
            yield RequestError(problem, field="mount", value=mount.path, remedy=remedy)
