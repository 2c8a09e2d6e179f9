"""`tunewright new-plugin NAME`: create a starter plugin, which installs and passes its own tests."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

import attrs

from tunewright.errors import RequestError
from tunewright.plan.images import VERSION

_NAME = re.compile(r"[a-z][a-z0-9]*")
_SERVICE = ("service/service.py", "tests/service.py")


@attrs.frozen(kw_only=True)
class _Kind:
    """What is written for a kind of plugin.

    Attributes:
        about: a line about it, for the command's help.
        description: of the distribution.
        usage: how to use it, for its README.
        files: template → file, both without those that all kinds have.
    """

    about: str
    description: str
    usage: str
    files: Mapping[str, str]


def _files(kind: str, *modules: str, service: bool = False) -> dict[str, str]:
    own = {f"{kind}/{module}.py": f"src/tunewright_$name/{module}.py" for module in ("__init__", *modules)}
    return {**own, f"{kind}/test.py": "tests/test_$name.py", **(dict([_SERVICE]) if service else {})}


KINDS: Mapping[str, _Kind] = {
    "source": _Kind(
        about="models and datasets, downloaded by the fetch engine",
        description="$name:// models and datasets for Tunewright",
        usage="Then write `model: $name://…` or `dataset: $name://…` in a job file.",
        files=_files("source", "container", service=True),
    ),
    "download": _Kind(
        about="datasets, downloaded by a library of the service's own",
        description="$name:// datasets for Tunewright",
        usage="Then write `dataset: $name://…` in a job file.",
        files=_files("download", "container", service=True),
    ),
    "output": _Kind(
        about="models that are downloaded, and results that are uploaded",
        description="$name:// models and outputs for Tunewright",
        usage="Then write `model: $name://…` or `output: $name://…` in a job file.",
        files=_files("output", "container", "store", service=True),
    ),
    "trainer": _Kind(
        about="a trainer",
        description="The trainer $name for Tunewright",
        usage="Then write `trainer: $name` in a job file.",
        files=_files("trainer", "container"),
    ),
    "backend": _Kind(
        about="a backend",
        description="The backend $name for Tunewright",
        usage="Then give `--backend $name` to commands, or set it: `tunewright config backend $name`.",
        files=_files("backend"),
    ),
    "plan": _Kind(
        about="changes to the plan of every job",
        description="What every job of Tunewright gets here",
        usage="Where it is installed, it changes the plan of every job; `tunewright plugins` shows it.",
        files=_files("plan"),
    ),
}


def new_plugin(name: str, parent: Path, kind: str = "source") -> Path:
    """Create the folder `tunewright-<name>` with a starter plugin.

    Args:
        name: name of the plugin, which becomes its URI scheme.
        parent: where to create the folder.
        kind: one of KINDS.

    Returns:
        The new folder.

    Raises:
        RequestError: the name is not a valid URI scheme, or the folder exists.
    """
    if not _NAME.fullmatch(name):
        remedy = "Use lowercase letters and digits, starting with a letter: the name becomes the URI scheme."
        raise RequestError("is not a valid plugin name", field="NAME", value=name, remedy=remedy)
    folder = parent / f"tunewright-{name}"
    if folder.exists():
        raise RequestError(
            "already exists", field="folder", value=str(folder), remedy="Choose another name, or remove the folder."
        )
    for path, text in _rendered(name, KINDS[kind]).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    return folder


def _rendered(name: str, kind: _Kind) -> dict[str, str]:
    """Return the files: path → text."""
    words = {"name": name, "title": name.title(), "upper": name.upper(), "range": _range()}
    words |= {key: Template(getattr(kind, key)).substitute(words) for key in ("description", "usage")}
    common = {f"common/{file}": file for file in ("pyproject.toml", "README.md")}
    templates = importlib.resources.files("tunewright.cli") / "templates"
    return {
        Template(path).substitute(words): Template((templates / f"{template}.txt").read_text("utf-8")).substitute(words)
        for template, path in {**common, **kind.files}.items()
    }


def _range() -> str:
    """Return the versions of Tunewright that the plugin works with: until 1.0, those of one minor version."""
    major, minor, *_ = VERSION.split(".")
    return f">={major}.{minor},<{major}.{int(minor) + 1}"
