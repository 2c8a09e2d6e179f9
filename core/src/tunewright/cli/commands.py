"""The commands. Each is a few lines over the Python API; imports are inside them, so that `--help` is quick."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import attrs
import click

if TYPE_CHECKING:
    from tunewright._client.client import TrainingClient
    from tunewright._client.job import Job
    from tunewright.cli.jobfile import Keywords
    from tunewright.plan.manifests import Manifests
    from tunewright.request.request import Request, TrainRequest

_F = TypeVar("_F", bound=Callable[..., None])


@attrs.frozen(kw_only=True)
class Connection:
    """Which backend, and where."""

    backend: str | None
    namespace: str | None
    context: str | None

    def client(self, default: str) -> TrainingClient:
        """A client for the backend that was named, or else the default one."""
        from tunewright._client.client import TrainingClient

        return TrainingClient(self.backend or default, namespace=self.namespace, context=self.context)

    def job(self, name: str) -> Job:
        """The job of that name, on the backend that was named, or else on this machine."""
        return self.client("local").get_job(name)


def _connected(command: _F) -> _F:
    """The options of a `Connection`, which the command gets as `connection`."""

    @click.option("--backend", help='A backend plugin: "kubernetes" or "local".')
    @click.option("--namespace", "-n", help="Kubernetes namespace; the context's if not given.")
    @click.option("--context", help="Context of the kubeconfig; the current one if not given.")
    @functools.wraps(command)
    def with_connection(
        *, backend: str | None, namespace: str | None, context: str | None, **arguments: object
    ) -> None:
        command(connection=Connection(backend=backend, namespace=namespace, context=context), **arguments)

    return with_connection  # type: ignore[return-value]


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one line each, and nothing else.")
_dry_run = click.option("--dry-run", is_flag=True, help="Print the manifests and create nothing.")
_detach = click.option("--detach", "-d", is_flag=True, help="Return when the job is submitted.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tunewright")
def cli() -> None:
    """Fine-tune LLMs on your own Kubernetes, or on this machine."""


@cli.command()
@click.argument("job_file", type=click.Path(path_type=Path))
@click.option("--set", "assignments", multiple=True, metavar="A.B=C", help="Change a value of the job file.")
@_connected
@_dry_run
@_detach
@_json
def train(
    *,
    job_file: Path,
    assignments: tuple[str, ...],
    connection: Connection,
    dry_run: bool,
    detach: bool,
    as_json: bool,
) -> None:
    """Run the job in JOB_FILE and follow it. The same command again goes on where it stopped."""
    from tunewright.cli import jobfile
    from tunewright.errors import AlreadySucceeded

    client, keywords = _read(job_file, assignments, connection)
    start: Callable[..., Job | Manifests] = client.create_job if jobfile.is_code(keywords) else client.train
    try:
        created = start(dry_run=dry_run, **keywords)
    except AlreadySucceeded as done:
        click.echo(str(done), err=True)
        created = client.get_job(done.name)
    _follow(created, detach=detach, as_json=as_json)


@cli.command(context_settings={"allow_interspersed_args": False})
@click.argument("script", type=click.Path(path_type=Path))
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("--name", help="The job's name; generated if not given.")
@click.option("--workers", type=int, default=1, show_default=True, help="Pods.")
@click.option("--procs", default="1", show_default=True, help='Processes in each worker; "auto": one for each GPU.')
@click.option("--gpu", type=int, default=0, show_default=True, help="GPUs of each worker.")
@click.option("--cpu", help="Cores of each worker, as a Kubernetes quantity.")
@click.option("--memory", help="Memory of each worker, as a Kubernetes quantity.")
@click.option("--image", help="Image to run it in.")
@click.option("--package", "packages", multiple=True, help="A pip requirement to install first.")
@_connected
@_dry_run
@_detach
@_json
def run(
    *,
    script: Path,
    args: tuple[str, ...],
    name: str | None,
    workers: int,
    procs: str,
    gpu: int,
    cpu: str | None,
    memory: str | None,
    image: str | None,
    packages: tuple[str, ...],
    connection: Connection,
    dry_run: bool,
    detach: bool,
    as_json: bool,
) -> None:
    """Run a Python SCRIPT under torchrun; whatever follows it, options too, are its ARGS."""
    resources = {"gpu": gpu, "cpu": cpu, "memory": memory}
    start: Callable[..., Job | Manifests] = connection.client("kubernetes").create_job
    created = start(
        name,
        script=script,
        args=args,
        num_workers=workers,
        num_procs_per_worker=procs,
        resources_per_worker={k: v for k, v in resources.items() if v is not None},
        base_image=image,
        packages_to_install=packages,
        dry_run=dry_run,
    )
    _follow(created, detach=detach, as_json=as_json)


@cli.command("list")
@click.option("--label", "-l", "labels", multiple=True, metavar="KEY=VALUE", help="Only jobs that have this label.")
@_connected
@_json
def list_(labels: tuple[str, ...], connection: Connection, as_json: bool) -> None:
    """List the jobs, newest first."""
    from tunewright.cli.labels import pairs
    from tunewright.cli.show import statuses

    statuses(connection.client("local").backend.list(pairs(labels)), as_json=as_json)


@cli.command()
@click.argument("name")
@_connected
@_json
def status(name: str, connection: Connection, as_json: bool) -> None:
    """Show where a job is, and why."""
    from tunewright.cli.show import one_status

    one_status(connection.job(name).status(), as_json=as_json)


@cli.command()
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on until the job has ended.")
@click.option("--step", help='Only this step: "fetch-model", "fetch-dataset", "check", "train".')
@click.option("--worker", type=int, help="Only this worker.")
@_connected
def logs(
    *,
    name: str,
    follow: bool,
    step: str | None,
    worker: int | None,
    connection: Connection,
) -> None:
    """Print a job's log."""
    for line in connection.job(name).logs(follow=follow, step=step, worker=worker):
        click.echo(line)


