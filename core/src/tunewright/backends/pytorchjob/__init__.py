"""The backend `kubernetes`: plans become PyTorchJobs of the Kubeflow training-operator (kubeflow.org/v1)."""

from __future__ import annotations

from typing import ClassVar

from tunewright._markers import hookimpl
from tunewright.backends.base import Backend
from tunewright.backends.kubernetes.backend import KubernetesBackend
from tunewright.backends.kubernetes.failures import (
    ClusterError,
    Forbidden,
    NameTaken,
    NotInstalled,
    NotLoggedIn,
    OperatorDown,
    QuotaExceeded,
    Refused,
    Unavailable,
)
from tunewright.backends.kubernetes.kind import JobKind
from tunewright.backends.pytorchjob.kind import PyTorchJob

__all__ = [
    "ClusterError",
    "Forbidden",
    "NameTaken",
    "NotInstalled",
    "NotLoggedIn",
    "OperatorDown",
    "PyTorchJobBackend",
    "QuotaExceeded",
    "Refused",
    "Unavailable",
]


class PyTorchJobBackend(KubernetesBackend):
    """Runs jobs as PyTorchJobs of the Kubeflow training-operator."""

    kind: ClassVar[JobKind] = PyTorchJob()


@hookimpl
def tunewright_backend() -> type[Backend]:
    return PyTorchJobBackend
