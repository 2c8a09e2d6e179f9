"""What several commands share: the backend to use, and options."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import attrs
import click

from tunewright.cli import completion
from tunewright.environment import SETTINGS, user_setting

if TYPE_CHECKING:
    from tunewright._client.client import TrainingClient
    from tunewright._client.job import Job

_F = TypeVar("_F", bound=Callable[..., None])

BUILT_IN_BACKEND = "local"
KINDS = ("pytorchjob", "trainjob", "job")
"""The kinds of job objects; the backend knows them, and is not imported for the help."""


@attrs.frozen(kw_only=True)
class Connection:
    """The backend to use, and where it runs; None for what `tunewright config` or the environment say."""

    backend: str | None = None
    kind: str | None = None
    namespace: str | None = None
    context: str | None = None

    def client(self) -> TrainingClient:
        """Return a client for the backend that the user named, or for the default one."""
        from tunewright._client.client import TrainingClient

        backend, kind, namespace, context = (getattr(self, name) or user_setting(name) for name in SETTINGS)
        return TrainingClient(backend or BUILT_IN_BACKEND, kind=kind, namespace=namespace, context=context)

    def job(self, name: str) -> Job:
        """Return the job with this name without looking for it; the first thing that is asked of it says if it is not there."""
        from tunewright._client.job import Job

        return Job(name, self.client().backend)


def connected(command: _F) -> _F:
    """Add the options of a `Connection`, and pass it to the command as `connection`."""

    @click.option(
        "--backend",
        help='Backend plugin, such as "kubernetes" or "local"; by default as `tunewright config` says, or else "local".',
        shell_complete=completion.backends,
    )
    @click.option(
        "--kind",
        type=click.Choice(KINDS, case_sensitive=False),
        help='Kind of job object that the backend "kubernetes" creates; by default the first that the cluster can run.',
    )
    @click.option("--namespace", "-n", help="Kubernetes namespace; defaults to the context's.")
    @click.option("--context", help="Kubeconfig context; defaults to the current one.")
    @functools.wraps(command)
    def with_connection(
        *, backend: str | None, kind: str | None, namespace: str | None, context: str | None, **arguments: object
    ) -> None:
        connection = Connection(backend=backend, kind=kind, namespace=namespace, context=context)
        command(connection=connection, **arguments)

    return with_connection  # type: ignore[return-value]


name_argument = click.argument("name", shell_complete=completion.jobs)
set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="A.B=C",
    help="Set a value of the job file: --set trainer.lora_config.r=16.",
    shell_complete=completion.keys,
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print only JSON, one object per line.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the manifests without creating anything.")
detach_option = click.option("--detach", "-d", is_flag=True, help="Return once the job is submitted.")


class Duration(click.ParamType[object]):
    """Seconds, or a number with a unit: "90", "30m", "1h", "1h30m"."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """Return whole seconds."""
        from tunewright.plan.policies import to_seconds

        seconds = to_seconds(value)
        if not isinstance(seconds, int):
            self.fail(f"{value!r} is not a duration: write seconds, or 30m, 1h, 2d.", param, ctx)
        return seconds
