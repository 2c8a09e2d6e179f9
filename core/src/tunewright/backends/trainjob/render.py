"""A TrainJob and its TrainingRuntime, from a plan or from the user's manifest. Pure.

https://www.kubeflow.org/docs/components/trainer/operator-guides/runtime/
"""

from __future__ import annotations

from typing import Any, Final, cast

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.indexed import indexed_spec, rendezvous
from tunewright.backends.trainjob import prepare
from tunewright.errors import RequestError
from tunewright.plan.manifests import Document
from tunewright.plan.plan import JobPlan
from tunewright.request.raw import RawManifest, part

API: Final = "trainer.kubeflow.org/v1alpha1"
RUNTIME: Final = "TrainingRuntime"

MAIN: Final = "node"
"""Name of the main container, and of the replicated job: the controller's torch plugin looks for both."""

ANCESTOR: Final = "trainer.kubeflow.org/trainjob-ancestor-step"
TRAINER: Final = "trainer"
"""The label by which the controller finds the job that trains, and its value."""

# SIGTERM comes from a deletion: the pod alone is replaced, and nothing counts. All other restarts are the JobSet's, which
# starts all workers again at once and counts them.
_TERMINATED = (143,)


def spec_of(plan: JobPlan) -> Document:
    """Return the spec of the TrainJob."""
    policy = plan.run_policy
    given = {"suspend": policy.suspend or None, "activeDeadlineSeconds": policy.deadline}
    return {
        "runtimeRef": {"apiGroup": API.partition("/")[0], "kind": RUNTIME, "name": plan.name},
        "trainer": {"numNodes": plan.num_workers, "numProcPerNode": plan.num_procs_per_worker},
        **{k: v for k, v in given.items() if v is not None},
    }


def runtime(plan: JobPlan, template: Document) -> Document:
    """Return the TrainingRuntime that carries the plan, whose pods have a template."""
    ttl = plan.run_policy.ttl
    job_set = {
        **({"ttlSecondsAfterFinished": ttl} if ttl is not None else {}),
        "failurePolicy": {
            "maxRestarts": plan.run_policy.max_restarts,
            "rules": [{"name": "final", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
        },
        "replicatedJobs": _jobs(plan, template),
    }
    return {
        "apiVersion": API,
        "kind": RUNTIME,
        "metadata": {
            "name": plan.name,
            "labels": {**names.recommended("job"), **plan.labels, **names.labels(plan.name)},
        },
        "spec": {"mlPolicy": {"numNodes": plan.num_workers, "torch": {}}, "template": {"spec": job_set}},
    }


def _jobs(plan: JobPlan, template: Document) -> list[Document]:
    workers = {"name": MAIN, "template": _job(plan, template)}
    if not prepare.fetches_first(plan):
        return [workers]
    waits = {"dependsOn": [{"name": prepare.PREPARE, "status": "Complete"}]}
    return [prepare.job(plan, template), {**workers, **waits}]


def _job(plan: JobPlan, template: Document) -> Document:
    """Return the template of the Job whose pods are the workers; see https://jobset.sigs.k8s.io/docs/concepts/."""
    # The first counted failure ends the Job, and the JobSet decides what follows.
    spec = indexed_spec(plan.num_workers, MAIN, backoff_limit=0, ignored=_TERMINATED)
    return {"metadata": {"labels": {ANCESTOR: TRAINER}}, "spec": {**spec, "template": _pod(plan, template)}}


def _pod(plan: JobPlan, template: Document) -> Document:
    spec = cast("dict[str, Any]", template["spec"])
    first, *others = spec["containers"]
    address = f"{plan.name}-{MAIN}-0-0.{plan.name}"
    first = {**first, "env": [*first.get("env", ()), *rendezvous(plan, address)]}
    return {**template, "spec": {**spec, "containers": [first, *others], "restartPolicy": "Never"}}


def raw_spec(manifest: RawManifest) -> Document:
    """Return the spec that the user wrote; raises as `JobKind.raw`."""
    spec = part(manifest.document, "spec", "manifest")
    if not part(spec, "runtimeRef", "manifest.spec").get("name"):
        remedy = "Name a TrainingRuntime or ClusterTrainingRuntime: kubectl get clustertrainingruntimes"
        raise RequestError("has no name", field="manifest.spec.runtimeRef", remedy=remedy)
    return dict(spec)
