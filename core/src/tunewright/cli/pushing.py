"""`tunewright push`: the upload of a job's result, run by hand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from tunewright._planning import selection
from tunewright.cli import jobfile
from tunewright.cli.steps import document, run_step, secrets_of, unwanted_secrets
from tunewright.environment import OUTPUT_SLOT
from tunewright.errors import RequestError
from tunewright.plugins.registry import Registry
from tunewright.providers.base import ModelProvider
from tunewright.providers.outputs import OutputTarget
from tunewright.request.request import ResolvedProvider

_PREFIX = f"{OUTPUT_SLOT}."


def select_target(uri: str, assignments: Sequence[str]) -> ResolvedProvider[ModelProvider]:
    """Return the provider that uploads.

    Args:
        uri: where to, or a path.
        assignments: values of `--set`: keys of `output` in a job file, with or without `output.` before them.

    Raises:
        RequestError: it is not writable from this machine, or a value is wrong.
        PluginError: the URI's plugin is missing or broken.
    """
    below = [text if text.startswith(_PREFIX) else f"{_PREFIX}{text}" for text in assignments]
    value = jobfile.of_options({OUTPUT_SLOT: uri}, below).keywords[OUTPUT_SLOT]
    selected = selection.select_output(Registry(), value, Path.cwd())
    assert selected is not None  # noqa: S101 - for the type checker: it is None for no output only
    provider = selected.provider
    if not isinstance(provider, OutputTarget):
        problem, remedy = "is a volume of a cluster", "Give s3://bucket/prefix, hf://org/name or a folder."
        raise RequestError(problem, field=OUTPUT_SLOT, value=provider.uri, remedy=remedy)
    secrets_of(provider, OUTPUT_SLOT)  # refuses those of a cluster
    return selected


def push_by_hand(folder: Path, target: ResolvedProvider[ModelProvider], *, replace: bool, as_json: bool) -> None:
    """Upload a result, as the last step of a job does.

    Raises:
        RequestError: something is not installed; nothing was created.
        click.exceptions.Exit: the step failed, with its exit code; it has said why.
    """
    needed = document("push", OUTPUT_SLOT, target)
    run_step(
        ["upload", str(folder.absolute()), *(["--replace"] if replace else [])],
        {OUTPUT_SLOT: needed},
        secrets=secrets_of(target.provider, OUTPUT_SLOT),
        unwanted=unwanted_secrets(target.provider, os.environ),
        as_json=as_json,
    )
    if not as_json:
        click.echo(f"It is in {target.provider.uri}")
