"""The settings of `run`, from its environment."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Settings(NamedTuple):
    """The settings of `run`.

    Attributes:
        output: the output folder, which also holds the attempts and the seconds used; None if there is none.
        run: the pod's own scratch folder, which holds the verdict; None if there is none.
        termination_log: file for the termination message; None if there is none.
        max_restarts: how often a crashed command is restarted without a new checkpoint.
        deadline: seconds that the job may run, over all starts.
        grace: seconds that a terminated command has to end.
        linger: seconds for which this worker stays once its command has succeeded.
        parent: `run` ends when this process is no longer its parent.
        worker: name of this worker, unique among those that share the output folder.
    """

    output: Path | None
    run: Path | None
    termination_log: Path | None
    max_restarts: int
    deadline: float | None
    grace: float
    linger: float
    parent: int | None
    worker: str

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Settings:
        """Read the environment.

        Raises:
            ValueError: a variable that should be a number is not one.
        """
        workspace, run = env.get("TUNEWRIGHT_WORKSPACE"), env.get("TUNEWRIGHT_RUN")
        log = Path(env.get("TUNEWRIGHT_TERMINATION_LOG") or "/dev/termination-log")
        deadline = number(env, "TUNEWRIGHT_DEADLINE", math.inf)
        return cls(
            output=Path(workspace, "output") if workspace else None,
            run=Path(run) if run else None,
            termination_log=log if env.get("TUNEWRIGHT_TERMINATION_LOG") or log.exists() else None,
            max_restarts=int(number(env, "TUNEWRIGHT_MAX_RESTARTS", 3)),
            deadline=deadline if math.isfinite(deadline) else None,
            grace=number(env, "TUNEWRIGHT_GRACE", 25),
            linger=0 if worker_in(env).endswith("-0") else number(env, "TUNEWRIGHT_LINGER", 0),
            parent=parent_in(env),
            worker=worker_in(env),
        )


def parent_in(env: Mapping[str, str]) -> int | None:
    """Return the process that a step must not outlive, if the environment names one."""
    return int(number(env, "TUNEWRIGHT_PARENT", 0)) or None


def worker_in(env: Mapping[str, str]) -> str:
    """Return the name of this worker among those that share a volume, as part of a file name."""
    return re.sub(r"[^\w.-]", "_", env.get("TUNEWRIGHT_WORKER") or env.get("HOSTNAME") or "0")


def number(env: Mapping[str, str], name: str, default: float) -> float:
    """Return a variable as a number.

    Raises:
        ValueError: it is not a number.
    """
    try:
        return float(env.get(name) or default)
    except ValueError:
        raise ValueError(f"{name}={env[name]!r} is not a number") from None
