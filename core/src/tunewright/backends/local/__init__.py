"""The `local` backend: runs the very same plan on this machine, as processes in a folder that stands for the volume."""

from __future__ import annotations

from tunewright.backends import Backend
from tunewright.backends.local.backend import LocalBackend
from tunewright.hookspecs import hookimpl

__all__ = ["LocalBackend"]


@hookimpl
def tunewright_backend() -> type[Backend]:
    return LocalBackend
