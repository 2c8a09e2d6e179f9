"""Fine-tune LLMs on your own Kubernetes, or on a laptop, with one call.

    from tunewright import TrainingClient

    TrainingClient().train(model="hf://org/name", dataset="s3://bucket/prefix", trainer="hf")

Names are imported on first use, so that `import tunewright` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunewright._lazy import lazy_names

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

__getattr__ = lazy_names(
    __name__,
    {
        "tunewright._client.client": ["TrainingClient"],
        "tunewright._client.job": ["Job"],
        "tunewright._markers": ["hookimpl"],
        "tunewright.errors": [
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
        "tunewright.plan.manifests": ["Manifests"],
        "tunewright.plan.plan": ["ContainerSpec", "JobPlan", "Mount"],
        "tunewright.plan.resources": ["Resources"],
        "tunewright.plan.secrets": ["SecretRef", "SecretValue"],
        "tunewright.providers.base": ["DatasetProvider", "ModelProvider", "TrainRun", "TrainerProvider"],
        "tunewright.providers.fields": ["secret"],
        "tunewright.request.request": ["CodeRequest", "Request", "TrainRequest"],
        "tunewright.request.storage": ["Storage"],
        "tunewright.status.state": ["JobState"],
        "tunewright.status.status": ["JobStatus"],
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
