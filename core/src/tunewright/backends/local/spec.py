"""From a plan to what the local backend runs: documents for people to read first, which the supervisor then follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import attrs

from tunewright._convert import to_dict, to_tuple
from tunewright.environment import Paths
from tunewright.errors import RequestError
from tunewright.events import Json
from tunewright.manifests import Manifests
from tunewright.secret import SecretValue
from tunewright.specs import WORKSPACE, ContainerSpec, ExistingClaim, JobPlan

JOB, FILES = "LocalJob", "LocalFiles"
API = "tunewright/v1"


@attrs.frozen(kw_only=True)
class Program:
    """One container, as a process.

    Attributes:
        name: the container's name.
        command: program and arguments, as in the plan.
        env: the container's own variables; literal secrets are redacted.
    """

    name: str
    command: tuple[str, ...] = attrs.field(converter=to_tuple)
    env: Mapping[str, str] = attrs.field(converter=to_dict)


@attrs.frozen(kw_only=True)
class Spec:
    """What the supervisor follows: the fields of `JobPlan` that mean something on one machine.

    Attributes:
        steps: run once, one after another.
        worker: run by every worker, all at the same time.
        gpus: of each worker.
    """

    steps: tuple[Program, ...] = attrs.field(converter=to_tuple)
    worker: Program
    num_workers: int
    num_procs_per_worker: int
    gpus: int = 0
    self_starting: bool = False
    elastic: tuple[int, int] | None = None
    max_restarts: int = 3
    deadline: int | None = None
    ttl: int | None = None

    @classmethod
    def read(cls, document: Mapping[str, Json]) -> Spec:
        """From the document that `render` made."""
        from cattrs.preconf.json import make_converter

        return make_converter().structure(document["spec"], cls)

    @property
    def programs(self) -> tuple[Program, ...]:
        """Every program, in the order in which they start."""
        return (*self.steps, self.worker)


def render(plan: JobPlan, folder: Path) -> Manifests:
    """The documents for a plan: a LocalJob, and the files of its configuration.

    Args:
        plan: the plan.
        folder: the job's folder.

    Raises:
        RequestError: the plan has something that only Kubernetes can do.
    """
    for problem in _refusals(plan):
        raise problem
    spec = {
        "num_workers": plan.num_workers,
        "num_procs_per_worker": plan.num_procs_per_worker,
        "gpus": plan.main.resources.gpu if plan.main.resources else 0,
        "self_starting": plan.self_starting,
        "elastic": plan.elastic,
        "max_restarts": plan.max_restarts,
        "deadline": plan.deadline,
        "ttl": plan.ttl,
        "steps": [_program(container) for container in plan.init_containers],
        "worker": _program(plan.main),
    }
    metadata = {
        "name": plan.name,
        "labels": plan.labels,
        "annotations": plan.annotations,
        "folder": str(folder),
        "environment": paths_in(folder, 0).to_env(),
    }
    return Manifests(
        [
            {"apiVersion": API, "kind": JOB, "metadata": metadata, "spec": spec},
            {"apiVersion": API, "kind": FILES, "metadata": {"name": plan.name}, "data": plan.files},
        ]
    )


def secrets_of(plan: JobPlan) -> dict[str, dict[str, str]]:
    """The literal secrets: container → variable → value."""
    found = {c.name: {k: v.reveal() for k, v in c.secrets.items()} for c in (*plan.init_containers, plan.main)}
    return {name: values for name, values in found.items() if values}


def paths_in(folder: Path, worker: int) -> Paths:
    """Where a worker's processes find things. All workers share one workspace and what is installed."""
    own = folder / "workers" / str(worker)
    return Paths(
        workspace=folder / "workspace",
        config=folder / "config",
        packages=folder / "packages",
        run=own / "run",
        termination_log=own / "termination.log",
    )


def _program(container: ContainerSpec) -> dict[str, object]:
    return {"name": container.name, "command": container.command, "env": dict(container.env)}


def _refusals(plan: JobPlan) -> Iterator[RequestError]:
    for container in (*plan.init_containers, plan.main):
        if not container.command:
            problem = f"container {container.name!r} runs its image's own entry point, and there are no images on this machine"
            yield RequestError(problem, field="command", remedy='Give command=[…], or use backend="kubernetes".')
        yield from _foreign_mounts(container)
        for variable, value in container.env.items():
            if not isinstance(value, str | SecretValue):
                problem = f"is a key of Kubernetes Secret {value.name!r}, which this machine cannot read"
                remedy = 'Give the secret itself (in a job file: {env: NAME}), or use backend="kubernetes".'
                yield RequestError(problem, field=f"{container.name}.{variable}", remedy=remedy)
    for volume in plan.volumes:
        if isinstance(volume.source, ExistingClaim):
            problem = f"is a claim on a Kubernetes cluster (volume {volume.name!r}), which this machine cannot mount"
            remedy = 'Use file:///folder in place of pvc://, leave storage.claim out, or use backend="kubernetes".'
            yield RequestError(problem, field="claim", value=volume.source.claim, remedy=remedy)


def _foreign_mounts(container: ContainerSpec) -> Iterator[RequestError]:
    for mount in container.mounts:
        if not PurePosixPath(mount.path).is_relative_to(WORKSPACE):
            problem = (
                f"container {container.name!r} wants a volume there, and only {WORKSPACE} has a folder of this machine"
            )
            remedy = 'Use the workspace, or backend="kubernetes".'
            yield RequestError(problem, field="mount", value=mount.path, remedy=remedy)
