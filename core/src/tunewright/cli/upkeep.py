"""The command that removes jobs which are no longer needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from tunewright.cli.grouped import Command
from tunewright.cli.options import Connection, Duration, connected, json_option
from tunewright.status.state import JobState

if TYPE_CHECKING:
    from tunewright.backends.base import Backend
    from tunewright.status.status import JobStatus


@click.command(
    cls=Command,
    examples=[
        ("prune", "See which jobs failed more than a week ago."),
        ("prune --older-than 28d --with-results --yes", "Delete all that ended four weeks ago, with their models."),
    ],
)
@click.option(
    "--older-than",
    type=Duration(),
    default="7d",
    show_default=True,
    help="How long ago the jobs ended at least: 30m, 12h, 7d.",
)
@click.option("--with-results", is_flag=True, help="Succeeded jobs too, with results that are kept with the job.")
@click.option("--label", "-l", "labels", multiple=True, metavar="KEY=VALUE", help="Only jobs with this label.")
@click.option("--yes", "-y", is_flag=True, help="Remove them. Without it, they are only listed.")
@connected
@json_option
def prune(
    *, older_than: int, with_results: bool, labels: tuple[str, ...], yes: bool, connection: Connection, as_json: bool
) -> None:
    """List failed jobs that ended some time ago; with --yes, delete them.

    A succeeded job is left alone unless you write --with-results, as deleting it may delete its model.
    """
    from tunewright.cli.labels import pairs

    backend = connection.client().backend
    states = (JobState.FAILED, JobState.SUCCEEDED) if with_results else (JobState.FAILED,)
    before = datetime.now(UTC) - timedelta(seconds=older_than)
    chosen = [
        s
        for s in backend.list(pairs(labels))
        if s.state in states and (s.finished or datetime.max.replace(tzinfo=UTC)) < before
    ]
    removed = list(_remove(backend, chosen)) if yes else []
    _show(chosen, removed, as_json=as_json, yes=yes)


def _remove(backend: Backend, chosen: Sequence[JobStatus]) -> Iterator[str]:
    from tunewright.errors import JobError

    for status in chosen:
        try:
            backend.delete(status.name)
        except JobError as error:
            click.echo(f"{status.name}: {error}", err=True)
        else:
            yield status.name


def _show(chosen: Sequence[JobStatus], removed: Sequence[str], *, as_json: bool, yes: bool) -> None:
    from tunewright._views.text import as_json as to_line
    from tunewright.cli.show import table

    if as_json:
        for status in chosen:
            click.echo(to_line({"name": status.name, "state": str(status.state), "removed": status.name in removed}))
        return
    if not chosen:
        click.echo("No job is old enough, or has failed. See all: tunewright list")
        return
    ended = [f"{status.finished.astimezone():%Y-%m-%d %H:%M}" if status.finished else "" for status in chosen]
    rows = [[s.name, str(s.state), when, s.result or ""] for s, when in zip(chosen, ended, strict=True)]
    table(["NAME", "STATE", "ENDED", "RESULT"], rows)
    count = len(removed) if yes else len(chosen)
    jobs = "1 job" if count == 1 else f"{count} jobs"
    click.echo(f"Removed {jobs}." if yes else f"This would remove {jobs}. To do it, add --yes.")
