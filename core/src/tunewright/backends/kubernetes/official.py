"""The official client's connection, without its 700 models, which take longer to import than everything else together.

Packages are put off: they are in place, and run their code when somebody uses one of their names.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubernetes.client import ApiClient, Configuration

_CLIENT = "kubernetes.client"
_PACKAGES = ("kubernetes", _CLIENT, f"{_CLIENT}.models")

# What of the client a connection needs, in the order in which each needs the one before.
_PARTS = ("exceptions", "configuration", "rest", "api_client")

# What kubeconfigs with a login of Google's need, which kubectl no longer knows.
_LOGINS = ("google.auth", "google.auth.transport", "google.auth.transport.requests")

_lock = threading.RLock()


@attrs.frozen
class Official:
    """What is used of the package.

    Attributes:
        config: `kubernetes.config`, which reads kubeconfigs and the files of a service account.
        configuration: the class of a connection's settings.
        api_client: the class of a connection.
    """

    config: ModuleType
    configuration: Callable[[], Configuration]
    api_client: Callable[[Configuration], ApiClient]


def official() -> Official:
    """Import the part of the package that connects; the rest is imported when somebody uses it.

    Raises:
        ImportError: the package is not installed.
    """
    with _lock:
        if _PACKAGES[0] not in sys.modules:
            _put_off(_PACKAGES, _import_parts)
            _put_off(_LOGINS, lambda: None)
        client = importlib.import_module(_CLIENT)
        config = importlib.import_module("kubernetes.config")
    return Official(config, client.Configuration, client.ApiClient)


class _PutOff(ModuleType):
    """A module whose code runs when the first of its names is used. Until then parts of a package can be imported.

    `importlib.util.LazyLoader` would not do: importing a part uses the package's `__path__`, and loads it.
    """

    def __getattr__(self, name: str) -> object:
        with _lock:  # another thread waits until all names are there
            if type(self) is _PutOff:
                self._run(name)
        return getattr(self, name)

    def _run(self, name: str) -> None:
        if "_runs" in self.__dict__ or self.__spec__ is None or self.__spec__.loader is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name, obj=self)
        self.__dict__["_runs"] = True
        try:
            self.__spec__.loader.exec_module(self)
            self.__class__ = ModuleType  # type: ignore[assignment]  # mypy takes it for a module's own type
        finally:
            del self.__dict__["_runs"]


def _put_off(names: Sequence[str], prepare: Callable[[], None]) -> None:
    """Put off modules, parents first, and prepare them; where a version does not fit, they are imported as always."""
    if names[0] in sys.modules:
        return
    try:
        for name in names:
            _put_off_module(name)
        prepare()
    except (ImportError, AttributeError):
        for name in [name for name in sys.modules if name == names[0] or name.startswith(f"{names[0]}.")]:
            del sys.modules[name]


def _put_off_module(name: str) -> None:
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"There is no module {name!r}.", name=name)
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _PutOff
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        sys.modules[parent].__dict__[child] = module


def _import_parts() -> None:
    client = sys.modules[_CLIENT]
    parts = {name: importlib.import_module(f"{_CLIENT}.{name}") for name in _PARTS}
    client.__dict__["Configuration"] = parts["configuration"].Configuration
    client.__dict__["ApiClient"] = parts["api_client"].ApiClient
