"""Submit a job: create its objects in an order that leaves nothing behind if something fails in between."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tunewright import _canonical, environment
from tunewright._doing import doing
from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.failures import ApiFailure, NameTaken
from tunewright.backends.kubernetes.kind import JobKind, Object
from tunewright.backends.kubernetes.sealed import seal
from tunewright.plan.plan import JOB_FILE, RUNNER_FILE, JobPlan, NewClaim

# Seconds to wait for the pods of an earlier job of the same name to terminate: more than twice the usual grace period,
# which the user can raise.
_LEFTOVERS = 90.0
_TICK = 0.25
_UNOWNED = 60.0  # seconds after which nobody will create the job any more for which something was created
_UNREADY = 15.0  # seconds for the controller's cache to follow the API server
UNFINISHED = "status.phase!=Succeeded,status.phase!=Failed"
"""Selects the pods that have not ended."""

_NOT_THE_JOB = (RUNNER_FILE, JOB_FILE)  # files that may differ between two submissions of the same job
_CLAIM = "PersistentVolumeClaim"

# What may change between two submissions of the same job.
_MAY_CHANGE = {environment.MAX_RESTARTS, environment.DEADLINE}


def submit(api: Api, documents: Sequence[Object], kept: Collection[str]) -> None:
    """Create a job's objects: the job first, then what it owns, so that nothing can be orphaned.

    What must exist before the job is adopted by it at once; what a client leaves that dies in between is replaced by the
    next submission, and removed by `delete`.

    The pods wait for what they mount. The claim comes last and keeps them from being scheduled, so no GPU is held while
    something is missing. If a step in between fails, the job is deleted, and the cluster deletes what it owns.

    Args:
        api: the cluster.
        documents: the job's manifests, secrets revealed, in the order in which they are rendered.
        kept: names of the claims that outlive the job.

    Raises:
        NameTaken: an object of that name already exists.
        ApiFailure: the cluster refuses a request.
    """
    before, job, owned = api.kind.parts(documents)
    digest, name = plan_digest(api.kind, documents), job["metadata"]["name"]
    job = _annotated(_with_digest(job, digest), names.SECRETS, seal(documents))
    owned = [_with_digest(document, digest) if _is_kept(document, kept) else document for document in owned]
    missing = [document for document in owned if not _is_kept_already(api, name, document, kept)]
    doing(f"waiting until no pod of an earlier job {name} is left")
    _await_leftovers(api, name)
    made: list[Object] = []
    try:
        for document in before:
            doing(f"creating {document['kind']}/{name}")
            made.append(api.create(document))
        doing(f"creating {job['kind']}/{name}")
        made.append({**job, "metadata": {"uid": _create_job(api, job)}})
        owner = {"apiVersion": job["apiVersion"], "kind": job["kind"], "name": name, "uid": made[-1]["metadata"]["uid"]}
        for document in before:
            api.patch(document["kind"], name, {"metadata": {"ownerReferences": [owner]}})
        for document in missing:
            doing(f"creating {document['kind']}/{document['metadata']['name']}")
            api.create(document if _is_kept(document, kept) else _owned(document, owner))
    except BaseException:  # Ctrl-C, too
        for document in reversed(made):
            with contextlib.suppress(ApiFailure):  # report the first failure
                api.delete(document["kind"], name, uid=document["metadata"]["uid"])
        raise


def remove_unowned(api: Api, name: str, *, older_than: float = 0.0) -> bool:
    """Remove what a client left that died before it created the job; return whether there was something.

    Args:
        api: the cluster, which has no job of that name.
        name: the job's.
        older_than: seconds; another client may be about to create the job.
    """
    found = False
    for kind in api.kind.before:
        with contextlib.suppress(ApiFailure):
            metadata = (api.find(kind, name, metadata=True) or {"metadata": {}})["metadata"]
            ours = (metadata.get("labels") or {}).get(names.MANAGED_BY) == "tunewright"
            if ours and not metadata.get("ownerReferences") and _age(metadata) >= older_than:
                api.delete(kind, name, uid=metadata["uid"])
                found = True
    return found


def _age(metadata: Object) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(metadata["creationTimestamp"])).total_seconds()


def _create_job(api: Api, job: Object) -> str:
    """Create the job and return its uid, even if the response was lost: otherwise the job would stay without its objects."""
    try:
        return str(_create_admitted(api, job)["metadata"]["uid"])
    except ApiFailure as failure:
        metadata = _metadata_of(api, job) if failure.may_pass else {}
        if (metadata.get("annotations") or {}).get(names.PLAN) != job["metadata"]["annotations"][names.PLAN]:
            raise
        return str(metadata["uid"])


def _create_admitted(api: Api, job: Object) -> Object:
    """Create the job; try again for some seconds while the webhook has not seen what was created just before."""
    end = time.monotonic() + _UNREADY
    while True:
        try:
            return api.create(job)
        except ApiFailure as failure:
            unready = bool(api.kind.unready) and api.kind.unready in failure.message
            if not unready or time.monotonic() > end:
                raise
        time.sleep(_TICK)


def _metadata_of(api: Api, document: Object) -> Object:
    with contextlib.suppress(ApiFailure):
        found = api.find(document["kind"], document["metadata"]["name"], metadata=True)
        return found["metadata"] if found else {}
    return {}


def kept_claims(plan: JobPlan) -> set[str]:
    """Return the names of the plan's claims that outlive the job."""
    sources = {names.claim_name(plan.name, v.name): v.source for v in plan.volumes}
    return {name for name, source in sources.items() if isinstance(source, NewClaim) and source.keep}


