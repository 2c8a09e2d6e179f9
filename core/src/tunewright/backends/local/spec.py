"""What the supervisor follows, as the documents that `render` makes say it."""

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
        secret_variables: variables of the user that no step sees, unless it was given them.
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
        """From the document that `render` made."""
        from cattrs.preconf.json import make_converter

        return make_converter().structure(document["spec"], cls)

    @property
    def programs(self) -> tuple[Program, ...]:
        """Every program, in the order in which they start."""
        return (*self.steps, self.worker)


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
