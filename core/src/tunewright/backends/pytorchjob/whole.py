"""A PyTorchJob that the user wrote whole: checked, named and labelled, and otherwise left as it is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.backends.kubernetes import names
from tunewright.errors import RequestError
from tunewright.plan.manifests import Document, Manifests
from tunewright.plan.plan import CODE, RUNS
from tunewright.request.whole import RawManifest, part

_REPLICAS = "job.spec.pytorchReplicaSpecs"


def render_raw(job: RawManifest, namespace: str | None) -> Manifests:
    """The job as it is submitted: it and its pods get the labels by which jobs are found.

    Args:
        job: the user's.
        namespace: where; None leaves it to the manifest, or to whoever applies it.

    Raises:
        RequestError: it is no PyTorchJob, or none that can run here.
    """
    manifest = job.job
    if (manifest.get("apiVersion"), manifest.get("kind")) != (names.API_VERSION, names.KIND):
        found = f"{manifest.get('apiVersion')} {manifest.get('kind')}"
        remedy = f"Write apiVersion: {names.API_VERSION} and kind: {names.KIND}."
        raise RequestError("is not a job that can be looked after here", field="job", value=found, remedy=remedy)
    metadata = part(manifest, "metadata", "job")
    if namespace:
        check_namespace(manifest, namespace)
    where = {"namespace": namespace} if namespace else {}
    labels = {RUNS: CODE, **names.labels(job.name)}
    return Manifests(
        [
            {
                **manifest,
                "metadata": {**_labelled(metadata, labels, "job.metadata"), "name": job.name, **where},
                "spec": _spec(job),
            }
        ]
    )


def check_namespace(manifest: Mapping[str, Any], namespace: str) -> None:
    """Refuse a job of another namespace than the client's, in which it would never be found again.

    Raises:
        RequestError: it is one.
    """
    own = part(manifest, "metadata", "job").get("namespace")
    if own not in (None, namespace):
        remedy = f"Use TrainingClient(namespace={own!r}), or leave it out of the manifest."
        problem = f"is not {namespace!r}, the client's namespace"
        raise RequestError(problem, field="job.metadata.namespace", value=own, remedy=remedy)


def _spec(job: RawManifest) -> Document:
    spec = part(job.job, "spec", "job")
    replicas = part(spec, "pytorchReplicaSpecs", "job.spec")
    if not replicas or set(replicas) - {names.MASTER, names.WORKER}:
        remedy = f"Write {names.MASTER} and {names.WORKER}, or one of them."
        raise RequestError("are not those of a PyTorchJob", field=_REPLICAS, value=sorted(replicas), remedy=remedy)
    return {**spec, "pytorchReplicaSpecs": {role: _replica(job.name, replicas, role) for role in replicas}}


def _replica(job: str, replicas: Mapping[str, Any], role: str) -> Document:
    replica, path = part(replicas, role, _REPLICAS), f"{_REPLICAS}.{role}.template"
    template = part(replica, "template", f"{_REPLICAS}.{role}")
    containers = part(template, "spec", path).get("containers")
    listed = containers if isinstance(containers, list) else []
    if names.MAIN not in [c.get("name") for c in listed if isinstance(c, Mapping)]:
        remedy = f"Call the container that trains {names.MAIN!r}: the operator looks for it."
        raise RequestError(f"has no container {names.MAIN!r}", field=f"{path}.spec.containers", remedy=remedy)
    metadata = part(template, "metadata", path)
    return {
        **replica,
        "template": {**template, "metadata": _labelled(metadata, names.labels(job), f"{path}.metadata")},
    }


def _labelled(metadata: Mapping[str, Any], ours: Mapping[str, str], path: str) -> Document:
    theirs = part(metadata, "labels", path)
    for name, value in ours.items():
        if theirs.get(name, value) != value:
            field = f"{path}.labels[{name!r}]"
            remedy = "Leave it out: jobs are found by it."
            raise RequestError("is set by Tunewright", field=field, value=theirs[name], remedy=remedy)
    return {**metadata, "labels": {**theirs, **ours}}
