"""`tunewright fetch`: what an init container does, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from tunewright._planning import selection
from tunewright._planning.assemble import document_of
from tunewright._views.follow import view_for
from tunewright.errors import FetchError, RequestError
from tunewright.events import Event
from tunewright.plugins.registry import Registry
from tunewright.status.summary import Summary

_RETRY_FOR = 600.0


def fetch_by_hand(uri: str, folder: Path, kind: Literal["model", "dataset"], *, as_json: bool) -> None:
    """Fetch into FOLDER/model or FOLDER/dataset, with the checks and the patience of an init container.

    Raises:
        RequestError: the URI cannot be fetched, or the launcher is not installed; nothing was created.
        PluginError: the URI's plugin is missing or broken.
        FetchError: it cannot be fetched.
    """
    try:
        from tunewright_launcher.fetch import fetch_into
        from tunewright_launcher.retry import retry
    except ImportError as error:
        remedy = "Install it: pip install 'tunewright[local]'"
        raise RequestError("needs tunewright-launcher, which is not installed", field="fetch", remedy=remedy) from error
    select = selection.select_model if kind == "model" else selection.select_dataset
    selected = select(Registry(), uri, Path.cwd())
    document = document_of(kind, selected.plugin, selected.provider)
    summary, view = Summary(), view_for("json" if as_json else "auto")

    def emit(event: Event) -> None:
        summary.add(event)
        view.show(event, summary)

    def say(error: FetchError, pause: float) -> None:
        click.echo(f"{error.cause} Trying again in {pause:.0f} s.", err=True)

    def work() -> None:
        fetch_into(selected.provider, document, folder, kind, emit)

    with view:
        retry(work, _RETRY_FOR, say)
    if not as_json:
        click.echo(f"It is in {folder / kind}")
