"""The environment: every variable that Tunewright reads or sets, and the names of the slots, in one place.

A backend gives each container the variables of `Paths`; commands and plugins never spell out a path.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import attrs

from tunewright._convert import to_dict

# On the client.
STATE_HOME = "TUNEWRIGHT_HOME"
IMAGES = "TUNEWRIGHT_IMAGES"

# In the containers, set by the plan.
MAX_RESTARTS = "TUNEWRIGHT_MAX_RESTARTS"
DEADLINE = "TUNEWRIGHT_DEADLINE"
OUTPUT = "TUNEWRIGHT_OUTPUT"
UPLOAD_CHECKPOINTS = "TUNEWRIGHT_UPLOAD_CHECKPOINTS"
WORLD_SIZE = "TUNEWRIGHT_WORLD_SIZE"
SECRETS = "TUNEWRIGHT_SECRETS"
_SLOT = "TUNEWRIGHT_SLOT_"

# In the containers, set by the backend.
WORKSPACE = "TUNEWRIGHT_WORKSPACE"
CONFIG = "TUNEWRIGHT_CONFIG"
RUN = "TUNEWRIGHT_RUN"
TERMINATION_LOG = "TUNEWRIGHT_TERMINATION_LOG"
PACKAGES = "TUNEWRIGHT_PACKAGES"
WORKER = "TUNEWRIGHT_WORKER"
GRACE = "TUNEWRIGHT_GRACE"

INPUT_SLOTS = ("model", "dataset", "eval_dataset")
OUTPUT_SLOT = "output"
KIND_OF_SLOT = {"model": "model", "dataset": "dataset", "eval_dataset": "dataset", "output": "model"}
"""Which kind of provider fills a slot, or takes it in."""


def slot_variable(slot: str) -> str:
    """The variable with which a plan says that a slot is not in the workspace."""
    return f"{_SLOT}{slot.upper()}"


@attrs.frozen(kw_only=True)
class Paths:
    """Where a container finds things.

    Attributes:
        workspace: holds the slots: model/, dataset/, eval_dataset/, output/.
        elsewhere: slot → its folder, of those that the plan says are not in the workspace.
        config: the job's configuration files, read-only.
        run: the pod's own scratch folder, in which a verdict is left.
        packages: what is pip-installed when the pod starts; on PYTHONPATH.
        termination_log: file for the cause of the end, which Kubernetes shows in the pod's status.
    """

    workspace: Path = attrs.field(converter=Path)
    config: Path = attrs.field(converter=Path)
    run: Path = attrs.field(converter=Path)
    packages: Path = attrs.field(converter=Path)
    termination_log: Path = attrs.field(converter=Path)
    elsewhere: Mapping[str, Path] = attrs.field(factory=dict, converter=to_dict)

    def slot(self, name: str) -> Path:
        """The folder of a slot: "model", "dataset", "eval_dataset" or "output"."""
        return self.elsewhere.get(name, self.workspace / name)

    def to_env(self) -> dict[str, str]:
        """The variables that `read` reads, but those of the plan; PYTHONPATH, which Python itself reads, is the backend's to set."""
        return {variable: str(getattr(self, field)) for field, variable in _PATHS.items()}

    @classmethod
    def read(cls, env: Mapping[str, str] = os.environ) -> Paths:
        """From the variables of the container that this process runs in.

        Raises:
            KeyError: the backend did not set one of them.
        """
        elsewhere = {k.removeprefix(_SLOT).lower(): Path(v) for k, v in env.items() if k.startswith(_SLOT)}
        return cls(**{field: env[variable] for field, variable in _PATHS.items()}, elsewhere=elsewhere)


_PATHS = {
    "workspace": WORKSPACE,
    "config": CONFIG,
    "run": RUN,
    "packages": PACKAGES,
    "termination_log": TERMINATION_LOG,
}


def state_home() -> Path:
    """Where the local backend keeps its jobs: $TUNEWRIGHT_HOME, else the user's state folder."""
    if given := os.environ.get(STATE_HOME):
        return Path(given).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_state_dir("tunewright", appauthor=False))


def user_variable(name: str) -> str | None:
    """A variable of the user's own environment, read because the user named it."""
    return os.environ.get(name)
