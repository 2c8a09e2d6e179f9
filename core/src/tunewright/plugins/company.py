"""Company-wide plugins, found without an import: every job asks for them, and must not import all plugins for that."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from importlib.metadata import EntryPoint
from pathlib import Path

_LINE = re.compile(r"^[ \t]*always\b[^=\n]*=[ \t]*True\b", re.MULTILINE)


def says_always(point: EntryPoint) -> bool:
    """Return whether the module of an entry point has the line `always = True`."""
    with contextlib.suppress(Exception):  # a module that is not there, or not to be read, is reported when it is loaded
        file = _file(point.value.partition(":")[0].partition("[")[0].strip())
        return file is not None and _LINE.search(file.read_text("utf-8", errors="replace")) is not None
    return False


def _file(module: str) -> Path | None:
    """Return the file of a module; its parent packages are not imported, as `find_spec` would."""
    package, *rest = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not rest:
        return Path(spec.origin) if spec and spec.origin else None
    for folder in spec.submodule_search_locations or ():
        beside = Path(folder, *rest)
        for file in (beside / "__init__.py", beside.with_name(f"{beside.name}.py")):
            if file.is_file():
                return file
    return None
