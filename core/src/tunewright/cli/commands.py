"""The command `tunewright`. Its commands import what they need, so that `--help` is fast."""

from __future__ import annotations

import click

from tunewright.cli import cache, jobs, pages, results, tools, training, upkeep
from tunewright.cli.grouped import Group


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from tunewright.cli.show import versions

        click.echo(versions())
        ctx.exit()


@click.group(
    cls=Group,
    headings={
        "Start a job": (training.train, training.run, training.preview, training.doctor),
        "Watch jobs": (
            *(training.follow, jobs.list_, jobs.status, jobs.logs, jobs.events),
            *(pages.ui, jobs.report, pages.compare),
        ),
        "Manage jobs": (jobs.suspend, training.resume, jobs.update, jobs.delete, upkeep.prune, cache.cache),
        "Use a result": results.COMMANDS,
        "Set up": (tools.config, tools.plugins, tools.schema, tools.completion_script),
        "Others": (tools.fetch, tools.new_plugin),
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Each command shows examples: tunewright train --help",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the versions of Tunewright and of its plugins.",
)
def cli() -> None:
    """Fine-tune LLMs on your own Kubernetes cluster, or on this machine."""
