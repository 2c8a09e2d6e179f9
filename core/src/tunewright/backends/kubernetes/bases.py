"""The object of the cluster on which a plan bases its pods."""

from __future__ import annotations

from http import HTTPStatus

from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.failures import ApiFailure
from tunewright.backends.kubernetes.kind import Object
from tunewright.errors import RequestError
from tunewright.plan.manifests import Manifests
from tunewright.plan.plan import JobPlan


def find_base(api: Api, plan: JobPlan) -> Object | None:
    """Return the object that a plan names as the base of its pods; None if it names none.

    Raises:
        RequestError: there is none of that name, or the user may not read it.
        ApiFailure: the cluster cannot be asked.
    """
    name = plan.scheduling.runtime
    if name is None:
        return None
    for path in api.kind.bases:
        try:
            return api.ask(f"{path.format(api.namespace)}/{name}")
        except ApiFailure as failure:
            if failure.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
                raise
    kinds = " nor ".join(path.rpartition("/")[2] for path in api.kind.bases)
    problem = f"is neither among the {kinds} that you may read"
    remedy = f"List them: kubectl get {kinds.replace(' nor ', ',')} -n {api.namespace}; your role may lack them: {api.kind.role}"
    raise RequestError(problem, field="runtime", value=name, remedy=remedy)


def noted(manifests: Manifests, plan: JobPlan) -> Manifests:
    """Say of manifests for whose rendering the cluster was not asked what is missing in them."""
    if plan.scheduling.runtime is None:
        return manifests
    return manifests.noted(
        f"Rendered without runtime {plan.scheduling.runtime!r}: its pods are added when the job is submitted."
    )
