"""Every environment variable that Tunewright reads or sets, and the names of the slots.

A backend sets the variables of `Paths` in each container, so that commands and plugins need not hard-code any path.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import attrs

from tunewright._convert import to_dict

# Variables of the client.
STATE_HOME = "TUNEWRIGHT_HOME"
IMAGES = "TUNEWRIGHT_IMAGES"
CACHE = "TUNEWRIGHT_CACHE"
"""The folder of what jobs on this machine have fetched, for the client and for its steps; "off" for none."""
HUB_CACHE = "TUNEWRIGHT_HUB_CACHE"
"""The cache of huggingface_hub from which steps may take files; the local backend sets it."""

SETTINGS = {
    "backend": "TUNEWRIGHT_BACKEND",
    "kind": "TUNEWRIGHT_KIND",
    "namespace": "TUNEWRIGHT_NAMESPACE",
    "context": "TUNEWRIGHT_CONTEXT",
}
"""What every command has a default for → the variable that sets it, ahead of the file of `tunewright config`."""

# Variables of the containers, set by the plan.
MAX_RESTARTS = "TUNEWRIGHT_MAX_RESTARTS"
DEADLINE = "TUNEWRIGHT_DEADLINE"
OUTPUT = "TUNEWRIGHT_OUTPUT"
UPLOAD_CHECKPOINTS = "TUNEWRIGHT_UPLOAD_CHECKPOINTS"
WORLD_SIZE = "TUNEWRIGHT_WORLD_SIZE"
SECRETS = "TUNEWRIGHT_SECRETS"
_FETCH = "fetch-"
_SLOT = "TUNEWRIGHT_SLOT_"

# Variables of the containers, set by the backend.
WORKSPACE = "TUNEWRIGHT_WORKSPACE"
CONFIG = "TUNEWRIGHT_CONFIG"
RUN = "TUNEWRIGHT_RUN"
TERMINATION_LOG = "TUNEWRIGHT_TERMINATION_LOG"
PACKAGES = "TUNEWRIGHT_PACKAGES"
WORKER = "TUNEWRIGHT_WORKER"
GRACE = "TUNEWRIGHT_GRACE"
METRICS_PORT = "TUNEWRIGHT_METRICS_PORT"
"""The port on which rank 0 of a training serves its numbers to Prometheus; set by users."""
JOB_OBJECT = "TUNEWRIGHT_JOB_OBJECT"
"""The path of the job in Kubernetes' API, with `{namespace}` in it, where rank 0 may write its progress there."""
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""The folder of a pod's ServiceAccount: its token, its namespace, and the certificate of the API server."""
LINGER = "TUNEWRIGHT_LINGER"
"""Seconds for which the workers after the first stay once they have succeeded, where the first success ends the job."""
PARENT = "TUNEWRIGHT_PARENT"
"""The process that a step must not outlive, where nothing else ends it."""
CHECK_BY_RANK = "TUNEWRIGHT_CHECK_BY_RANK"
"""Whether the first rank checks the job before it trains, as its libraries take longer to import than to check with."""
IMPORTED = "TUNEWRIGHT_IMPORTED"
"""Whether the process that a rank was forked from has imported the trainer's libraries."""

LAUNCHERS_OWN = r"(PET|TORCHELASTIC)_.*|MASTER_(ADDR|PORT)|((LOCAL|GROUP|ROLE)_)?(RANK|WORLD_SIZE)|ROLE_NAME"
"""The variables that torchrun and its like read, or set for each rank."""

INPUT_SLOTS = ("model", "adapter", "dataset", "eval_dataset")
_MODEL_SLOTS = ("model", "adapter", "output")
OUTPUT_SLOT = "output"
_MIXTURE_SLOT = re.compile(r"dataset_[1-9][0-9]*")


def mixture_slot(number: int) -> str:
    """Return the slot of one of a mixture's datasets, counted from 1."""
    return f"dataset_{number}"


def is_input_slot(name: str) -> bool:
    """Return whether a slot holds an input: those of INPUT_SLOTS, and `dataset_1`, `dataset_2`, … of a mixture."""
    return name in INPUT_SLOTS or _MIXTURE_SLOT.fullmatch(name) is not None


def kind_of_slot(slot: str) -> str:
    """Return the kind of provider that fills a slot or, for the output, receives it."""
    if slot in _MODEL_SLOTS:
        return "model"
    return "dataset" if is_input_slot(slot) else slot


