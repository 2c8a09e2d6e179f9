"""The plugins: the hooks that they implement, and the registry that finds them.

Everything that is exported here is public. The docstrings of `tunewright.plugins.hookspecs` are the contract.
"""

from __future__ import annotations

from tunewright._markers import hookimpl
from tunewright.plugins.registry import Kind, Plugin, Registry

__all__ = [
    "Kind",
    "Plugin",
    "Registry",
    "hookimpl",
]
