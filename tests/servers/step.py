"""The environment that a backend gives to an init container's step, for tests that run one as a process."""

import os
from pathlib import Path


def step_environment(folder: Path, workspace: Path, *, retry_for: int = 20) -> dict[str, str]:
    """Make the folders of a pod, and name them; this process's own variables come along.

    Args:
        folder: of the pod: its configuration, its scratch folder and its termination message.
        workspace: the volume, which several pods may share.
        retry_for: seconds.
    """
    for path in (folder / "config", folder / "run", workspace):
        path.mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        "TUNEWRIGHT_WORKSPACE": str(workspace),
        "TUNEWRIGHT_CONFIG": str(folder / "config"),
        "TUNEWRIGHT_RUN": str(folder / "run"),
        "TUNEWRIGHT_TERMINATION_LOG": str(folder / "termination-log"),
        "TUNEWRIGHT_RETRY_FOR": str(retry_for),
        "TUNEWRIGHT_FETCH_STALL": "2",
    }
