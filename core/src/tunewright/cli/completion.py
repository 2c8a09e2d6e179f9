"""What the shell completes: names of jobs and of their containers, keys of job files, backends. It never fails, and says nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from tunewright.environment import SETTINGS, user_setting

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SHELLS = ("bash", "zsh", "fish")

_VARIABLE = "_TUNEWRIGHT_COMPLETE"

# What bash and zsh need besides click's script. Neither must end a key with a space, as it goes on after "." and "=". The
# completion of zsh has to be loaded first, which few ~/.zshrc do.
_BASH = """
_tunewright_completion_open() {
    _tunewright_completion "$@"
    [[ ${COMPREPLY[0]} != *[.=] ]] || compopt -o nospace
}
complete -o nosort -F _tunewright_completion_open tunewright
"""
_ZSH_FIRST = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }\n"
_ZSH_LAST = """
_tunewright_completion_open() {
    if [[ $words[CURRENT-1] == --set ]]; then
        compadd() { builtin compadd -S '' "$@" }
        _tunewright_completion "$@"
        unfunction compadd
    else
        _tunewright_completion "$@"
    fi
}
[[ $zsh_eval_context[-1] == loadautofunc ]] || compdef _tunewright_completion_open tunewright
"""


def script(shell: str, cli: click.Command) -> str:
    """Return what a shell has to read, so that it completes `tunewright`, which is the command `cli`."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - click has all of SHELLS; for the type checker
    source = found(cli, {}, "tunewright", _VARIABLE).source()
    if shell == "bash":
        return source + _BASH
    if shell == "zsh":
        first, rest = source.split("\n", 1)  # "#compdef tunewright" has to stay the first line
        return f"{first}\n{_ZSH_FIRST}{rest}{_ZSH_LAST}"
    return source


def jobs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's signature
    """Return names of jobs, newest first."""
    with contextlib.suppress(Exception):
        return [status.name for status in _client(ctx).backend.list() if status.name.startswith(incomplete)]
    return []


def containers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - as above
    """Return the containers whose logs a job may have."""
    from tunewright.environment import INPUT_SLOTS, fetch_container
    from tunewright.plan.plan import MAIN_STEP

    names = [*map(fetch_container, INPUT_SLOTS), "check", MAIN_STEP]
    return [name for name in names if name.startswith(incomplete)]


def backends(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - as above
    """Return the names of backends."""
    from tunewright.plugins.registry import Registry

    found, registry = [], Registry()
    for name in registry.names():
        with contextlib.suppress(Exception):
            if "backend" in registry.get(name).kinds() and name.startswith(incomplete):
                found.append(name)
    return found


def paths(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001 - as above
    """Let the shell complete paths."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def keys(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - as above
    """Return keys of a job file, one level deeper with each dot: "trainer.lora_config.r=".

    A key with others below it is offered twice, with "." and with "=".
    """
    if "=" in incomplete:
        return []
    with contextlib.suppress(Exception):
        from tunewright.cli.schema import job_schema
        from tunewright.plugins.registry import Registry

        parents, _, last = incomplete.rpartition(".")
        found: list[dict[str, Any]] = [job_schema(Registry())]
        for key in parents.split(".") if parents else ():
            found = [p[key] for schema in found for p in _properties(schema) if key in p]
        names = {name: below for schema in found for p in _properties(schema) for name, below in p.items()}
        prefix = f"{parents}." if parents else ""
        return [f"{prefix}{n}{end}" for n, s in names.items() if n.startswith(last) for end in _ends(s)]
    return []


def _properties(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "properties" in schema:
        yield schema["properties"]
    for alternative in schema.get("anyOf", ()):
        yield from _properties(alternative)


def _ends(schema: dict[str, Any]) -> str:
    return ".=" if next(_properties(schema), None) is not None else "="


def _client(ctx: click.Context) -> Any:
    from tunewright._client.client import TrainingClient

    backend, kind, namespace, context = (ctx.params.get(name) or user_setting(name) for name in SETTINGS)
    return TrainingClient(backend or "local", kind=kind, namespace=namespace, context=context)