@cli.command()
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on until the job has ended.")
@_connected
def events(name: str, follow: bool, connection: Connection) -> None:
    """Print a job's events as JSON, one line each."""
    from tunewright.events import format_event

    for event in connection.job(name).events(follow=follow):
        click.echo(format_event(event))


@cli.command()
@click.argument("name")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with the curves there, too."
)
@_connected
@_json
def report(name: str, html: Path | None, connection: Connection, as_json: bool) -> None:
    """Show what a job was asked for, what happened, and what came of it."""
    from tunewright.cli.show import one_report

    found = connection.job(name).report()
    if html is not None:
        html.write_text(found.to_html(), "utf-8")
    one_report(found, as_json=as_json)


@cli.command()
@click.argument("name")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Set a label; KEY- removes it.")
@click.option("--annotation", "annotations", multiple=True, metavar="KEY=VALUE", help="Likewise an annotation.")
@click.option("--ttl", type=int, help="Seconds after its end until the job is deleted.")
@click.option("--deadline", type=int, help="Seconds that the job may take; while it is suspended.")
@click.option("--max-restarts", type=int, help="Restarts without a new checkpoint; while it is suspended.")
@click.option("--queue", help="Kueue's local queue; while it is suspended.")
@click.option("--priority-class", help="The pods' PriorityClass; while it is suspended.")
@_connected
def update(
    *,
    name: str,
    labels: tuple[str, ...],
    annotations: tuple[str, ...],
    connection: Connection,
    **options: object,
) -> None:
    """Change what may still be changed of a job."""
    from tunewright.cli.labels import changes

    given = {k: v for k, v in options.items() if v is not None}
    for key, words in (("labels", labels), ("annotations", annotations)):
        if words:
            given[key] = changes(words)
    change: Callable[..., None] = connection.job(name).update
    change(**given)
    click.echo(f"{name} is changed.")


@cli.command()
@click.argument("name")
@_connected
def suspend(name: str, connection: Connection) -> None:
    """End a job's processes and keep its files."""
    job = connection.job(name)
    job.suspend()
    click.echo(f"{name} is suspended. Go on from its newest checkpoint: {job.command_for('resume')}")


@cli.command()
@click.argument("name")
@_connected
@_detach
@_json
def resume(*, name: str, connection: Connection, detach: bool, as_json: bool) -> None:
    """Start a suspended or interrupted job again, from its newest checkpoint."""
    job = connection.job(name)
    job.resume()
    _follow(job, detach=detach, as_json=as_json)


@cli.command()
@click.argument("name")
@_connected
def delete(name: str, connection: Connection) -> None:
    """End a job and remove it with everything that it owns."""
    connection.job(name).delete()
    click.echo(f"{name} is deleted.")


