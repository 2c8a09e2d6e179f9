"""The backend `gitops` for Tunewright: manifests in a folder, for a tool that applies them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import yaml
from tunewright import JobError, JobPlan, JobState, JobStatus, Manifests, RequestError, hookimpl
from tunewright.backends.base import Backend, BackendOptions, LogLine
from tunewright.plugins import Registry


class GitopsBackend(Backend):
    """One file of manifests for each job."""

    suspends_on_interrupt = False

    def __init__(self, folder: Path, kubernetes: Backend) -> None:
        self._folder, self._kubernetes = folder, kubernetes

    @classmethod
    def connect(cls, options: BackendOptions) -> Self:
        """Find the folder; needs no network."""
        kubernetes = Registry().get("kubernetes").provider("backend").connect(options)
        return cls(Path(os.environ.get("GITOPS_FOLDER", "jobs")), kubernetes)

    def render(self, plan: JobPlan) -> Manifests:
        """Return what would be written. A literal secret cannot be committed."""
        if any(container.secrets for container in plan.containers):
            remedy = "Refer to a Kubernetes Secret: SecretRef(name=…, key=…)."
            raise RequestError("has a literal secret, which would be written to a file", field="job", remedy=remedy)
        return self._kubernetes.render(plan)

    def submit(self, plan: JobPlan) -> None:
        """Write the file; it appears whole or not at all."""
        text, file = self.render(plan).to_yaml(), self._file(plan.name)
        if file.exists():
            raise JobError(f"There is a job {plan.name!r} already. Choose another name.", name=plan.name)
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".tmp")
        partial.write_text(text, "utf-8")
        partial.replace(file)

    def get(self, name: str) -> JobStatus:
        """Return all that is known here: that the job was written."""
        if not self._file(name).exists():
            raise JobError(f"There is no job {name!r}. List them: tunewright list --backend gitops", name=name)
        (job, *_) = yaml.safe_load_all(self._file(name).read_text("utf-8"))
        detail = f"Written to {self._file(name)}."
        return JobStatus(name=name, state=JobState.CREATED, labels=job["metadata"].get("labels", {}), detail=detail)

    def list(self, labels: Mapping[str, str] | None = None) -> list[JobStatus]:
        """Return all jobs, newest first, with all of these labels."""
        files = sorted(self._folder.glob("*.yaml"), key=lambda file: -file.stat().st_mtime)
        found = [self.get(file.stem) for file in files]
        return [status for status in found if dict(labels or {}).items() <= status.labels.items()]

    def logs(
        self, name: str, *, follow: bool = False, container: str | None = None, worker: int | None = None
    ) -> Iterator[LogLine]:
        """Return nothing: the logs are on the cluster."""
        self.get(name)
        return iter(())

    def suspend(self, name: str) -> None:
        """Refuse: the tool decides when to apply."""
        raise self._not_here(name)

    def resume(self, name: str) -> None:
        """Refuse: the tool decides when to apply."""
        raise self._not_here(name)

    def delete(self, name: str) -> None:
        """Remove the file."""
        self.get(name)
        self._file(name).unlink()

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.yaml"

    def _not_here(self, name: str) -> JobError:
        self.get(name)
        return JobError(f"{name} is only a file here. Use --backend kubernetes on its cluster.", name=name)


@hookimpl
def tunewright_backend() -> type[Backend]:
    """Return the class for backend="gitops"."""
    return GitopsBackend