def plan_digest(kind: JobKind, documents: Sequence[Object]) -> str:
    """Return a digest of what a job does: two submissions with the same digest are the same job.

    Deadline, number of restarts, labels and secrets do not count.
    """
    before, job, owned = kind.parts(documents)
    files = [d["data"] for d in owned if d["kind"] == "ConfigMap"]
    claims = [d["spec"] for d in owned if d["kind"] == _CLAIM]
    data = [{name: text for name, text in texts.items() if name not in _NOT_THE_JOB} for texts in files]
    content = {"spec": _without(job["spec"], kind.policy), "files": data, "claims": claims}
    if before:
        content["before"] = [_without(document["spec"], kind.policy) for document in before]
    return _canonical.digest(_pruned(content))


def await_gone(look: Callable[[], bool], seconds: float) -> bool:
    """Poll until `look` returns False or the time is up; return whether it is gone."""
    end = time.monotonic() + seconds
    while look():
        if time.monotonic() > end:
            return False
        time.sleep(_TICK)
    return True


def has_pods(api: Api, name: str) -> bool:
    """Return whether a job of that name has pods."""
    return bool(api.list("Pod", _of_job(api, name), metadata=True).items)


def has_unfinished_pods(api: Api, name: str) -> bool:
    """Return whether a job has pods that have not ended, or are being deleted; some controllers keep others for their logs."""
    pods = api.list("Pod", _of_job(api, name), metadata=True).items
    if any("deletionTimestamp" in pod["metadata"] for pod in pods):
        return True
    return bool(api.list("Pod", {**_of_job(api, name), "fieldSelector": UNFINISHED}, metadata=True).items)


def _of_job(api: Api, name: str) -> dict[str, str]:
    return {"labelSelector": f"{api.kind.job_label}={name}"}


def remains(api: Api, name: str) -> bool:
    """Return whether the job object, what was created before it, or any pod of that name still exists."""
    kinds = (api.kind.kind, *api.kind.before)
    return has_pods(api, name) or any(api.find(kind, name, metadata=True) is not None for kind in kinds)


def _await_leftovers(api: Api, name: str) -> None:
    """Wait for the pods of a deleted job: the new job's pods have the same names and would be mistaken for them."""
    remove_unowned(api, name, older_than=_UNOWNED)
    if not await_gone(lambda: remains(api, name), _LEFTOVERS):
        problem = f"The pods of an earlier job {name!r} have not terminated after {_LEFTOVERS:.0f} seconds."
        remedy = f"Choose another name, or look at them: kubectl get pods -l {api.kind.job_label}={name}"
        raise NameTaken(f"{problem} {remedy}", name=name)


def _is_kept(document: Object, kept: Collection[str]) -> bool:
    """Return whether it is a claim that outlives the job; such claims carry the digest, as the job does."""
    return document["kind"] == _CLAIM and document["metadata"]["name"] in kept


def _is_kept_already(api: Api, job: str, document: Object, kept: Collection[str]) -> bool:
    """Return whether an earlier run of the same job left its claim; this run continues from the checkpoints on it.

    Raises:
        NameTaken: the claim exists and belongs to another job.
    """
    if document["kind"] != _CLAIM:
        return False
    metadata = document["metadata"]
    found = api.find(_CLAIM, metadata["name"], metadata=True)
    if found is None:
        return False
    theirs, ours = ((m.get("annotations") or {}).get(names.PLAN) for m in (found["metadata"], metadata))
    if "deletionTimestamp" not in found["metadata"] and _is_kept(document, kept) and theirs == ours:
        return True
    problem = f"A claim named {metadata['name']!r} already exists, and it was created for another job than {job!r}."
    delete = names.command_for(
        "delete", f"{job} --with-result", api.namespace, backend=api.kind.backend, context=api.context
    )
    remedy = f"Choose another name for the job, or delete the claim with its files: {delete}"
    raise NameTaken(f"{problem} {remedy}", name=job)


def _with_digest(document: Object, digest: str) -> Object:
    return _annotated(document, names.PLAN, digest)


def _annotated(document: Object, name: str, value: str) -> Object:
    if not value:
        return document
    metadata = document["metadata"]
    annotations = {**(metadata.get("annotations") or {}), name: value}
    return {**document, "metadata": {**metadata, "annotations": annotations}}


def _owned(document: Object, owner: Mapping[str, str]) -> Object:
    return {**document, "metadata": {**document["metadata"], "ownerReferences": [dict(owner)]}}


def _pruned(value: Any) -> Any:
    """Return the value without metadata and without the variables that may change."""
    if isinstance(value, dict):
        return {k: _pruned(v) for k, v in value.items() if k != "metadata"}
    if isinstance(value, list):
        return [_pruned(v) for v in value if not (isinstance(v, dict) and v.get("name") in _MAY_CHANGE)]
    return value


def _without(value: Any, keys: Collection[str]) -> Any:
    """Return the value without these keys, at any depth."""
    if isinstance(value, dict):
        return {k: _without(v, keys) for k, v in value.items() if k not in keys}
    return [_without(v, keys) for v in value] if isinstance(value, list) else value
