"""A step of the launcher, run by hand.

It is the very same program that a container runs, started as a process: the same checks and retries, the same variables
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
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO

import attrs
import click

from tunewright import environment
from tunewright._planning.assemble import document_of
from tunewright._views.follow import view_for
from tunewright.errors import RequestError
from tunewright.events import parse_event
from tunewright.plan.secrets import SecretValue
from tunewright.providers.base import SourceProvider
from tunewright.providers.fields import secret_env, secret_fields
from tunewright.providers.wire import WireDocument
from tunewright.request.libraries import missing, refuse_missing
from tunewright.request.request import ResolvedProvider
from tunewright.status.summary import Summary


def document(command: str, slot: str, selected: ResolvedProvider[SourceProvider]) -> WireDocument:
    """Return what a step reads about a provider, once this Python environment has what the step needs.

    Raises:
        RequestError: the launcher, or one of the provider's libraries, is not installed.
    """
    if importlib.util.find_spec("tunewright_launcher") is None:
        remedy = "Install it: pip install 'tunewright[local]'"
        raise RequestError("needs tunewright-launcher, which is not installed", field=command, remedy=remedy)
    plugin, provider = selected.plugin, selected.provider
    if (lacking := missing(slot, plugin.dist, provider.extra)) is not None:
        refuse_missing([lacking])
    return document_of(slot, plugin, provider)


def secrets_of(provider: SourceProvider, field: str, env: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Return the values of a provider's secrets by their variables; for one in a Secret of a cluster, that of the environment.

    Args:
        provider: the provider.
        field: its key in a job file, for messages.
        env: the user's environment, or nothing.

    Raises:
        RequestError: a secret is in a cluster, and not in the environment.
    """
    names = {variable: name for name, variable in secret_fields(type(provider)).items()}
    found: dict[str, str] = {}
    for variable, given in secret_env(provider).items():
        if isinstance(given, SecretValue):
            found[variable] = given.reveal()
        elif variable not in env:
            problem = f"is in a Secret of a cluster ({given.name}), which this machine does not read"
            remedy = f"Give it from a variable: --set {field}.{names[variable]}.env={variable}"
            raise RequestError(problem, field=f"{field}.{names[variable]}", remedy=remedy)
    return found


def unwanted_secrets(provider: SourceProvider, env: Mapping[str, str]) -> frozenset[str]:
    """Return the variables of secrets that the user's environment has, and the step must not take.

    A credential in the environment is one whole: it is not mixed with one that was given, and is not used where the provider
    says otherwise, as with `anonymous`. An empty variable is none, as for the services' own programs.
    """
    given = secret_env(provider)
    there = {v: name for name, v in secret_fields(type(provider)).items() if v in env and v not in given}
    empty = frozenset(variable for variable in there if not env[variable].strip())
    names = {variable: name for variable, name in there.items() if variable not in empty}
    try:
        attrs.evolve(provider, **{name: env[variable] for variable, name in names.items()})
    except RequestError:
        return frozenset(there)
    return frozenset(there) if given else empty


def run_step(
    arguments: Sequence[str],
    documents: Mapping[str, WireDocument],
    *,
    workspace: Path | None = None,
    secrets: Mapping[str, str] = MappingProxyType({}),
    unwanted: Collection[str] = (),
    as_json: bool,
) -> None:
    """Run a step to its end.

    Args:
        arguments: of the launcher.
        documents: slot → the provider of its configuration.
        workspace: folder of the slots; None for one that is removed afterwards.
        secrets: variable → secret value; others are taken from the user's environment.
        unwanted: variables of the user's environment that are not.
        as_json: print the events and nothing else.

    Raises:
        click.exceptions.Exit: the step failed, with its exit code; it has said why.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for slot, document in documents.items():
            (Path(scratch) / f"{slot}.json").write_text(document.dumps(), "utf-8")
        own = _environment(workspace or Path(scratch), Path(scratch))
        env = {**{name: value for name, value in own.items() if name not in unwanted}, **secrets}
        code = _run(arguments, env, as_json=as_json)
    if code:
        raise click.exceptions.Exit(code)


def _run(arguments: Sequence[str], env: Mapping[str, str], *, as_json: bool) -> int:
    """Run the step, draw its events, and return its exit code."""
    command = [sys.executable, "-m", "tunewright_launcher", *arguments]
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
    except BaseException:  # including Ctrl-C; the next run resumes from what was staged
        process.terminate()
        process.wait()
        raise


def _pass_on(lines: IO[str]) -> None:
    for line in lines:
        click.echo(line, nl=False, err=True)


def _environment(workspace: Path, scratch: Path) -> dict[str, str]:
    """Return the environment of the step: the user's own, with the paths of a container."""
    paths = environment.Paths(
        workspace=workspace.absolute(),
        config=scratch,
        run=scratch,
        packages=scratch,
        termination_log=scratch / "termination.log",
    )
    given = {**os.environ, **paths.to_env(), environment.PARENT: str(os.getpid())}
    # The cache of jobs has files that are linked and read-only; what is fetched by hand is the user's own.
    given |= {**environment.caches(os.environ), environment.CACHE: ""}
    given[environment.RUN] = ""  # without a place for verdicts, the exit code says that it failed
    return {name: value for name, value in given.items() if not environment.is_slot_variable(name)}
