"""The backend `kubernetes`: jobs of whatever kind the cluster can run, looked up once when a job is submitted."""

from __future__ import annotations

from tunewright._markers import hookimpl
from tunewright.backends.any_kind.backend import AnyKindBackend
from tunewright.backends.base import Backend

__all__ = ["AnyKindBackend"]


@hookimpl
def tunewright_backend() -> type[Backend]:
    return AnyKindBackend
