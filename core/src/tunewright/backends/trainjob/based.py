"""A TrainingRuntime of a job's own, based on one of the platform's: what the job does not set is as there. Pure."""

from __future__ import annotations

from typing import Any, cast

from tunewright.backends.kubernetes.overrides import merged
from tunewright.backends.trainjob.render import ANCESTOR, MAIN, TRAINER
from tunewright.errors import RequestError
from tunewright.plan.manifests import Document
from tunewright.plan.plan import JobPlan

_TORCH = frozenset({"numNodes", "torch"})


def template_on(base: dict[str, Any], plan: JobPlan, template: Document) -> Document:
    """Return the template of the job's pods, merged into that of a runtime's trainer.

    Args:
        base: the TrainingRuntime or ClusterTrainingRuntime.
        plan: the job.
        template: of the pods, which has the last word.

    Raises:
        RequestError: the runtime has no trainer, or is not torch's.
    """
    if others := set(base["spec"].get("mlPolicy") or {}) - _TORCH:
        raise _refused(base, f"is a runtime for {', '.join(sorted(others))}, and not for torch")
    theirs = _trainer(base)["template"]["spec"]["template"]
    if plan.main.resources is None:  # the requests are our defaults, which may exceed the platform's limits
        template = _without_resources(template)
    found = cast("dict[str, Any]", merged(theirs, template))
    containers = found["spec"]["containers"]
    first = [c for c in containers if c["name"] == MAIN]
    found["spec"]["containers"] = [*first, *(c for c in containers if c["name"] != MAIN)]
    return found


def on_base(own: Document, base: dict[str, Any]) -> Document:
    """Return the job's runtime with what the platform's has besides its jobs: policies, labels, and further jobs.

    Initializers are left out: the job's own steps fetch.
    """
    mine = cast("dict[str, Any]", own)
    spec, theirs = mine["spec"], base["spec"]
    sets, their_sets = spec["template"]["spec"], theirs["template"]["spec"]
    kept = [job for job in their_sets["replicatedJobs"] if not _step(job)]
    both = {**their_sets, **sets, "replicatedJobs": [*sets["replicatedJobs"], *kept]}
    torch = (theirs.get("mlPolicy") or {}).get("torch") or {}
    labels = {**(base["metadata"].get("labels") or {}), **mine["metadata"]["labels"]}
    return {
        **mine,
        "metadata": {**mine["metadata"], "labels": labels},
        "spec": {
            **theirs,
            "mlPolicy": {**spec["mlPolicy"], "torch": torch},
            "template": {**theirs["template"], "spec": both},
        },
    }


def _without_resources(template: Document) -> Document:
    spec = cast("dict[str, Any]", template["spec"])
    containers = [
        {k: v for k, v in c.items() if k != "resources"} if c["name"] == MAIN else c for c in spec["containers"]
    ]
    return {**template, "spec": {**spec, "containers": containers}}


def _trainer(base: dict[str, Any]) -> dict[str, Any]:
    jobs = base["spec"]["template"]["spec"].get("replicatedJobs") or []
    found: dict[str, Any] | None = next((job for job in jobs if _step(job) == TRAINER), None)
    if found is None:
        raise _refused(base, f"has no job with the label {ANCESTOR}: {TRAINER}")
    return found


def _step(job: dict[str, Any]) -> str:
    """Return which of the controller's steps a replicated job is: the trainer or an initializer; "" for a job of the platform's."""
    return str(((job["template"].get("metadata") or {}).get("labels") or {}).get(ANCESTOR, ""))


def _refused(base: dict[str, Any], problem: str) -> RequestError:
    remedy = "Name another: kubectl get trainingruntimes,clustertrainingruntimes"
    return RequestError(problem, field="runtime", value=base["metadata"]["name"], remedy=remedy)
