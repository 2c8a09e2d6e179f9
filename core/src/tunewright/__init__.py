"""Fine-tune LLMs on your own Kubernetes, or on a laptop, with one call.

    from tunewright import TrainingClient

    TrainingClient().train(model="hf://org/name", dataset="s3://bucket/prefix", trainer="hf")

Names are imported on first use, so that `import tunewright` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunewright._client.client import TrainingClient
    from tunewright._client.job import Job
    from tunewright._markers import hookimpl
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
    from tunewright.plan.manifests import Manifests
    from tunewright.plan.plan import ContainerSpec, JobPlan, Mount
    from tunewright.plan.resources import Resources
    from tunewright.plan.secrets import SecretRef, SecretValue
    from tunewright.providers.base import DatasetProvider, ModelProvider, TrainerProvider, TrainRun
    from tunewright.providers.fields import secret
    from tunewright.request.request import CodeRequest, Request, TrainRequest
    from tunewright.request.storage import Storage
    from tunewright.status.state import JobState
    from tunewright.status.status import JobStatus

_HOME = {
    "_client.client": ["TrainingClient"],
    "_client.job": ["Job"],
    "_markers": ["hookimpl"],
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
    "plan.manifests": ["Manifests"],
    "plan.plan": ["ContainerSpec", "JobPlan", "Mount"],
    "plan.resources": ["Resources"],
    "plan.secrets": ["SecretRef", "SecretValue"],
    "providers.base": ["DatasetProvider", "ModelProvider", "TrainRun", "TrainerProvider"],
    "providers.fields": ["secret"],
    "request.request": ["CodeRequest", "Request", "TrainRequest"],
    "request.storage": ["Storage"],
    "status.state": ["JobState"],
    "status.status": ["JobStatus"],
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "CodeRequest",
    "ContainerSpec",
    "DatasetProvider",
    "ExitCode",
    "FetchError",
    "Job",
    "JobError",
    "JobPlan",
    "JobState",
    "JobStatus",
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
    "TrainRequest",
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


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
