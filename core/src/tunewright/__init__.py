"""Fine-tune LLMs on your own Kubernetes, or on a laptop, with one call.

    from tunewright import TrainingClient

    TrainingClient().train(model="hf://org/name", dataset="s3://bucket/prefix", trainer="hf")

Names are imported on first use, so that `import tunewright` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

# Not on first use: by then the import of its module, which has the same name, would stand in its place.
from tunewright.secret import secret

if TYPE_CHECKING:
    from tunewright.client import TrainingClient
    from tunewright.errors import (
        ExitCode,
        FetchError,
        JobError,
        PluginConflict,
        PluginError,
        PluginLoadError,
        PluginNotFound,
        RequestError,
        TunewrightError,
    )
    from tunewright.hookspecs import hookimpl
    from tunewright.job import Job, JobState
    from tunewright.manifests import Manifests
    from tunewright.providers import DatasetProvider, ModelProvider, TrainerProvider, TrainRun
    from tunewright.request import Request
    from tunewright.secret import SecretRef, SecretValue
    from tunewright.specs import ContainerSpec, JobPlan, Mount, Resources
    from tunewright.storage import Storage

_HOME = {
    "client": ["TrainingClient"],
    "errors": [
        "ExitCode",
        "FetchError",
        "JobError",
        "PluginConflict",
        "PluginError",
        "PluginLoadError",
        "PluginNotFound",
        "RequestError",
        "TunewrightError",
    ],
    "hookspecs": ["hookimpl"],
    "job": ["Job", "JobState"],
    "manifests": ["Manifests"],
    "providers": ["DatasetProvider", "ModelProvider", "TrainRun", "TrainerProvider"],
    "request": ["Request"],
    "secret": ["SecretRef", "SecretValue"],
    "specs": ["ContainerSpec", "JobPlan", "Mount", "Resources"],
    "storage": ["Storage"],
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "ContainerSpec",
    "DatasetProvider",
    "ExitCode",
    "FetchError",
    "Job",
    "JobError",
    "JobPlan",
    "JobState",
    "Manifests",
    "ModelProvider",
    "Mount",
    "PluginConflict",
    "PluginError",
    "PluginLoadError",
    "PluginNotFound",
    "Request",
    "RequestError",
    "Resources",
    "SecretRef",
    "SecretValue",
    "Storage",
    "TrainRun",
    "TrainerProvider",
    "TrainingClient",
    "TunewrightError",
    "hookimpl",
    "secret",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE[name]}"), name)
    globals()[name] = value
    return value
