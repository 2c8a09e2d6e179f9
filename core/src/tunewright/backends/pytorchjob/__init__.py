"""The backend `kubernetes`: plans become PyTorchJobs of the Kubeflow training-operator (kubeflow.org/v1)."""

from __future__ import annotations

from tunewright.backends import Backend
from tunewright.backends.pytorchjob.backend import PyTorchJobBackend
from tunewright.backends.pytorchjob.failures import (
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
from tunewright.hookspecs import hookimpl

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
