"""The commands that concern no job: plugins, schemas, downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from tunewright.cli.options import json_option


@click.command()
@json_option
def plugins(as_json: bool) -> None:
    """Show the installed plugins, and why a plugin cannot be used."""
    from tunewright.cli.show import plugin_table
    from tunewright.plugins.registry import Registry

    plugin_table(Registry(), as_json=as_json)


@click.command()
def schema() -> None:
    """Print the JSON schema of job files, with the fields of the installed plugins, for editors."""
    import json

    from tunewright.cli.schema import job_schema
    from tunewright.plugins.registry import Registry

    click.echo(json.dumps(job_schema(Registry()), indent=1, ensure_ascii=False))


@click.command("new-plugin")
@click.argument("name")
def new_plugin(name: str) -> None:
    """Create a starter plugin for NAME:// datasets in the folder tunewright-NAME."""
    from tunewright.cli import new_plugin as writer

    folder = writer.new_plugin(name, Path.cwd())
    click.echo(f"Wrote {folder}. Next: pip install -e {folder.name}[test] && pytest {folder.name}")


@click.command()
@click.argument("uri")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(["model", "dataset"]), default="model", show_default=True)
@json_option
def fetch(*, uri: str, folder: Path, kind: Literal["model", "dataset"], as_json: bool) -> None:
    """Fetch URI into FOLDER/model or FOLDER/dataset, as an init container does."""
    from tunewright.cli.fetching import fetch_by_hand

    fetch_by_hand(uri, folder, kind, as_json=as_json)


COMMANDS = (plugins, schema, new_plugin, fetch)
