"""Whether a kind of job is there for a user: known to the cluster, and allowed. Each raises what `explained` makes of the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from http import HTTPStatus

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.failures import ApiFailure, explained
from tunewright.backends.kubernetes.listing import live_jobs
from tunewright.backends.kubernetes.live import LiveJob


def holds(api: Api, name: str) -> bool | None:
    """Return whether there is a job object of that name that Tunewright created; None if the kind is not there for the user.

    Raises:
        ClusterError: the cluster cannot be reached.
    """
    try:
        found = api.find(api.kind.kind, name, metadata=True)
    except ApiFailure as failure:
        _absent(api, failure)
        return None
    return found is not None and (found["metadata"].get("labels") or {}).get(names.MANAGED_BY) == "tunewright"


def listed(api: Api, labels: Mapping[str, str] | None, *, everywhere: bool = False) -> list[LiveJob] | None:
    """Return the jobs of a kind; None if the cluster does not know it, or the user may not list them; raises as `holds`."""
    try:
        return live_jobs(api, labels, everywhere=everywhere)
    except ApiFailure as failure:
        _absent(api, failure)
        return None


@contextlib.contextmanager
def explaining(api: Api) -> Iterator[None]:
    """Raise what `explained` makes of a failure of requests about several jobs."""
    try:
        yield
    except ApiFailure as failure:
        raise explained(failure, api.kind, name="", namespace=api.namespace) from failure


def lists(api: Api) -> bool:
    """Return whether the cluster knows the kind, and the user may list its jobs; raises as `holds`."""
    try:
        api.first(api.kind.kind)
    except ApiFailure as failure:
        return _absent(api, failure)
    return True


def usable(api: Api) -> bool:
    """Return whether the cluster knows the kind and all that it needs, and the user may create it; raises as `holds`."""
    try:
        served = api.ask(f"/apis/{api.kind.api_version}")["resources"]
    except ApiFailure as failure:
        return _absent(api, failure)
    return api.kind.kind in {resource["kind"] for resource in served} and creatable(api)


def creatable(api: Api) -> bool:
    """Return whether a kind that the cluster knows has all that it needs, and the user may create it; raises as `holds`."""
    try:
        for version in api.kind.needs:
            api.ask(f"/apis/{version}")
        return api.may("create", api.kind.resource)
    except ApiFailure as failure:
        return _absent(api, failure)


def _absent(api: Api, failure: ApiFailure) -> bool:
    """Return False for a refusal that says that this kind is not for this user; raise anything else."""
    if failure.no_such_path or failure.status == HTTPStatus.FORBIDDEN:
        return False
    raise explained(failure, api.kind, name="", namespace=api.namespace) from failure
