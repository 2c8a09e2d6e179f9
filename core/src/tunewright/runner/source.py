"""The text of `run` as one file, for images that hold nothing of Tunewright. Not a part of that file."""

from __future__ import annotations

import functools
import re
from importlib import resources

MODULES = (
    "files",
    "verdicts",
    "settings",
    "checkpoints",
    "attempts",
    "watch",
    "cpus",
    "processes",
    "messages",
    "install",
    "command",
)
"""In the order in which they use each other."""

_FUTURE = "from __future__ import annotations\n"
# What one module has of another is in the same file.
_FROM_EACH_OTHER = re.compile(r"^from tunewright\.runner\.\w+ import (\(.*?\)|[^\n]*)\n", re.MULTILINE | re.DOTALL)


@functools.cache
def runner_source() -> str:
    """The modules one after another, without what they import from each other."""
    return _FUTURE + "".join(_FROM_EACH_OTHER.sub("", module_source(name)).replace(_FUTURE, "") for name in MODULES)


def module_source(name: str) -> str:
    """The text of one module."""
    return resources.files("tunewright.runner").joinpath(f"{name}.py").read_text("utf-8")
