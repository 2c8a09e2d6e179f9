"""The commands that show jobs beside each other, and the live page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunewright.cli import completion
from tunewright.cli.grouped import Command
from tunewright.cli.options import BUILT_IN_BACKEND, Connection, connected, json_option
from tunewright.environment import user_setting

if TYPE_CHECKING:
    from tunewright._page.server import PageServer
    from tunewright.backends.base import Backend

_PORT = 8487


@click.command(
    cls=Command,
    examples=[
        ("ui", "Show the jobs of this machine, and of the backend that `tunewright config` names."),
        ("ui --backend kubernetes -n team", "Show the jobs of a namespace."),
    ],
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    help="Backend whose jobs to show; may be repeated.",
    shell_complete=completion.backends,
)
@click.option("--namespace", "-n", help="Kubernetes namespace; defaults to the context's.")
@click.option("--context", help="Kubeconfig context; defaults to the current one.")
@click.option("--port", type=click.IntRange(0, 65535), help=f"Port on this machine.  [default: {_PORT}, or a free one]")
def ui(*, backends: tuple[str, ...], namespace: str | None, context: str | None, port: int | None) -> None:
    """Serve a live page of jobs to browsers on this machine, until Ctrl-C. It only reads.

    Open the address that it prints. Whoever has the whole address can read the jobs, their logs included.
    """
    from tunewright._page.server import serve

    found = {}
    by_default = (BUILT_IN_BACKEND, user_setting("backend") or BUILT_IN_BACKEND)
    for name in backends or by_default:
        found[name] = Connection(backend=name, namespace=namespace, context=context).client().backend
    server = _server(found, port)
    serve(server, lambda: click.echo(f"Open {server.address}\nPress Ctrl-C to stop. Jobs keep running."))


def _server(backends: Mapping[str, Backend], port: int | None) -> PageServer:
    from tunewright._page.server import PageServer

    if port is not None:
        return PageServer(backends, port, _next_commands)
    try:
        return PageServer(backends, _PORT, _next_commands)
    except OSError:  # somebody else has it, and the address that is printed says which one is ours
        return PageServer(backends, 0, _next_commands)


def _next_commands(backend: Backend, name: str) -> Sequence[str]:
    from tunewright._client.job import Job

    return Job(name, backend).next_commands()


@click.command(
    cls=Command,
    examples=[
        ("compare lr-1e-4 lr-2e-4", "See which one has the lower loss, and what is different."),
        ("compare lr-1e-4 lr-2e-4 --html compare.html", "Write a page with the curves of both."),
    ],
)
@click.argument("names", nargs=-1, required=True, metavar="NAME NAME …", shell_complete=completion.jobs)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write an HTML page with the curves."
)
@connected
@json_option
def compare(*, names: tuple[str, ...], html: Path | None, connection: Connection, as_json: bool) -> None:
    """Show the outcome of jobs side by side, and in which settings they differ."""
    from tunewright._page.frozen import frozen_page
    from tunewright.cli.comparison import comparison

    if len(names) < 2:  # noqa: PLR2004 - a comparison
        raise click.UsageError("Name at least two jobs. To see one: tunewright report NAME")
    reports = [connection.job(name).report() for name in names]
    if html is not None:
        html.write_text(frozen_page(reports), "utf-8")
    comparison(reports, as_json=as_json)
