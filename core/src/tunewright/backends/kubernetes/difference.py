"""In what a request differs from the job of its name that exists already, for people."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.failures import ApiFailure
from tunewright.backends.kubernetes.kind import JobKind, Object
from tunewright.plan.changes import Change, job_changes, listed
from tunewright.plan.plan import RUNNER_FILE

_CLAIM = "PersistentVolumeClaim"


def difference(api: Api, documents: Sequence[Object]) -> str:
    """Return what differs, by the keys of a job file: "num_workers (1 → 2)"; "" if that cannot be told.

    Args:
        api: the cluster, which has the job.
        documents: the manifests of the request.
    """
    return listed(_changes(api, documents))


def _changes(api: Api, documents: Sequence[Object]) -> list[Change]:
    old: tuple[dict[str, Any], dict[str, str]] = ({}, {})
    new: tuple[dict[str, Any], dict[str, str]] = ({}, {})
    for document in documents:
        if document["kind"] == "Secret" or (existing := _existing(api, document)) is None:
            continue
        for (spec, files), found in ((old, existing), (new, document)):
            files.update(_files(found))
            spec.update(_spec(api.kind, found))
    return job_changes(old, new, only_given=True)


def _existing(api: Api, document: Object) -> Object | None:
    with contextlib.suppress(ApiFailure):  # the difference is only a help: the request is refused either way
        return api.find(document["kind"], document["metadata"]["name"])
    return None


def _spec(kind: JobKind, document: Object) -> dict[str, Any]:
    if document["kind"] == _CLAIM:
        return {"claim": document["spec"]}
    if "spec" not in document:
        return {}
    return {k: v for k, v in document["spec"].items() if k not in kind.policy}


def _files(config: Object) -> dict[str, str]:
    if config["kind"] != "ConfigMap":
        return {}
    return {name: text for name, text in (config.get("data") or {}).items() if name != RUNNER_FILE}
