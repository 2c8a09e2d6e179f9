"""The command `tunewright`. Its commands import what they need, so that `--help` is fast."""

from __future__ import annotations

import click

from tunewright.cli import jobs, results, tools, training


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tunewright")
def cli() -> None:
    """Fine-tune LLMs on your own Kubernetes cluster, or on this machine."""


for module in (training, jobs, results, tools):
    for command in module.COMMANDS:
        cli.add_command(command)
