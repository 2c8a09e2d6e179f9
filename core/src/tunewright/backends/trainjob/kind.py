"""TrainJobs of Kubeflow Trainer 2 (trainer.kubeflow.org/v1alpha1): https://www.kubeflow.org/docs/components/trainer/."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import ClassVar

import attrs

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.indexed import worker_name, worker_of
from tunewright.backends.kubernetes.kind import JobKind, Object
from tunewright.backends.kubernetes.live import LiveJob, Pod, moment
from tunewright.backends.trainjob.based import on_base, template_on
from tunewright.backends.trainjob.prepare import PREPARE
from tunewright.backends.trainjob.render import API, MAIN, RUNTIME, raw_spec, runtime, spec_of
from tunewright.errors import RequestError
from tunewright.plan.manifests import Document
from tunewright.plan.plan import MAIN_STEP, JobPlan
from tunewright.request.raw import RawManifest
from tunewright.request.update import JobUpdate

_SUSPENDED = "Suspended"
_ATTEMPT = "jobset.sigs.k8s.io/restart-attempt"


class TrainJob(JobKind):
    """A TrainJob, and a TrainingRuntime of its own in the same namespace, so that a user needs no rights on the cluster."""

    backend: ClassVar[str] = "trainjob"
    api_version: ClassVar[str] = API
    kind: ClassVar[str] = "TrainJob"
    plural: ClassVar[str] = "trainjobs"
    controller: ClassVar[str] = "Kubeflow Trainer 2"
    installation: ClassVar[str] = (
        "Ask your cluster admin to install Kubeflow Trainer 2.3 with JobSet: "
        "https://www.kubeflow.org/docs/components/trainer/operator-guides/installation/"
    )
    role: ClassVar[str] = "deploy/rbac/user-trainjob.yaml"
    selector: ClassVar[str] = "app.kubernetes.io/name=trainer"
    main_container: ClassVar[str] = MAIN
    needs: ClassVar[tuple[str, ...]] = ("jobset.x-k8s.io/v1alpha2",)
    bases: ClassVar[tuple[str, ...]] = (
        f"/apis/{API}/namespaces/{{}}/trainingruntimes",
        f"/apis/{API}/clustertrainingruntimes",
    )
    before: ClassVar[Mapping[str, str]] = {RUNTIME: "trainingruntimes"}
    unready: ClassVar[str] = "must be created before"
    # In the foreground the runtime would go first, and the webhook refuses every change of a TrainJob without its runtime, that
    # of its finalizers too: it would stay for ever.
    propagation: ClassVar[str] = "Background"
    between: ClassVar[Mapping[str, str]] = {"JobSet": "", "Job": f"-{MAIN}-0"}
    job_label: ClassVar[str] = "jobset.sigs.k8s.io/jobset-name"
    pod_name: ClassVar[str] = f"-({MAIN}|{PREPARE})-0-[0-9]+-[a-z0-9]{{5}}"
    further_rights: ClassVar[Mapping[str, tuple[str, ...]]] = {
        f"trainingruntimes.{API.partition('/')[0]}": ("create", "get", "patch", "delete")
    }
    policy: ClassVar[frozenset[str]] = frozenset(
        {"suspend", "activeDeadlineSeconds", "ttlSecondsAfterFinished", "maxRestarts"}
    )

    def check(self, plan: JobPlan) -> None:  # noqa: D102 - the base's
        if plan.elastic is not None:
            problem = "cannot be kept: a JobSet starts its workers with a fixed number of peers"
            remedy = 'Give num_workers= alone, or use backend="pytorchjob", where the training-operator runs.'
            raise RequestError(problem, field="elastic", value=plan.elastic, remedy=remedy)
        if plan.scheduling.scheduling_policy:
            problem = "is the training-operator's, and a TrainJob has no such field"
            remedy = "Leave it out; with Kueue in the cluster, give queue=, which starts all workers or none."
            raise RequestError(problem, field="scheduling_policy", remedy=remedy)

    def job(self, plan: JobPlan, metadata: Document, template: Document) -> Document:
        """Return the TrainJob, which says what its steps are called: its pod template is the runtime's."""
        annotations = metadata["annotations"]
        assert isinstance(annotations, Mapping)  # noqa: S101 - for the type checker: every job has some
        named = {**annotations, names.STEPS: ",".join(self.steps(template))}
        about = {"apiVersion": self.api_version, "kind": self.kind, "metadata": {**metadata, "annotations": named}}
        return {**about, "spec": spec_of(plan)}

    def foundations(self, plan: JobPlan, template: Document, base: Object | None) -> list[Document]:
        """Return the runtime, which carries everything but the number of workers; raises as `JobKind.foundations`."""
        if base is None:
            return [runtime(plan, template)]
        return [on_base(runtime(plan, template_on(base, plan, template)), base)]

    def raw(self, manifest: RawManifest) -> Document:  # noqa: D102 - the base's
        return raw_spec(manifest)

    def read(self, document: Object) -> LiveJob:  # noqa: D102 - the base's
        steps = (document["metadata"].get("annotations") or {}).get(names.STEPS) or MAIN_STEP
        found = LiveJob.read(
            document,
            suspended=self.suspended(document),
            steps=tuple(steps.split(",")),
            workers=int((document["spec"].get("trainer") or {}).get("numNodes") or 1),
            called={"Complete": "Succeeded"},
        )
        return attrs.evolve(found, started=_started(document, found))

    def template(self, document: Object) -> Object:  # noqa: D102 - the base's
        jobs = document["spec"]["template"]["spec"]["replicatedJobs"]
        found: Object = next(job for job in jobs if job["name"] == MAIN)["template"]["spec"]["template"]
        return found

    def holder(self, document: Object) -> tuple[str, str] | None:  # noqa: D102 - the base's
        reference = document["spec"]["runtimeRef"]
        return reference.get("kind") or "", reference["name"]

    def processes(self, document: Object) -> int:
        """Return the number as far as it is one: a job that the user wrote may leave it to its runtime."""
        return int((document["spec"].get("trainer") or {}).get("numProcPerNode") or 1)

    def worker(self, pod: Object) -> int:  # noqa: D102 - the base's
        return worker_of(pod)

    def read_pod(self, document: Object) -> Pod:
        """Understand a pod, and how often its JobSet was started again before."""
        attempt = (document["metadata"].get("labels") or {}).get(_ATTEMPT)
        return attrs.evolve(super().read_pod(document), attempt=int(attempt or 0))

    def suspended(self, document: Object) -> bool:  # noqa: D102 - the base's
        return bool(document["spec"].get("suspend"))

    def suspend(self, *, suspended: bool) -> Object:  # noqa: D102 - the base's
        return {"spec": {"suspend": suspended}}

    def change(  # noqa: D102 - the base's
        self,
        document: Object,  # noqa: ARG002 - as above
        update: JobUpdate,
        pods: Callable[[Object], Object] | None,  # noqa: ARG002 - as above
    ) -> Object:
        if given := update.given("ttl", "priority_class", "deadline", "max_restarts"):
            remedy = (
                "Delete the job and submit it again: it goes on from its newest checkpoint, if its storage is kept."
            )
            raise RequestError(
                "cannot be changed: a TrainJob's runtime is read once, when it starts", field=given[0], remedy=remedy
            )
        return {}

    def worker_name(self, plan: JobPlan) -> list[Document]:
        """Return variables that name a worker by its job and index: a pod that replaces another has a name of its own."""
        return worker_name(plan)


def _started(document: Object, job: LiveJob) -> datetime | None:
    """Return since when the job may run, which its status has no field for: when it was resumed, or else created."""
    for condition in (document.get("status") or {}).get("conditions") or []:
        if condition["type"] == _SUSPENDED:
            return moment(condition.get("lastTransitionTime")) if condition["status"] == "False" else None
    return None if job.suspended else job.created
