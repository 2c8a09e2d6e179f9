"""`tunewright config`: defaults that every command uses."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

import click

from tunewright._views.text import as_json as to_line
from tunewright.cli.options import BUILT_IN_BACKEND, KINDS
from tunewright.environment import SETTINGS, saved_settings, settings_file
from tunewright.errors import RequestError, did_you_mean
from tunewright.plugins.registry import Registry
from tunewright.runner.files import write_atomically


def show(names: Iterable[str], *, as_json: bool) -> None:
    """Print each setting with its value and where that comes from."""
    for name in names:
        value, origin = _found(name)
        if as_json:
            click.echo(to_line({"setting": name, "value": value, "from": origin}))
        else:
            click.echo(f"{name + ':':<11}{value or 'not set':<16} ({origin})")


def save(name: str, value: str | None) -> None:
    """Keep a setting for every command; None forgets it.

    Raises:
        RequestError: it is not the name of a backend or of a kind, or empty.
        PluginError: no installed plugin has this name.
    """
    if value is not None and (not value or value != value.strip()):
        raise RequestError("is empty, or has spaces around it", field=name, value=value, remedy="Write a name.")
    if name == "backend" and value is not None:
        Registry().get(value).provider("backend")
    if name == "kind" and value is not None and value.lower() not in KINDS:
        raise RequestError(
            "is not a kind of job", field=name, value=value, remedy=did_you_mean(value.lower(), [*KINDS])
        )
    kept = {k: v for k, v in {**saved_settings(), name: value}.items() if v is not None}
    file = settings_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(kept, indent=1))


def _found(name: str) -> tuple[str | None, str]:
    if given := os.environ.get(SETTINGS[name]):
        return given, f"from {SETTINGS[name]}"
    if saved := saved_settings().get(name):
        return saved, "from tunewright config"
    if name == "backend":
        return BUILT_IN_BACKEND, "built-in"
    if name == "kind":
        return None, "the first that the cluster can run"
    return None, "the kubeconfig's own"
