"""The images that the steps of a job run in unless a plugin or the user names others. Tags are pinned to the release.

They are looked for where $TUNEWRIGHT_IMAGES says, `registry.example/ml`, or else where they are published.
"""

from __future__ import annotations

from tunewright.environment import IMAGES, user_variable

VERSION = "0.1.0"

_REPOSITORY = "docker.io/tunewright"

BUNDLED = frozenset({"tunewright", "tunewright-hf", "tunewright-s3", "tunewright-kaggle", "tunewright-gitlfs"})
"""The distributions that these images hold; any other plugin is pip-installed when the pod starts."""


def storage() -> str:
    """The image for what needs no torch: fetching, and installing plugins."""
    return _image("storage")


def trainer(*, gpus: int) -> str:
    """The trainer image for a container with that many GPUs."""
    return _image("trainer-cuda" if gpus else "trainer-cpu")


def _image(name: str) -> str:
    repository = user_variable(IMAGES) or _REPOSITORY
    return f"{repository.rstrip('/')}/{name}:{VERSION}"
