"""The page's own files: style and script. They are modules of JavaScript, without a build step and without libraries."""

from __future__ import annotations

import functools
import re
from importlib import resources

MODULES = ("dom.js", "format.js", "chart.js", "parts.js", "job.js", "compare.js", "list.js", "log.js")
"""The modules that both pages use, each after those that it imports."""

ENTRIES = ("frozen.js", "live.js")

FILES = (*MODULES, *ENTRIES, "page.css")

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./[a-z]+\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=function|const|class)", re.MULTILINE)


@functools.cache
def text(name: str) -> str:
    """Return the text of a file."""
    return resources.files(__name__).joinpath(name).read_text("utf-8")


def style() -> str:
    """Return the style sheet."""
    return text("page.css")


def script(entry: str) -> str:
    """Return an entry and its modules as one script, for a file that cannot import others."""
    parts = [_EXPORT.sub("", _IMPORT.sub("", text(name))) for name in (*MODULES, entry)]
    return f'(function () {{\n"use strict";\n{"".join(parts)}}})();\n'
