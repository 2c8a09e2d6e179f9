"""Plugins: the hooks that they implement, and the registry that finds them.

Everything exported here is public. The docstrings of `tunewright.plugins.hookspecs` are the contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunewright._lazy import lazy_names

if TYPE_CHECKING:
    from tunewright._markers import hookimpl
    from tunewright.plugins.kinds import Kind
    from tunewright.plugins.registry import Plugin, Registry

__all__ = [
    "Kind",
    "Plugin",
    "Registry",
    "hookimpl",
]

__getattr__ = lazy_names(
    __name__,
    {
        "tunewright._markers": ["hookimpl"],
        "tunewright.plugins.kinds": ["Kind"],
        "tunewright.plugins.registry": ["Plugin", "Registry"],
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
