"""Tables and JSON for the commands that show things."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import attrs
import click

from tunewright._views.text import CommandFor, duration_text, facts, pods_text, resume_hint
from tunewright._views.text import as_json as to_line
from tunewright.backends.base import Finding
from tunewright.errors import PluginError
from tunewright.events import Json
from tunewright.plan.plan import INSTANCE, MANAGED_BY, RECOMMENDED
from tunewright.plugins.registry import Registry
from tunewright.status.state import JobState
from tunewright.status.status import JobStatus

if TYPE_CHECKING:
    from tunewright._page.overview import JobRow
    from tunewright.status.report import JobReport


def job_rows(rows: Sequence[JobRow], *, namespaces: bool, as_json: bool) -> None:
    """Print a row for each job, with its namespace if wanted."""
    if as_json:
        for row in rows:
            measured: dict[str, Json] = {"model": row.model, "loss": row.loss, "eval_loss": row.eval_loss}
            click.echo(to_line({**row.status.to_dict(), **measured, "seconds": row.seconds}))
    elif not rows:
        click.echo("There are no jobs. Start one: tunewright train job.yaml")
    else:
        head = ["NAME", "STATE", "MODEL", "LOSS", "DURATION", "CREATED", "RESULT"]
        shown = [_job_row(row) for row in rows]
        if namespaces:
            head = ["NAMESPACE", *head]
            shown = [[row.status.namespace, *cells] for row, cells in zip(rows, shown, strict=True)]
        table(head, shown)


def _job_row(row: JobRow) -> list[str]:
    loss = "" if row.loss is None else f"{row.loss:.4f}"
    status = row.status
    return [
        status.name,
        str(status.state),
        row.model,
        loss,
        duration_text(row.seconds),
        _when(status.created),
        status.result or "",
    ]


def one_status(status: JobStatus, command_for: CommandFor, next_commands: Sequence[str] = (), *, as_json: bool) -> None:
    """Print everything that is known about one job, and what to type next."""
    if as_json:
        click.echo(to_line(status.to_dict()))
        return
    times = {"created": status.created, "started": status.started, "finished": status.finished}
    shown = {name: _when(time) for name, time in times.items()}
    theirs = {name: value for name, value in status.labels.items() if name not in (MANAGED_BY, INSTANCE, *RECOMMENDED)}
    labels = ", ".join(f"{name}={value}" for name, value in theirs.items())
    found = {**status.to_dict(), **shown, "failure": None, "labels": labels, "pods": pods_text(status)}
    if status.state is JobState.SUSPENDED:
        found["next"] = resume_hint(command_for)
    elif next_commands:
        found["next"] = f"\n{'':<10}".join(next_commands)
    for key, value in found.items():
        if value:
            click.echo(f"{key + ':':<10}{value}")


def one_report(report: JobReport, *, as_json: bool) -> None:
    """Print a job's report: the most important facts, or all of it as JSON."""
    if as_json:
        click.echo(to_line(report.to_dict()))
        return
    for key, value in facts(report).items():
        click.echo(f"{key + ':':<17}{value}")


def versions() -> str:
    """Return the versions of Tunewright, Python and each distribution that has plugins, without loading any of them."""
    import importlib.metadata
    import platform

    own = importlib.metadata.version("tunewright")
    found = Registry().distributions()
    plugins = [f"  {name} {version}" for name, version in found.items() if name != "tunewright"]
    first = f"tunewright {own} (Python {platform.python_version()}, {platform.system()} {platform.machine()})"
    return "\n".join([first, *(["plugins:", *plugins] if plugins else ["no plugins besides the built-in ones"])])


def plugin_table(registry: Registry, *, as_json: bool) -> None:
    """Print a row for each plugin; a broken one never hides the others."""
    rows = [_plugin_row(registry, name) for name in registry.names(of_any_api=True)]
    if as_json:
        for row in rows:
            click.echo(to_line(row))
        return
    table(
        ["NAME", "DISTRIBUTION", "GIVES"],
        [[str(r["name"]), f"{r['distribution']} {r['version']}", str(r["gives"])] for r in rows],
    )
    for row in rows:
        if row["problem"]:
            click.echo(f"\n{row['name']}: {row['problem']}", err=True)


def _plugin_row(registry: Registry, name: str) -> dict[str, Json]:
    row: dict[str, Json] = {"name": name, "distribution": "", "version": "", "gives": "unusable", "problem": ""}
    row["always"] = False
    try:
        plugin = registry.get(name)
        row |= {"distribution": plugin.dist, "version": plugin.version}
        plugin.check()
    except PluginError as error:
        return row | {"distribution": error.dist or "", "problem": str(error)}
    changes = ["changes to the plan of every job"] if plugin.always else []
    return row | {"gives": ", ".join([*plugin.kinds(), *changes]), "always": plugin.always}


def findings(found: Iterable[Finding], *, as_json: bool) -> int:
    """Print each finding as it comes, with its remedy below. Return the exit code: 1 if there is a problem."""
    code = 0
    for finding in found:
        code = code or int(finding.level == "problem")
        if as_json:
            click.echo(to_line(attrs.asdict(finding)))
            continue
        click.echo(f"{finding.level:<8} {finding.about}: {finding.text}")
        if finding.remedy:
            click.echo(f"{'':<8} {finding.remedy}")
    return code


def _when(moment: datetime | None) -> str:
    return moment.astimezone().isoformat(" ", "seconds") if moment else ""


def table(head: list[str], rows: list[list[str]]) -> None:
    """Print a table; only one that is too wide for the terminal needs rich, whose import takes longer than most commands."""
    lines = _columns(head, rows)
    if not sys.stdout.isatty() or max(map(len, lines)) < shutil.get_terminal_size().columns:
        for line in lines:
            click.echo(line)
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table whose columns are as wide as they need to be."""
    widths = [max(map(len, cells)) for cells in zip(head, *rows, strict=True)]
    padded = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    title, *others = (f" {line}".rstrip() for line in padded)
    return [title, f" {'─' * (sum(widths) + 3 * (len(widths) - 1))}", *others]
