"""The commands that show jobs beside each other, and the live page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunewright.cli.options import Connection, connected, json_option

if TYPE_CHECKING:
    from tunewright._page.server import PageServer
    from tunewright.backends.base import Backend

_PORT = 8487


@click.command()
@click.option(
    "--backend", "backends", multiple=True, help="Backend whose jobs to show; may be repeated.  [default: local]"
)
@click.option("--namespace", "-n", help="Kubernetes namespace; defaults to the context's.")
@click.option("--context", help="Kubeconfig context; defaults to the current one.")
@click.option("--port", type=click.IntRange(0, 65535), help=f"Port on this machine.  [default: {_PORT}, or a free one]")
def ui(*, backends: tuple[str, ...], namespace: str | None, context: str | None, port: int | None) -> None:
    r"""Serve a live page of all jobs on this machine's loopback interface, until Ctrl-C. It only reads.

    \b
        tunewright ui
        tunewright ui --backend local --backend kubernetes -n team

    Open the address that it prints. Whoever has the whole address can read the jobs, their logs included.
    """
    from tunewright._page.server import serve

    found = {}
    for name in backends or ("local",):
        connection = Connection(backend=name, namespace=namespace, context=context)
        found[name] = connection.client(name).backend
    server = _server(found, port)
    serve(server, lambda: click.echo(f"Open {server.address}\nPress Ctrl-C to stop. Jobs keep running."))


def _server(backends: Mapping[str, Backend], port: int | None) -> PageServer:
    from tunewright._page.server import PageServer

    if port is not None:
        return PageServer(backends, port)
    try:
        return PageServer(backends, _PORT)
    except OSError:  # somebody else has it, and the address that is printed says which one is ours
        return PageServer(backends, 0)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME NAME …")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write an HTML page with the curves."
)
@connected
@json_option
def compare(*, names: tuple[str, ...], html: Path | None, connection: Connection, as_json: bool) -> None:
    r"""Show the outcome of jobs side by side, and in which settings they differ.

    \b
        tunewright compare lr-1e-4 lr-2e-4
        tunewright compare lr-1e-4 lr-2e-4 --html compare.html
    """
    from tunewright._page.frozen import frozen_page
    from tunewright.cli.comparison import comparison

    if len(names) < 2:  # noqa: PLR2004 - a comparison
        raise click.UsageError("Name at least two jobs. To see one: tunewright report NAME")
    reports = [connection.job(name).report() for name in names]
    if html is not None:
        html.write_text(frozen_page(reports), "utf-8")
    comparison(reports, as_json=as_json)


COMMANDS = (ui, compare)
