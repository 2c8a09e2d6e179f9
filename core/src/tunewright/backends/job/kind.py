"""Indexed Jobs of Kubernetes itself (batch/v1), 1.31 or newer: https://kubernetes.io/docs/concepts/workloads/controllers/job/."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from tunewright.backends.job.render import JOB_NAME, MAIN, raw_spec, service, spec_of
from tunewright.backends.kubernetes.indexed import worker_name, worker_of
from tunewright.backends.kubernetes.kind import JobKind, Object
from tunewright.backends.kubernetes.live import LiveJob
from tunewright.errors import RequestError
from tunewright.plan.manifests import Document
from tunewright.plan.plan import JobPlan
from tunewright.request.raw import RawManifest
from tunewright.request.update import JobUpdate

_NPROC = "PET_NPROC_PER_NODE"


class IndexedJob(JobKind):
    """A Job with an index for each worker, and a headless Service by which the workers find worker 0."""

    backend: ClassVar[str] = "job"
    api_version: ClassVar[str] = "batch/v1"
    kind: ClassVar[str] = "Job"
    plural: ClassVar[str] = "jobs"
    controller: ClassVar[str] = "Kubernetes itself"
    installation: ClassVar[str] = "Every cluster has it: check that the kubeconfig leads to one."
    role: ClassVar[str] = "deploy/rbac/user-job.yaml"
    selector: ClassVar[str] = "component=kube-controller-manager"
    main_container: ClassVar[str] = MAIN
    job_label: ClassVar[str] = JOB_NAME
    pod_name: ClassVar[str] = "-[0-9]+-[a-z0-9]{5}"
    further_rights: ClassVar[Mapping[str, tuple[str, ...]]] = {"services": ("create",)}
    policy: ClassVar[frozenset[str]] = frozenset(
        {"suspend", "ttlSecondsAfterFinished", "activeDeadlineSeconds", "backoffLimit"}
    )

    def check(self, plan: JobPlan) -> None:  # noqa: D102 - the base's
        if plan.elastic is not None:
            problem = "cannot be kept: the workers of an Indexed Job start with a fixed number of peers"
            remedy = 'Give num_workers= alone, or use backend="pytorchjob", where the training-operator runs.'
            raise RequestError(problem, field="elastic", value=plan.elastic, remedy=remedy)
        if plan.scheduling.scheduling_policy:
            problem = "is the training-operator's, and Kubernetes has no gang scheduling of its own"
            remedy = "Leave it out; with Kueue in the cluster, give queue=, which starts all workers or none."
            raise RequestError(problem, field="scheduling_policy", remedy=remedy)

    def job(self, plan: JobPlan, metadata: Document, template: Document) -> Document:  # noqa: D102 - the base's
        about = {"apiVersion": self.api_version, "kind": self.kind, "metadata": metadata}
        return {**about, "spec": spec_of(plan, template)}

    def companions(self, plan: JobPlan) -> list[Document]:
        """Return the Service that gives the workers names."""
        return [service(plan)]

    def raw(self, manifest: RawManifest) -> Document:  # noqa: D102 - the base's
        return raw_spec(manifest)

    def read(self, document: Object) -> LiveJob:  # noqa: D102 - the base's
        spec = document["spec"]
        return LiveJob.read(
            document,
            suspended=self.suspended(document),
            steps=self.steps(self.template(document)),
            workers=int(spec.get("completions") or spec.get("parallelism") or 1),
            called={"Complete": "Succeeded"},
        )

    def template(self, document: Object) -> Object:  # noqa: D102 - the base's
        found: Object = document["spec"]["template"]
        return found

    def processes(self, document: Object) -> int:
        """Return the number that torchrun is given; 1 for a job that the user wrote without it."""
        main: dict[str, Any] = self.template(document)["spec"]["containers"][0]
        given = next((str(v.get("value")) for v in main.get("env") or () if v["name"] == _NPROC), "1")
        return int(given) if given.isdecimal() else 1

    def worker(self, pod: Object) -> int:  # noqa: D102 - the base's
        return worker_of(pod)

    def suspended(self, document: Object) -> bool:  # noqa: D102 - the base's
        return bool(document["spec"].get("suspend"))

    def suspend(self, *, suspended: bool) -> Object:  # noqa: D102 - the base's
        return {"spec": {"suspend": suspended}}

    def change(  # noqa: D102 - the base's
        self,
        document: Object,  # noqa: ARG002 - as above
        update: JobUpdate,
        pods: Callable[[Object], Object] | None,
    ) -> Object:
        if pods is not None:
            field = update.given("priority_class", "deadline", "max_restarts")[0]
            remedy = (
                "Delete the job and submit it again: it goes on from its newest checkpoint, if its storage is kept."
            )
            raise RequestError(
                "cannot be changed: Kubernetes keeps the pods of a Job as they are", field=field, remedy=remedy
            )
        return {} if update.ttl is None else {"ttlSecondsAfterFinished": update.ttl}

    def worker_name(self, plan: JobPlan) -> list[Document]:
        """Return variables that name a worker by its job and index: a pod that replaces another has a name of its own."""
        return worker_name(plan)
