"""PyTorchJobs of the Kubeflow training-operator (kubeflow.org/v1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import attrs

from tunewright.backends.kubernetes.kind import JobKind, Object
from tunewright.backends.kubernetes.live import LiveJob
from tunewright.backends.pytorchjob.render import MAIN, MASTER, WORKER, pod_deadline, raw_spec, spec_of
from tunewright.errors import RequestError, did_you_mean
from tunewright.plan.manifests import Document
from tunewright.plan.plan import JobPlan
from tunewright.request.raw import RawManifest
from tunewright.request.update import JobUpdate

_TYPE, _INDEX = "training.kubeflow.org/replica-type", "training.kubeflow.org/replica-index"

_INIT_PYTORCH = "init-pytorch"
"""The init container that the operator adds to the workers of a job that has a Master."""

_SCHEDULING_POLICY = ["minAvailable", "minResources", "priorityClass", "queue", "scheduleTimeoutSeconds"]


class PyTorchJob(JobKind):
    """A PyTorchJob: elastic Workers, or a Master and Workers for an image that starts itself."""

    backend: ClassVar[str] = "kubernetes"
    api_version: ClassVar[str] = "kubeflow.org/v1"
    kind: ClassVar[str] = "PyTorchJob"
    plural: ClassVar[str] = "pytorchjobs"
    controller: ClassVar[str] = "the training-operator"
    installation: ClassVar[str] = (
        "Ask your cluster admin to install training-operator 1.9: "
        "https://www.kubeflow.org/docs/components/trainer/legacy-v1/installation/"
    )
    role: ClassVar[str] = "deploy/rbac/user.yaml"
    selector: ClassVar[str] = "control-plane=kubeflow-training-operator"
    main_container: ClassVar[str] = MAIN
    added_containers: ClassVar[frozenset[str]] = frozenset({_INIT_PYTORCH})
    restarts_forever: ClassVar[bool] = True
    first_success_ends: ClassVar[bool] = True
    job_label: ClassVar[str] = "training.kubeflow.org/job-name"
    pod_name: ClassVar[str] = "-(master|worker)-[0-9]+"
    policy: ClassVar[frozenset[str]] = frozenset({"runPolicy", "activeDeadlineSeconds"})

    def check(self, plan: JobPlan) -> None:  # noqa: D102 - the base's
        for name in plan.scheduling.scheduling_policy or {}:
            if name not in _SCHEDULING_POLICY:
                problem, remedy = "is not a field of schedulingPolicy", did_you_mean(name, _SCHEDULING_POLICY)
                raise RequestError(problem, field=f"scheduling_policy[{name!r}]", remedy=remedy)

    def job(self, plan: JobPlan, metadata: Document, template: Document) -> Document:  # noqa: D102 - the base's
        about = {"apiVersion": self.api_version, "kind": self.kind, "metadata": metadata}
        return {**about, "spec": spec_of(plan, template)}

    def raw(self, manifest: RawManifest) -> Document:  # noqa: D102 - the base's
        return raw_spec(manifest)

    def read(self, document: Object) -> LiveJob:  # noqa: D102 - the base's
        found = LiveJob.read(
            document,
            suspended=self.suspended(document),
            steps=self.steps(self.template(document)),
            workers=sum(int(replica.get("replicas", 1)) for replica in _replicas(document).values()),
        )
        return attrs.evolve(found, deadline=(document["spec"].get("runPolicy") or {}).get("activeDeadlineSeconds"))

    def template(self, document: Object) -> Object:  # noqa: D102 - the base's
        replicas = _replicas(document)
        found: Object = (replicas.get(MASTER) or replicas[WORKER])["template"]
        return found

    def processes(self, document: Object) -> int:
        """Return the number, as far as it is one: a job that the user wrote may say `gpu`, or nothing."""
        given = str(document["spec"].get("nprocPerNode") or 1)
        return int(given) if given.isdecimal() else 1

    def worker(self, pod: Object) -> int:
        """Return the index of a worker; the Master of an image that starts itself is 0."""
        labels = pod["metadata"].get("labels") or {}
        is_master = labels.get(_TYPE, "").lower() == MASTER.lower()
        # Whether there is a Master is not in a worker's labels, but the operator's own init container is in its spec.
        inits = [c["name"] for c in pod["spec"].get("initContainers") or []]
        offset = 1 if not is_master and _INIT_PYTORCH in inits else 0
        return int(labels.get(_INDEX) or 0) + offset

    def suspended(self, document: Object) -> bool:  # noqa: D102 - the base's
        return bool((document["spec"].get("runPolicy") or {}).get("suspend"))

    def suspend(self, *, suspended: bool) -> Object:  # noqa: D102 - the base's
        return {"spec": {"runPolicy": {"suspend": suspended}}}

    def change(  # noqa: D102 - the base's
        self, document: Object, update: JobUpdate, pods: Callable[[Object], Object] | None
    ) -> Object:
        policy = {"ttlSecondsAfterFinished": update.ttl, "activeDeadlineSeconds": update.deadline}
        policy = {k: v for k, v in policy.items() if v is not None}
        replicas = {}
        if pods is not None:
            for role, replica in _replicas(document).items():
                spec = {**pods(replica["template"]["spec"]), **pod_deadline(update.deadline)}
                replicas[role] = {"template": {"spec": spec}}
        return {k: v for k, v in (("runPolicy", policy), ("pytorchReplicaSpecs", replicas)) if v}

    def unsafe_under(self, policy: str, plan: JobPlan) -> str:
        """Say that `restricted` keeps the container from running that the operator adds to workers beside a Master."""
        if policy != "restricted" or not plan.self_starting or plan.num_workers == 1:
            return ""
        return f"The operator adds a container {_INIT_PYTORCH} to workers beside a Master, which violates it."


def _replicas(document: Mapping[str, Any]) -> dict[str, Any]:
    replicas: dict[str, Any] = document["spec"]["pytorchReplicaSpecs"]
    return replicas
