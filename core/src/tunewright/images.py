"""The images that the steps of a job run in unless a plugin or the user names others. Tags are pinned to the release."""

from __future__ import annotations

VERSION = "0.1.0"
_REPOSITORY = "docker.io/tunewright"

STORAGE = f"{_REPOSITORY}/storage:{VERSION}"
TRAINER_CPU = f"{_REPOSITORY}/trainer-cpu:{VERSION}"
TRAINER_CUDA = f"{_REPOSITORY}/trainer-cuda:{VERSION}"

BUNDLED = frozenset({"tunewright", "tunewright-hf", "tunewright-s3", "tunewright-kaggle", "tunewright-gitlfs"})
"""The distributions that these images hold; any other plugin is pip-installed when the pod starts."""


def trainer(*, gpus: int) -> str:
    """The trainer image for a container with that many GPUs."""
    return TRAINER_CUDA if gpus else TRAINER_CPU
