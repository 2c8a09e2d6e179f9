"""The supervisor's instructions, read from the documents that `render` makes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from tunewright._convert import to_dict, to_tuple
from tunewright.environment import Paths
from tunewright.events import Json
from tunewright.plan.policies import RunPolicy

JOB, FILES = "LocalJob", "LocalFiles"


@attrs.frozen(kw_only=True)
class Program:
    """A container that runs as a process.

    Attributes:
        name: name of the container.
        command: program and arguments, as in the plan.
        env: the container's own variables; literal secrets are redacted.
    """

    name: str
    command: tuple[str, ...] = attrs.field(converter=to_tuple)
    env: Mapping[str, str] = attrs.field(converter=to_dict)


@attrs.frozen(kw_only=True)
class Spec:
    """The fields of `JobPlan` that apply to a single machine.

    Attributes:
        steps: programs that run once, one after another.
        worker: program that every worker runs, all in parallel.
        gpus: GPUs per worker.
        secret_variables: variables of the user's environment that a step sees only if they were given to it.
    """

    steps: tuple[Program, ...] = attrs.field(converter=to_tuple)
    worker: Program
    num_workers: int
    num_procs_per_worker: int
    gpus: int = 0
    self_starting: bool = False
    elastic: tuple[int, int] | None = None
    run_policy: RunPolicy = attrs.field(factory=RunPolicy)
    secret_variables: tuple[str, ...] = attrs.field(converter=to_tuple, default=())

    @classmethod
    def read(cls, document: Mapping[str, Json]) -> Spec:
        """Read the spec from a document that `render` made."""
        from cattrs.preconf.json import make_converter

        return make_converter().structure(document["spec"], cls)

    @property
    def programs(self) -> tuple[Program, ...]:
        """All programs, in the order in which they start."""
        return (*self.steps, self.worker)


def paths_in(folder: Path, worker: int) -> Paths:
    """Return the paths of a worker. All workers share one workspace and one folder of installed packages."""
    own = folder / "workers" / str(worker)
    return Paths(
        workspace=folder / "workspace",
        config=folder / "config",
        packages=folder / "packages",
        run=own / "run",
        termination_log=own / "termination.log",
    )
