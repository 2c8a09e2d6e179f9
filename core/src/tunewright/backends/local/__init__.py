"""The `local` backend: run the same plan on this machine, as processes that share a folder in place of the volume."""

from __future__ import annotations

from tunewright._markers import hookimpl
from tunewright.backends.base import Backend
from tunewright.backends.local.backend import LocalBackend

__all__ = ["LocalBackend"]


@hookimpl
def tunewright_backend() -> type[Backend]:
    return LocalBackend
