"""The commands on jobs that exist."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from tunewright.cli.options import Connection, connected, json_option


@click.command("list")
@click.option("--label", "-l", "labels", multiple=True, metavar="KEY=VALUE", help="Only list jobs with this label.")
@connected
@json_option
def list_(labels: tuple[str, ...], connection: Connection, as_json: bool) -> None:
    """List jobs, newest first."""
    from tunewright.cli.labels import pairs
    from tunewright.cli.show import statuses

    statuses(connection.client("local").backend.list(pairs(labels)), as_json=as_json)


@click.command()
@click.argument("name")
@connected
@json_option
def status(name: str, connection: Connection, as_json: bool) -> None:
    """Show the state of a job, and the reason for it."""
    from tunewright.cli.show import one_status

    job = connection.job(name)
    one_status(job.status(), job.command_for, as_json=as_json)


@click.command()
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Keep printing until the job ends.")
@click.option("--container", help='Only show this container: "fetch-model", "fetch-dataset", "check" or "train".')
@click.option("--step", hidden=True, help="The former name of --container.")
@click.option("--worker", type=int, help="Only show the worker with this index.")
@connected
def logs(
    *,
    name: str,
    follow: bool,
    container: str | None,
    step: str | None,
    worker: int | None,
    connection: Connection,
) -> None:
    """Print a job's log."""
    for line in connection.job(name).logs(follow=follow, container=container or step, worker=worker):
        click.echo(line)


@click.command()
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Keep printing until the job ends.")
@connected
def events(name: str, follow: bool, connection: Connection) -> None:
    """Print a job's events as JSON, one per line."""
    from tunewright.events import format_event

    for event in connection.job(name).events(follow=follow):
        click.echo(format_event(event))


@click.command()
@click.argument("name")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write an HTML page with the curves."
)
@connected
@json_option
def report(name: str, html: Path | None, connection: Connection, as_json: bool) -> None:
    """Show what a job was asked to do, what happened, and what it produced."""
    from tunewright.cli.show import one_report

    found = connection.job(name).report()
    if html is not None:
        html.write_text(found.to_html(), "utf-8")
    one_report(found, as_json=as_json)


@click.command()
@click.argument("name")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Set a label; KEY- removes one.")
@click.option(
    "--annotation", "annotations", multiple=True, metavar="KEY=VALUE", help="Set an annotation; KEY- removes one."
)
@click.option("--ttl", type=int, help="Seconds to keep the job after it ends.")
@click.option("--deadline", type=int, help="Seconds the job may take. Suspended jobs only.")
@click.option("--max-restarts", type=int, help="Restarts allowed without a new checkpoint. Suspended jobs only.")
@click.option("--queue", help="Kueue LocalQueue. Suspended jobs only.")
@click.option("--priority-class", help="PriorityClass of the pods. Suspended jobs only.")
@connected
def update(
    *,
    name: str,
    labels: tuple[str, ...],
    annotations: tuple[str, ...],
    connection: Connection,
    **options: object,
) -> None:
    """Change a job's labels, annotations and limits."""
    from tunewright.cli.labels import changes

    given = {k: v for k, v in options.items() if v is not None}
    for key, words in (("labels", labels), ("annotations", annotations)):
        if words:
            given[key] = changes(words)
    change: Callable[..., None] = connection.job(name).update
    change(**given)
    click.echo(f"Updated {name}.")


@click.command()
@click.argument("name")
@connected
def suspend(name: str, connection: Connection) -> None:
    """Stop a job's processes and keep its files."""
    job = connection.job(name)
    job.suspend()
    click.echo(f"Suspended {name}. To continue from its newest checkpoint: {job.command_for('resume')}")


@click.command()
@click.argument("name")
@connected
def delete(name: str, connection: Connection) -> None:
    """Stop a job and delete it with everything that it owns."""
    connection.job(name).delete()
    click.echo(f"Deleted {name}.")


COMMANDS = (list_, status, logs, events, report, update, suspend, delete)
