"""The libraries that providers need where they run, as the extras of their distributions declare them."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Iterable

import attrs

from tunewright.errors import RequestError

_NEED = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?[^;]*(?:;(?P<marker>.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*["'](?P<extra>[^"']+)["']""")


@attrs.frozen
class Missing:
    """What one provider lacks in this Python environment.

    Attributes:
        about: the argument that it was given for: "trainer".
        dist: its distribution.
        extra: the extra that declares what it needs.
        libraries: the distributions that are not installed.
    """

    about: str
    dist: str
    extra: str
    libraries: tuple[str, ...]

    @property
    def text(self) -> str:
        """What is missing, as a clause."""
        are = "which is" if len(self.libraries) == 1 else "which are"
        return f"needs {', '.join(self.libraries)}, {are} not installed in this Python environment"


def missing(about: str, dist: str, extra: str | None) -> Missing | None:
    """Return what a provider lacks here; None if it has all that its extra declares, or declares nothing."""
    if extra is None:
        return None
    try:
        needs = importlib.metadata.requires(dist) or ()
    except importlib.metadata.PackageNotFoundError:
        return None
    lacking = tuple(name for name in map(_name_for(extra), needs) if name and not _is_installed(name))
    return Missing(about, dist, extra, lacking) if lacking else None


def command(found: Iterable[Missing]) -> str:
    """Return the one command that installs all of it."""
    extras: dict[str, set[str]] = {}
    for item in found:
        extras.setdefault(item.dist, set()).add(item.extra)
    return "pip install " + " ".join(f"'{dist}[{','.join(sorted(names))}]'" for dist, names in extras.items())


def refuse_missing(found: Iterable[Missing]) -> None:
    """Refuse a job on this machine whose steps would fail for lack of a library.

    Raises:
        RequestError: something is missing; the remedy is one command.
    """
    all_of_it = list(found)
    if all_of_it:
        first = all_of_it[0]
        raise RequestError(first.text, field=first.about, remedy=f"Install it: {command(all_of_it)}")


def _name_for(extra: str) -> Callable[[str], str | None]:
    def name(need: str) -> str | None:
        found = _NEED.match(need)
        marker = _EXTRA.search(found["marker"] or "") if found else None
        return found["name"] if found and marker and marker["extra"] == extra else None

    return name


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
