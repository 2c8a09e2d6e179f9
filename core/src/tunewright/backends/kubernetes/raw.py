"""A manifest that the user wrote: checked, named and labelled, and otherwise unchanged. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.kind import JobKind
from tunewright.backends.kubernetes.labels import labelled
from tunewright.errors import RequestError
from tunewright.plan.manifests import Manifests
from tunewright.plan.plan import CODE, RUNS
from tunewright.request.raw import RawManifest, part


def render_raw(kind: JobKind, manifest: RawManifest, namespace: str | None) -> Manifests:
    """Render the manifest as it is submitted: the job and its pods get the labels by which jobs are found.

    Args:
        kind: of the job.
        manifest: the user's.
        namespace: the client's; None leaves it to the manifest, or to whoever applies it.

    Raises:
        RequestError: it is not a job of this kind, or it cannot run here.
    """
    job = manifest.document
    if (job.get("apiVersion"), job.get("kind")) != (kind.api_version, kind.kind):
        found = f"{job.get('apiVersion')} {job.get('kind')}"
        remedy = f"Write apiVersion: {kind.api_version} and kind: {kind.kind}."
        raise RequestError(
            "is not a kind of job that this backend manages", field="manifest", value=found, remedy=remedy
        )
    metadata = part(job, "metadata", "manifest")
    if namespace:
        check_namespace(job, namespace)
    where = {"namespace": namespace} if namespace else {}
    labels = {RUNS: CODE, **names.labels(manifest.name)}
    named = {**labelled(metadata, labels, "manifest.metadata", "job"), "name": manifest.name, **where}
    return Manifests([{**job, "metadata": named, "spec": kind.raw(manifest)}])


def check_namespace(manifest: Mapping[str, Any], namespace: str) -> None:
    """Refuse a job in another namespace than the client's, where it would never be found again.

    Raises:
        RequestError: the namespaces differ.
    """
    own = part(manifest, "metadata", "manifest").get("namespace")
    if own not in (None, namespace):
        remedy = f"Use TrainingClient(namespace={own!r}), or leave it out of the manifest."
        problem = f"is not {namespace!r}, the client's namespace"
        raise RequestError(problem, field="manifest.metadata.namespace", value=own, remedy=remedy)
