"""The backend `job`: plans become Indexed Jobs (batch/v1), which any cluster runs without an operator."""

from __future__ import annotations

from typing import ClassVar

from tunewright._markers import hookimpl
from tunewright.backends.base import Backend
from tunewright.backends.job.kind import IndexedJob
from tunewright.backends.kubernetes.backend import KubernetesBackend
from tunewright.backends.kubernetes.kind import JobKind

__all__ = ["IndexedJobBackend"]


class IndexedJobBackend(KubernetesBackend):
    """Runs jobs as Indexed Jobs of Kubernetes itself."""

    kind: ClassVar[JobKind] = IndexedJob()


@hookimpl
def tunewright_backend() -> type[Backend]:
    return IndexedJobBackend
