"""The commands that concern no job: plugins, schemas, downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from tunewright.cli import completion
from tunewright.cli.grouped import Command
from tunewright.cli.options import json_option
from tunewright.environment import SETTINGS


@click.command()
@json_option
def plugins(as_json: bool) -> None:
    """Show the installed plugins, and why a plugin cannot be used."""
    from tunewright.cli.show import plugin_table
    from tunewright.plugins.registry import Registry

    plugin_table(Registry(), as_json=as_json)


@click.command(cls=Command, examples=[("schema > job.schema.json", "Save it for an editor.")])
def schema() -> None:
    """Print the JSON schema of job files, with the fields of the installed plugins, for editors."""
    import json

    from tunewright.cli.schema import job_schema
    from tunewright.plugins.registry import Registry

    click.echo(json.dumps(job_schema(Registry()), indent=1, ensure_ascii=False))


@click.command(
    "new-plugin",
    cls=Command,
    examples=[
        ("new-plugin acme", "Write a plugin for acme:// models and datasets."),
        ("new-plugin acme --kind trainer", "Write a trainer."),
    ],
)
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["source", "download", "output", "trainer", "backend", "plan"]),
    default="source",
    show_default=True,
    help="What it adds: a source on the fetch engine, a source that downloads by itself, an output, a trainer, a backend, "
    "or changes to every plan.",
)
def new_plugin(name: str, kind: str) -> None:
    """Create a starter plugin in the folder tunewright-NAME, which installs and passes its tests."""
    from tunewright.cli import new_plugin as writer

    folder = writer.new_plugin(name, Path.cwd(), kind)
    click.echo(f"Wrote {folder}. Next: pip install -e '{folder.name}[test]' && pytest {folder.name}")


@click.command(
    cls=Command,
    examples=[
        ("fetch hf://org/name inputs", "Fetch a model into inputs/model."),
        ("fetch --kind dataset s3://bucket/train inputs", "Fetch a dataset into inputs/dataset."),
        ("fetch hf://org/gated inputs --set access_token.env=MY_TOKEN", "Take the token from another variable."),
        ("fetch job.yaml inputs --only model", "Fetch the model of a job file, with all that the file says of it."),
    ],
)
@click.argument("source", shell_complete=completion.paths)
@click.argument("folder", type=click.Path(path_type=Path), default="inputs")
@click.option(
    "--kind",
    type=click.Choice(["model", "dataset"]),
    help="What a URI is: a model, by default, or a dataset.",
)
@click.option(
    "--only", multiple=True, metavar="INPUT", help='Fetch only this input of a job file: "model", "dataset", …'
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="A=B",
    help="Set a field of the source, as below `model` in a job file: --set revision=v2. For a job file, any of its keys.",
)
@json_option
def fetch(
    *,
    source: str,
    folder: Path,
    kind: Literal["model", "dataset"] | None,
    only: tuple[str, ...],
    assignments: tuple[str, ...],
    as_json: bool,
) -> None:
    """Fetch SOURCE into FOLDER/model or FOLDER/dataset, as an init container does.

    SOURCE is a URI, a path, or a job file, of which all inputs are fetched. FOLDER is ./inputs by default.
    """
    from tunewright.cli.fetching import fetch_by_hand, inputs_of

    fetch_by_hand(inputs_of(source, kind, only, assignments), folder, as_json=as_json)


@click.command(
    cls=Command,
    examples=[
        ("config", "Show the defaults, and where they come from."),
        ("config backend kubernetes", "Use the cluster, in every command."),
        ("config kind trainjob", "Create TrainJobs there, whatever else it can run."),
        ("config namespace team-a", "Work in this namespace."),
        ("config namespace --unset", "Use the context's namespace again."),
    ],
)
@click.argument("setting", type=click.Choice([*SETTINGS]), required=False)
@click.argument("value", required=False)
@click.option("--unset", is_flag=True, help="Forget the value of SETTING.")
@json_option
def config(*, setting: str | None, value: str | None, unset: bool, as_json: bool) -> None:
    """Show or set the backend, kind, namespace and context that every command uses where none is given.

    An option of a command counts first, then the job file, then the environment (TUNEWRIGHT_BACKEND, TUNEWRIGHT_KIND,
    TUNEWRIGHT_NAMESPACE, TUNEWRIGHT_CONTEXT), then what was set here, and at last the built-in default: the backend "local".
    """
    from tunewright.cli import settings

    if setting is None or (value is None and not unset):
        settings.show([setting] if setting else [*SETTINGS], as_json=as_json)
    elif value is not None and unset:
        raise click.UsageError("Give a VALUE, or --unset.")
    else:
        settings.save(setting, value)
        settings.show([setting], as_json=as_json)


@click.command(
    "completion",
    cls=Command,
    examples=[
        ("completion bash >> ~/.bashrc", "Complete commands, jobs and keys in bash, from the next shell on."),
        ("completion zsh >> ~/.zshrc", "The same in zsh."),
        ("completion fish > ~/.config/fish/completions/tunewright.fish", "The same in fish."),
    ],
)
@click.argument("shell", type=click.Choice(completion.SHELLS))
def completion_script(shell: str) -> None:
    """Print what a shell reads to complete commands, options, names of jobs, and keys of job files."""
    click.echo(completion.script(shell, click.get_current_context().find_root().command))
