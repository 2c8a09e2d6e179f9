"""Whether a kind of job is there for a user: known to the cluster, and allowed. Each raises what `explained` makes of the rest."""

from __future__ import annotations

from http import HTTPStatus

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.failures import ApiFailure, explained


def holds(api: Api, name: str) -> bool:
    """Return whether there is a job object of that name that Tunewright created, as far as the user may see.

    Raises:
        ClusterError: the cluster cannot be reached.
    """
    try:
        found = api.find(api.kind.kind, name, metadata=True)
    except ApiFailure as failure:
        return _absent(api, failure)
    return found is not None and (found["metadata"].get("labels") or {}).get(names.MANAGED_BY) == "tunewright"


def lists(api: Api) -> bool:
    """Return whether the cluster knows the kind, and the user may list its jobs; raises as `holds`."""
    try:
        api.first(api.kind.kind)
    except ApiFailure as failure:
        return _absent(api, failure)
    return True


def usable(api: Api) -> bool:
    """Return whether the cluster knows the kind and all that it needs, and the user may create it; raises as `holds`."""
    kind = api.kind
    try:
        served = [api.ask(f"/apis/{version}")["resources"] for version in (kind.api_version, *kind.needs)]
        return kind.kind in {resource["kind"] for resource in served[0]} and api.may("create", kind.resource)
    except ApiFailure as failure:
        return _absent(api, failure)


def _absent(api: Api, failure: ApiFailure) -> bool:
    """Return False for a refusal that says that this kind is not for this user; raise anything else."""
    if failure.no_such_path or failure.status == HTTPStatus.FORBIDDEN:
        return False
    raise explained(failure, api.kind, name="", namespace=api.namespace) from failure
