"""The backend `trainjob`: plans become TrainJobs of Kubeflow Trainer 2 (trainer.kubeflow.org/v1alpha1)."""

from __future__ import annotations

from typing import ClassVar

from tunewright._markers import hookimpl
from tunewright.backends.base import Backend
from tunewright.backends.kubernetes.backend import KubernetesBackend
from tunewright.backends.kubernetes.kind import JobKind
from tunewright.backends.trainjob.kind import TrainJob

__all__ = ["TrainJobBackend"]


class TrainJobBackend(KubernetesBackend):
    """Runs jobs as TrainJobs of Kubeflow Trainer 2, each with a TrainingRuntime of its own."""

    kind: ClassVar[JobKind] = TrainJob()


@hookimpl
def tunewright_backend() -> type[Backend]:
    return TrainJobBackend
