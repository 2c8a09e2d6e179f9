"""The backend `kubernetes`: plans become PyTorchJobs of the Kubeflow training-operator (kubeflow.org/v1)."""

# The base class documents the methods, and those that only refuse have no use for their arguments.
# ruff: noqa: ARG002, D102

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Self

import attrs

from tunewright.backends import Backend, BackendOptions, JobStatus, LogLine
from tunewright.backends.pytorchjob.render import render
from tunewright.errors import RequestError
from tunewright.hookspecs import hookimpl
from tunewright.manifests import Manifests
from tunewright.specs import JobPlan


@attrs.frozen(kw_only=True)
class PyTorchJobBackend(Backend):
    """Renders plans as PyTorchJobs. This release does not submit them.

    Attributes:
        options: what `TrainingClient` was given.
    """

    options: BackendOptions

    @classmethod
    def connect(cls, options: BackendOptions) -> Self:
        """Make one; no kubeconfig is read."""
        return cls(options=options)

    def render(self, plan: JobPlan) -> Manifests:
        """The PyTorchJob, and the Secret, ConfigMap and claims that belong to it; raises as `Backend.render`."""
        return render(plan, self.options.namespace)

    def submit(self, plan: JobPlan) -> None:
        """Refuse, after everything that can be wrong with the plan was looked at."""
        self.render(plan)
        raise _renders_only()

    def get(self, name: str) -> JobStatus:
        raise _renders_only()

    def list(self, labels: Mapping[str, str] | None = None) -> list[JobStatus]:
        raise _renders_only()

    def logs(
        self, name: str, *, follow: bool = False, step: str | None = None, worker: int | None = None
    ) -> Iterator[LogLine]:
        raise _renders_only()

    def suspend(self, name: str) -> None:
        raise _renders_only()

    def resume(self, name: str) -> None:
        raise _renders_only()

    def delete(self, name: str) -> None:
        raise _renders_only()


def _renders_only() -> RequestError:
    problem = "this release renders jobs for Kubernetes and does not submit them"
    remedy = 'Use --dry-run (dry_run=True) and `kubectl apply -f -`, or backend="local".'
    return RequestError(problem, field="backend", value="kubernetes", remedy=remedy)


@hookimpl
def tunewright_backend() -> type[Backend]:  # noqa: D103 - the hookspec documents it
    return PyTorchJobBackend
