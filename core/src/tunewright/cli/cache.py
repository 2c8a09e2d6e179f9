"""The commands for what the jobs of this machine have fetched and share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from tunewright.cli.grouped import Command
from tunewright.cli.options import Duration, json_option

if TYPE_CHECKING:
    from tunewright.backends.local.cache import CachedInput


@click.group()
def cache() -> None:
    """Look at and clean up what local jobs have downloaded and share.

    Jobs of the local backend download each model and dataset once for all of them.
    """


@cache.command("list", cls=Command, examples=[("cache list", "See what it holds, and how large it is.")])
@json_option
def list_(*, as_json: bool) -> None:
    """List the models and datasets in the cache.

    LINKED is the number of jobs that have hard links to its files; the space is freed only with them.
    """
    _show(_found(), as_json=as_json)


@cache.command(
    cls=Command,
    examples=[
        ("cache prune", "See what no job has used for a month."),
        ("cache prune --older-than 0s --yes", "Remove everything."),
    ],
)
@click.option(
    "--older-than",
    type=Duration(),
    default="30d",
    show_default=True,
    help="For how long no job has started to use it: 30m, 12h, 7d.",
)
@click.option("--yes", "-y", is_flag=True, help="Remove them. Without it, they are only listed.")
@json_option
def prune(*, older_than: int, yes: bool, as_json: bool) -> None:
    """List what no job has used for some time; with --yes, remove it from the cache.

    Jobs keep the files that they have. A later job downloads them again.
    """
    from tunewright.backends.local.cache import remove

    before = datetime.now(UTC) - timedelta(seconds=older_than)
    chosen = [item for item in _found() if item.used <= before and not item.busy]
    if yes:
        for item in chosen:
            remove(item)
    _show(chosen, as_json=as_json)
    if as_json or not chosen:
        return
    count = "1 input" if len(chosen) == 1 else f"{len(chosen)} inputs"
    click.echo(f"Removed {count}." if yes else f"This would remove {count}. To do it, add --yes.")


def _found() -> list[CachedInput]:
    from tunewright.backends.local.cache import cached_inputs
    from tunewright.environment import cache_home

    folder = cache_home()
    return cached_inputs(folder) if folder is not None else []


def _show(items: list[CachedInput], *, as_json: bool) -> None:
    from rich.filesize import decimal

    from tunewright._views.text import as_json as to_line
    from tunewright.cli.show import table

    if as_json:
        for item in items:
            about = {"uri": item.uri, "revision": item.revision, "bytes": item.size, "jobs": item.jobs}
            click.echo(to_line({**about, "used": item.used.isoformat(), "folder": str(item.folder)}))
        return
    if not items:
        click.echo("There is nothing.")
        return
    rows = [
        [
            item.uri or "(an interrupted download)",
            decimal(item.size),
            f"{item.used.astimezone():%Y-%m-%d %H:%M}",
            str(item.jobs),
        ]
        for item in items
    ]
    table(["URI", "SIZE", "LAST USED", "LINKED"], rows)
