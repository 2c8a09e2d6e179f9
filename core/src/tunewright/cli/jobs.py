"""The commands on jobs that exist."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunewright.cli import completion
from tunewright.cli.grouped import Command
from tunewright.cli.options import Connection, Duration, connected, json_option, name_argument
from tunewright.cli.waiting import waiting
from tunewright.status.state import JobState

if TYPE_CHECKING:
    from tunewright._page.frozen import PageReport
    from tunewright.backends.base import Backend


_STATES = click.Choice([str(state) for state in JobState], case_sensitive=False)


@click.command(
    "list",
    cls=Command,
    examples=[
        ("list --label team=nlp", "List the jobs of a team."),
        ("list --state failed --limit 20", "List the newest jobs that failed."),
        ("list -A --state running", "List what runs on the whole cluster."),
    ],
)
@click.option("--label", "-l", "labels", multiple=True, metavar="KEY=VALUE", help="Only list jobs with this label.")
@click.option("--state", "states", multiple=True, type=_STATES, help="Only list jobs in this state; may be repeated.")
@click.option("--all-namespaces", "-A", "everywhere", is_flag=True, help="List the jobs of all namespaces.")
@click.option("--limit", type=click.IntRange(min=1), help="List at most so many jobs, the newest ones.")
@connected
@json_option
def list_(
    *,
    labels: tuple[str, ...],
    states: tuple[str, ...],
    everywhere: bool,
    limit: int | None,
    connection: Connection,
    as_json: bool,
) -> None:
    """List jobs, newest first, with model, loss and duration."""
    from tunewright._page.overview import rows
    from tunewright.cli.labels import pairs
    from tunewright.cli.show import job_rows

    backend = connection.client().backend
    listed = backend.list_everywhere(pairs(labels)) if everywhere else backend.list(pairs(labels))
    found = [job for job in listed if not states or str(job.state) in states]
    job_rows(rows(backend, found[:limit]), namespaces=everywhere, as_json=as_json)


@click.command(cls=Command, examples=[("status sft", "Say why it waits, or why it failed, and what to do.")])
@name_argument
@connected
@json_option
def status(name: str, connection: Connection, as_json: bool) -> None:
    """Show the state of a job, and the reason for it."""
    from tunewright.cli.show import one_status

    job = connection.job(name)
    found = job.status()
    commands = job.next_commands() if found.state is JobState.SUCCEEDED and not as_json else ()
    one_status(found, job.command_for, commands, as_json=as_json)


@click.command(
    cls=Command,
    examples=[
        ("logs -f sft", "Print lines as they come."),
        ("logs sft --container fetch-model", "Print what the download of the model said."),
    ],
)
@name_argument
@click.option("--follow", "-f", is_flag=True, help="Keep printing until the job ends.")
@click.option(
    "--container",
    help='Only show this container: "fetch-model", "fetch-dataset", "check" or "train".',
    shell_complete=completion.containers,
)
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
    """Print a job's log, with its events as lines that can be read."""
    from tunewright._views.log_text import readable

    lines = connection.job(name).log_lines(follow=follow, container=container or step, worker=worker)
    for line in readable(lines):
        click.echo(line)


@click.command(cls=Command, examples=[("events -f sft", "Print events as they come, for another program.")])
@name_argument
@click.option("--follow", "-f", is_flag=True, help="Keep printing until the job ends.")
@connected
def events(name: str, follow: bool, connection: Connection) -> None:
    """Print a job's events as JSON, one per line."""
    from tunewright.events import format_event

    for event in connection.job(name).events(follow=follow):
        click.echo(format_event(event))


@click.command(
    cls=Command,
    examples=[
        ("report sft --html report.html", "Write a page with the curves."),
        ("report ./result", "Show the report in the folder of a result, whose job may be gone."),
    ],
)
@name_argument
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write an HTML page with the curves."
)
@connected
@json_option
def report(name: str, html: Path | None, connection: Connection, as_json: bool) -> None:
    """Show what a job was asked to do, what happened, and what it produced.

    NAME is a job, or with a slash in it the folder of a result, in which the trainer has left its report.
    """
    from tunewright.cli.show import one_report

    found = _report_of(name, connection)
    if html is not None:
        html.write_text(found.to_html(), "utf-8")
    one_report(found, as_json=as_json)


def _report_of(name: str, connection: Connection) -> PageReport:
    """Return the report of a job, or the one that lies in a result's folder: a path has a slash, which no name has."""
    if "/" not in name and "\\" not in name:
        return connection.job(name).report()
    from tunewright._page.frozen import PageReport
    from tunewright.status.saved_report import read_report

    return read_report(PageReport, Path(name))


@click.command(
    cls=Command,
    examples=[
        ("update sft --ttl 7d", "Delete it a week after it ends."),
        ("update sft --label team=nlp --label old-", "Set a label, and remove another."),
    ],
)
@name_argument
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Set a label; KEY- removes one.")
@click.option(
    "--annotation", "annotations", multiple=True, metavar="KEY=VALUE", help="Set an annotation; KEY- removes one."
)
@click.option("--ttl", type=Duration(), help="How long to keep the job after it ends: seconds, or 30m, 1h, 7d.")
@click.option("--deadline", type=Duration(), help="How long the job may take, likewise. Suspended jobs only.")
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


@click.command(
    cls=Command, examples=[("suspend sft", "Stop it; `tunewright resume sft` goes on from its newest checkpoint.")]
)
@name_argument
@connected
def suspend(name: str, connection: Connection) -> None:
    """Stop a job's processes and keep its files."""
    with waiting():
        job = connection.job(name)
        job.suspend()
    click.echo(f"Suspended {name}. To continue from its newest checkpoint: {job.command_for('resume')}")


@click.command(
    cls=Command,
    examples=[
        ("delete sft", "Delete it with its files."),
        ("delete sft --with-result", "On a cluster, delete also the claim that holds its only result, now or later."),
    ],
)
@name_argument
@click.option("--with-result", is_flag=True, help="Delete also the claim that holds the only copy of its result.")
@connected
def delete(*, name: str, with_result: bool, connection: Connection) -> None:
    """Stop a job and delete it with everything that it owns."""
    client = connection.client()
    with waiting():
        client.delete_job(name, with_result=with_result)
    click.echo(f"Deleted {name}.")
    if not with_result and (kept := _kept(client.backend, name)):
        command = client.backend.command_for("delete", f"{name} --with-result")
        click.echo(
            f"Its result stays on {', '.join(f'the claim {claim}' for claim in kept)}. To delete it, too: {command}"
        )


def _kept(backend: Backend, name: str) -> list[str]:
    """Return what is left, as far as the user may see it."""
    from tunewright.errors import JobError

    try:
        return backend.kept(name)
    except JobError:
        return []
