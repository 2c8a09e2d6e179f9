"""`tunewright fetch`: the init container's fetch step, run by hand.

It is the very same program, started as a process: the same engine, checks and retries, the same variables
(`TUNEWRIGHT_RETRY_FOR`, `TUNEWRIGHT_FETCH_…`, and the provider's own for credentials), and the same exit codes. Its events are
drawn here, and its log is passed on.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Literal

import click

from tunewright import environment
from tunewright._planning import selection
from tunewright._planning.assemble import document_of
from tunewright._views.follow import view_for
from tunewright.errors import RequestError
from tunewright.events import parse_event
from tunewright.plugins.registry import Registry
from tunewright.status.summary import Summary


def fetch_by_hand(uri: str, folder: Path, kind: Literal["model", "dataset"], *, as_json: bool) -> None:
    """Fetch into FOLDER/model or FOLDER/dataset, as an init container does.

    Raises:
        RequestError: the URI cannot be fetched, or the launcher is not installed; nothing was created.
        PluginError: the URI's plugin is missing or broken.
        click.exceptions.Exit: the step failed, with its exit code; it has said why.
    """
    if importlib.util.find_spec("tunewright_launcher") is None:
        remedy = "Install it: pip install 'tunewright[local]'"
        raise RequestError("needs tunewright-launcher, which is not installed", field="fetch", remedy=remedy)
    select = selection.select_model if kind == "model" else selection.select_dataset
    selected = select(Registry(), uri, Path.cwd())
    document = document_of(kind, selected.plugin, selected.provider)
    folder.mkdir(parents=True, exist_ok=True)  # here, as the step would have to call it a failure of the volume
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / f"{kind}.json").write_text(document.dumps(), "utf-8")
        code = _run_step(kind, _environment(folder, Path(scratch)), as_json=as_json)
    if code:
        raise click.exceptions.Exit(code)
    if not as_json:
        click.echo(f"It is in {folder / kind}")


def _run_step(slot: str, env: Mapping[str, str], *, as_json: bool) -> int:
    """Run the step, draw its events, and return its exit code."""
    command = [sys.executable, "-m", "tunewright_launcher", "fetch", slot]
    summary, view = Summary(), view_for("json" if as_json else "auto")
    # A session of its own: a terminal's Ctrl-C must reach it only as the SIGTERM below.
    process = subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout  # noqa: S101 - for the type checker: both are pipes
    assert process.stderr  # noqa: S101 - as above
    log = threading.Thread(target=_pass_on, args=(process.stderr,), daemon=True)
    log.start()
    try:
        with view:
            for line in process.stdout:
                if (event := parse_event(line)) is not None:
                    summary.add(event)
                    view.show(event, summary)
                elif not as_json:
                    click.echo(line, nl=False)
            log.join()
        return process.wait()
    except BaseException:  # including Ctrl-C; the next fetch resumes from what was staged
        process.terminate()
        process.wait()
        raise


def _pass_on(lines: IO[str]) -> None:
    for line in lines:
        click.echo(line, nl=False, err=True)


def _environment(folder: Path, scratch: Path) -> dict[str, str]:
    """Return the environment of the step: the user's own, with the paths of a container."""
    paths = environment.Paths(
        workspace=folder.absolute(),
        config=scratch,
        run=scratch,
        packages=scratch,
        termination_log=scratch / "termination.log",
    )
    given = {**os.environ, **paths.to_env(), environment.PARENT: str(os.getpid())}
    given[environment.RUN] = ""  # without a place for verdicts, the exit code says that it failed
    return {name: value for name, value in given.items() if not environment.is_slot_variable(name)}