def fetch_container(slot: str) -> str:
    """Return the name of the init container that downloads an input."""
    return f"{_FETCH}{slot.replace('_', '-')}"


def is_fetch_container(name: str) -> bool:
    """Return whether a container is one of `fetch_container`."""
    return name.startswith(_FETCH)


def slot_variable(slot: str) -> str:
    """Return the variable that holds the folder of a slot outside the workspace."""
    return f"{_SLOT}{slot.upper()}"


def is_slot_variable(name: str) -> bool:
    """Return whether a variable is one of `slot_variable`."""
    return name.startswith(_SLOT)


@attrs.frozen(kw_only=True)
class Paths:
    """The paths in a container.

    Attributes:
        workspace: folder of the slots: model/, adapter/, dataset/ (or dataset_1/, … of a mixture), eval_dataset/, output/.
        elsewhere: folders of the slots that the plan places outside the workspace: slot → folder.
        config: read-only folder of the job's configuration files.
        run: scratch folder of the pod, where a verdict is written.
        packages: folder of the packages installed with pip when the pod starts; on PYTHONPATH.
        termination_log: file for the cause of a failure, which Kubernetes shows in the pod's status.
    """

    workspace: Path = attrs.field(converter=Path)
    config: Path = attrs.field(converter=Path)
    run: Path = attrs.field(converter=Path)
    packages: Path = attrs.field(converter=Path)
    termination_log: Path = attrs.field(converter=Path)
    elsewhere: Mapping[str, Path] = attrs.field(factory=dict, converter=to_dict)

    def slot(self, name: str) -> Path:
        """Return the folder of a slot: "model", "adapter", "dataset", "dataset_1", "eval_dataset" or "output"."""
        return self.elsewhere.get(name, self.workspace / name)

    def to_env(self) -> dict[str, str]:
        """Return the variables that `read` reads, except for those of the plan.

        PYTHONPATH is not among them: the backend must set it.
        """
        return {variable: str(getattr(self, field)) for field, variable in _PATHS.items()}

    @classmethod
    def read(cls, env: Mapping[str, str] = os.environ) -> Paths:
        """Read the paths from the environment variables of the container.

        Raises:
            KeyError: the backend did not set one of the variables.
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
    """Return the folder of the local backend's jobs: $TUNEWRIGHT_HOME, or the user's state folder by default."""
    if given := os.environ.get(STATE_HOME):
        return Path(given).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_state_dir("tunewright", appauthor=False))


def cache_home() -> Path | None:
    """Return the folder of what the jobs of the local backend share: $TUNEWRIGHT_CACHE, or `cache` in the state folder.

    None if that is "off".
    """
    given = os.environ.get(CACHE)
    if given == "off":
        return None
    return Path(given).expanduser().absolute() if given else state_home() / "cache"


def caches(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that tell a step of this machine's caches: that of its jobs, and the user's own of huggingface_hub.

    Args:
        env: the user's environment, in which huggingface_hub finds its cache.
    """
    if (shared := cache_home()) is None:
        return {}
    home = env.get("XDG_CACHE_HOME") or str(Path(env.get("HOME") or Path.home(), ".cache"))
    hub = env.get("HF_HUB_CACHE") or str(Path(env.get("HF_HOME") or Path(home, "huggingface"), "hub"))
    return {CACHE: str(shared), HUB_CACHE: str(Path(hub).expanduser())}


def in_any_folder(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment whose folders of ours and of huggingface_hub are the same ones for a process in another folder."""
    names = (STATE_HOME, CACHE, "HF_HOME", "HF_HUB_CACHE")
    given = {name: value for name in names if (value := env.get(name)) and value != "off"}
    return {**env, **{name: str(Path(value).expanduser().absolute()) for name, value in given.items()}}


def user_variable(name: str) -> str | None:
    """Return an environment variable that the user named, or None if it is not set."""
    return os.environ.get(name)


def settings_file() -> Path:
    """Return the path of the file in which `tunewright config` keeps the user's defaults."""
    return state_home() / "config.json"


def saved_settings() -> dict[str, str]:
    """Return the user's defaults: name → value. A file that is missing or damaged has none."""
    try:
        found = json.loads(settings_file().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in found.items() if k in SETTINGS and isinstance(v, str)} if isinstance(found, dict) else {}


def user_setting(name: str) -> str | None:
    """Return the user's default for a setting: that of the environment, or else the saved one; None if there is neither."""
    return os.environ.get(SETTINGS[name]) or saved_settings().get(name)
