"""The source of `run` as one file, for images without Tunewright. This module is not part of that file."""

from __future__ import annotations

import functools
import re
from importlib import resources

MODULES = (
    "files",
    "failure",
    "verdicts",
    "settings",
    "checkpoints",
    "attempts",
    "watch",
    "cpus",
    "messages",
    "processes",
    "install",
    "command",
)
"""In order: each uses only those before it."""

_FUTURE = "from __future__ import annotations\n"
# What one module imports from another is in the same file.
_FROM_EACH_OTHER = re.compile(r"^from tunewright\.runner\.\w+ import (\(.*?\)|[^\n]*)\n", re.MULTILINE | re.DOTALL)


@functools.cache
def runner_source() -> str:
    """Return the modules one after another, without their imports from each other."""
    return _FUTURE + "".join(_FROM_EACH_OTHER.sub("", module_source(name)).replace(_FUTURE, "") for name in MODULES)


def module_source(name: str) -> str:
    """Return the source of one module."""
    return resources.files("tunewright.runner").joinpath(f"{name}.py").read_text("utf-8")
