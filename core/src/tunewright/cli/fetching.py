"""`tunewright fetch`: the init container's fetch step, run by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from tunewright._planning import selection
from tunewright.cli.steps import document, run_step
from tunewright.plugins.registry import Registry


def fetch_by_hand(uri: str, folder: Path, kind: Literal["model", "dataset"], *, as_json: bool) -> None:
    """Fetch into FOLDER/model or FOLDER/dataset, as an init container does.

    Raises:
        RequestError: the URI cannot be fetched, or something is not installed; nothing was created.
        PluginError: the URI's plugin is missing or broken.
        click.exceptions.Exit: the step failed, with its exit code; it has said why.
    """
    select = selection.select_model if kind == "model" else selection.select_dataset
    needed = document("fetch", kind, select(Registry(), uri, Path.cwd()))
    folder.mkdir(parents=True, exist_ok=True)  # here, as the step would have to call it a failure of the volume
    run_step(["fetch", kind], {kind: needed}, workspace=folder, as_json=as_json)
    if not as_json:
        click.echo(f"It is in {folder / kind}")
