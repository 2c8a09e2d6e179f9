"""What several commands share: the backend to use, and options."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import attrs
import click

if TYPE_CHECKING:
    from tunewright._client.client import TrainingClient
    from tunewright._client.job import Job

_F = TypeVar("_F", bound=Callable[..., None])


@attrs.frozen(kw_only=True)
class Connection:
    """The backend to use, and where it runs."""

    backend: str | None
    namespace: str | None
    context: str | None

    def client(self, default: str) -> TrainingClient:
        """Return a client for the backend that the user named, or for the default one."""
        from tunewright._client.client import TrainingClient

        return TrainingClient(self.backend or default, namespace=self.namespace, context=self.context)

    def job(self, name: str) -> Job:
        """Return the job with this name, on the backend that the user named, or on this machine."""
        return self.client("local").get_job(name)


def connected(command: _F) -> _F:
    """Add the options of a `Connection`, and pass it to the command as `connection`."""

    @click.option("--backend", help='Backend plugin, such as "kubernetes" or "local".')
    @click.option("--namespace", "-n", help="Kubernetes namespace; defaults to the context's.")
    @click.option("--context", help="Kubeconfig context; defaults to the current one.")
    @functools.wraps(command)
    def with_connection(
        *, backend: str | None, namespace: str | None, context: str | None, **arguments: object
    ) -> None:
        command(connection=Connection(backend=backend, namespace=namespace, context=context), **arguments)

    return with_connection  # type: ignore[return-value]


json_option = click.option("--json", "as_json", is_flag=True, help="Print only JSON, one object per line.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the manifests without creating anything.")
detach_option = click.option("--detach", "-d", is_flag=True, help="Return once the job is submitted.")
