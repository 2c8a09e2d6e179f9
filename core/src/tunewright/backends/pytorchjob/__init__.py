"""The backend `kubernetes`: plans become PyTorchJobs of the Kubeflow training-operator (kubeflow.org/v1)."""

from __future__ import annotations

from tunewright._markers import hookimpl
from tunewright.backends.base import Backend
from tunewright.backends.kubernetes.backend import PyTorchJobBackend
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


@hookimpl
def tunewright_backend() -> type[Backend]:
    return PyTorchJobBackend