@cli.command()
@_json
def plugins(as_json: bool) -> None:
    """Show the installed plugins, and what is wrong with those that cannot be used."""
    from tunewright.cli.show import plugin_table
    from tunewright.plugins.registry import Registry

    plugin_table(Registry(), as_json=as_json)


@cli.command()
@click.argument("job_file", type=click.Path(path_type=Path), required=False)
@click.option("--set", "assignments", multiple=True, metavar="A.B=C", help="Change a value of the job file.")
@_connected
@_json
def doctor(*, job_file: Path | None, assignments: tuple[str, ...], connection: Connection, as_json: bool) -> None:
    """Look at what jobs need, or at what the one in JOB_FILE needs, and say what is missing. Creates nothing."""
    from tunewright._client.doctor import diagnose
    from tunewright.cli import jobfile
    from tunewright.cli.show import findings

    if job_file is None:
        found = diagnose(connection.client("kubernetes"))
    else:
        client, keywords = _read(job_file, assignments, connection)
        request: Callable[..., Request] = client.code_request if jobfile.is_code(keywords) else client.train_request
        found = diagnose(client, functools.partial(request, **keywords))
    sys.exit(findings(found, as_json=as_json))


@cli.command()
@click.argument("job_file", type=click.Path(path_type=Path))
@click.option("--set", "assignments", multiple=True, metavar="A.B=C", help="Change a value of the job file.")
@click.option("--count", "-c", type=click.IntRange(min=1), default=3, show_default=True, help="Samples to show.")
@_json
def preview(*, job_file: Path, assignments: tuple[str, ...], count: int, as_json: bool) -> None:
    """Show the first samples that the job in JOB_FILE trains on, and what of them is learnt. Creates nothing."""
    from tunewright.cli.preview import show_samples

    client, keywords = _read(job_file, assignments, Connection(backend="local", namespace=None, context=None))
    request: Callable[..., TrainRequest] = client.train_request
    show_samples(request(**keywords), count, as_json=as_json)


@cli.command("new-plugin")
@click.argument("name")
def new_plugin(name: str) -> None:
    """Write a plugin to begin with, for NAME:// datasets, into the folder tunewright-NAME."""
    from tunewright.cli import new_plugin as writer

    folder = writer.new_plugin(name, Path.cwd())
    click.echo(f"Wrote {folder}. Next: pip install -e {folder.name}[test] && pytest {folder.name}")


@cli.command()
@click.argument("uri")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(["model", "dataset"]), default="model", show_default=True)
@_json
def fetch(*, uri: str, folder: Path, kind: Literal["model", "dataset"], as_json: bool) -> None:
    """Fetch URI into FOLDER/model or FOLDER/dataset: what an init container does, by hand."""
    from tunewright.cli.fetching import fetch_by_hand

    fetch_by_hand(uri, folder, kind, as_json=as_json)


def _read(job_file: Path, assignments: tuple[str, ...], connection: Connection) -> tuple[TrainingClient, Keywords]:
    """The client, and the job's keywords, with paths that are relative to the file."""
    from tunewright.cli import jobfile

    written, keywords = jobfile.split(jobfile.load(job_file, assignments))
    given = attrs.asdict(connection)
    client = Connection(**{k: given[k] or written[k] for k in given}).client("kubernetes")
    folder = job_file.absolute().parent
    if not jobfile.is_code(keywords):
        keywords["base_folder"] = folder
    for key in ("script", "script_folder", "job"):
        if isinstance(path := keywords.get(key), str):
            keywords[key] = folder / path
    return client, keywords


def _follow(created: Job | Manifests, *, detach: bool, as_json: bool) -> None:
    from tunewright._client.job import Job
    from tunewright._views.follow import follow

    if not isinstance(created, Job):
        click.echo(created.to_yaml() if not as_json else _as_lines(created), nl=False)
        return
    if detach:
        click.echo(f"{created.name} is submitted. Follow it: {created.command_for('logs -f')}", err=as_json)
        return
    try:
        end = follow(created, style="json" if as_json else "auto")
    except KeyboardInterrupt:
        click.echo(f"\n{created.interrupt()}", err=True)
        sys.exit(130)
    sys.exit(0 if end.state == "Succeeded" else 1)


def _as_lines(manifests: Manifests) -> str:
    import json

    return "".join(json.dumps(document) + "\n" for document in manifests)
