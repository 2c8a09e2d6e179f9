"""The default images of the steps of a job, for which plugins and users may name others. Tags are pinned to the release.

$TUNEWRIGHT_IMAGES names the repository to pull them from (`registry.example/ml`); the default is where they are published.
"""

from __future__ import annotations

from tunewright.environment import IMAGES, user_variable

VERSION = "0.1.0"
_REPOSITORY = "docker.io/tunewright"

BUNDLED = frozenset(f"tunewright{suffix}" for suffix in ("", "-hf", "-s3", "-gs", "-az", "-http", "-kaggle", "-gitlfs"))
"""The distributions in these images; any other plugin is pip-installed when the pod starts."""


def storage() -> str:
    """Return the image for steps without torch: fetching, and installing plugins."""
    return _image("storage")


def trainer(*, gpus: int) -> str:
    """Return the trainer image for a container with that many GPUs."""
    return _image("trainer-cuda" if gpus else "trainer-cpu")


def _image(name: str) -> str:
    repository = user_variable(IMAGES) or _REPOSITORY
    return f"{repository.rstrip('/')}/{name}:{VERSION}"
