"""The spec of an Indexed Job, and its Service, from a plan or from the user's manifest. Pure."""

from __future__ import annotations

from typing import Any, Final, cast

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.indexed import COUNTED_BY_RUN, indexed_spec, rendezvous
from tunewright.backends.kubernetes.labels import labelled
from tunewright.errors import RequestError
from tunewright.plan.manifests import Document
from tunewright.plan.plan import MAIN_STEP, JobPlan
from tunewright.request.raw import RawManifest, part

MAIN: Final = MAIN_STEP
"""The main container's name."""

JOB_NAME: Final = "batch.kubernetes.io/job-name"


def spec_of(plan: JobPlan, template: Document) -> Document:
    """Return the spec for a plan whose pods have a template."""
    policy = plan.run_policy
    given = {
        "suspend": policy.suspend or None,
        "ttlSecondsAfterFinished": policy.ttl,
        "activeDeadlineSeconds": policy.deadline,
    }
    return {
        **indexed_spec(plan.num_workers, MAIN, backoff_limit=policy.max_restarts, ignored=COUNTED_BY_RUN),
        **{k: v for k, v in given.items() if v is not None},
        "template": _template(plan, template),
    }


def _template(plan: JobPlan, template: Document) -> Document:
    spec = cast("dict[str, Any]", template["spec"])
    first, *others = spec["containers"]
    first = {**first, "env": [*first.get("env", ()), *rendezvous(plan, f"{plan.name}-0.{plan.name}")]}
    # The subdomain is the Service's name: with it, a pod's host name can be resolved.
    pod = {**spec, "containers": [first, *others], "subdomain": plan.name, "restartPolicy": "Never"}
    return {**template, "spec": pod}


def service(plan: JobPlan) -> Document:
    """Return the headless Service that gives the workers their names, before they are ready, too."""
    metadata = {"name": plan.name, "labels": names.all_labels(plan.name, "network")}
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {JOB_NAME: plan.name}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def raw_spec(manifest: RawManifest) -> Document:
    """Return the spec that the user wrote, with labelled pods; raises as `JobKind.raw`."""
    spec = part(manifest.document, "spec", "manifest")
    template = part(spec, "template", "manifest.spec")
    containers = part(template, "spec", "manifest.spec.template").get("containers")
    if not isinstance(containers, list) or not containers:
        remedy = "Write the container that trains."
        raise RequestError("has no containers", field="manifest.spec.template.spec.containers", remedy=remedy)
    path = "manifest.spec.template.metadata"
    metadata = labelled(
        part(template, "metadata", "manifest.spec.template"), names.labels(manifest.name), path, "worker"
    )
    return {**spec, "template": {**template, "metadata": metadata}}
