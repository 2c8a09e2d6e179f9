"""Help for people: commands in groups, and examples below each command's options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click


class Command(click.Command):
    """A command with examples.

    Args:
        examples: command lines without the word `tunewright`, each with what it does: ("status NAME", "Why it waits.").
        options: those of `click.Command`.
    """

    def __init__(self, *options: Any, examples: Sequence[tuple[str, str]] = (), **named: Any) -> None:
        super().__init__(*options, **named)
        self.examples = tuple(examples)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options; for one that is a key of job files, say how `--set` gives it."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            key = error.option_name.lstrip("-").replace("-", "_")
            if any("--set" in option.opts for option in self.params) and _is_key(key):
                message = f"No such option '{error.option_name}': it is a key of the job. Write --set {key}=…"
                raise click.NoSuchOption(error.option_name, message, ctx=ctx) from None
            raise

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        super().format_epilog(ctx, formatter)
        if not self.examples:
            return
        with formatter.section("Examples"):
            for line, meaning in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}# {meaning}\n")
                formatter.write(f"{'':{formatter.current_indent}}tunewright {line}\n")


def _is_key(name: str) -> bool:
    from tunewright._client.options import TrainOptions  # its imports are not needed for a call that is right

    return name in TrainOptions.__annotations__


class Group(click.Group):
    """A group that lists its commands under headings.

    Args:
        headings: heading → the commands below it.
        options: those of `click.Group`.
    """

    def __init__(self, *options: Any, headings: Mapping[str, Sequence[click.Command]], **named: Any) -> None:
        super().__init__(*options, **named)
        self.headings = headings
        for commands in headings.values():
            for command in commands:
                self.add_command(command)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands in the order of their headings."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """Write each heading with its commands and their whole summaries."""
        width = max(len(str(command.name)) for command in self.commands.values())
        for heading, commands in self.headings.items():
            with formatter.section(heading):
                rows = [(f"{command.name!s:{width}}", command.get_short_help_str(limit=200)) for command in commands]
                formatter.write_dl(rows)
