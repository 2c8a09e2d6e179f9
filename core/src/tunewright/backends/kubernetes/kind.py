"""The contract of one kind of job object: what a controller wants to read, and how what it answers is understood.

Everything else about jobs on Kubernetes (pods, volumes, secrets, logs, states, submit, doctor) is shared by all kinds. A new
kind is a class derived from `JobKind`, a backend that names it, and an entry point. All methods are pure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from tunewright import environment
from tunewright.backends.kubernetes.live import LiveJob, Pod
from tunewright.plan.manifests import Document
from tunewright.plan.plan import MAIN_STEP, ContainerSpec, JobPlan
from tunewright.request.raw import RawManifest
from tunewright.request.update import JobUpdate

Object = dict[str, Any]
"""A JSON object of the API, as it came."""


class JobKind(ABC):
    """One kind of job object.

    Class attributes:
        backend: name of the backend whose jobs are of this kind, for commands that people type.
        api_version: its group and version: "kubeflow.org/v1".
        kind: "PyTorchJob".
        plural: its resource in the API: "pytorchjobs".
        controller: what runs such jobs, for messages: "the training-operator".
        installation: how a user without it gets it, as a sentence.
        role: the file with the role that its users need.
        selector: how to find the controller's pods, for messages: "control-plane=…".
        main_container: the name that the controller wants the main container to have.
        added_containers: names of init containers that the controller adds by itself.
        needs: further versions of the API that its controller needs, as "jobset.x-k8s.io/v1alpha2".
        bases: paths of the kinds of objects on which a plan may base its pods, in the order in which one is looked up; `{}` stands
            for the namespace.
        before: objects of the same group and name that must exist before the job: kind → its resource.
        unready: words of the refusal by which the controller's webhook says that it has not seen those objects yet.
        restarts_forever: whether its controller starts pods again for ever that fail before `run` can count.
        first_success_ends: whether its controller ends a job at the first success of any worker.
        propagation: how a job is deleted; "Foreground" lets the object stay until its pods have ended.
        between: objects that the controller puts between the job and its pods, and whose warnings are the job's: kind → what
            follows the job's name in theirs.
        job_label: the pods' label whose value is the job's name.
        pod_name: a regular expression for what follows the job's name in the name of a pod.
        further_rights: what a user needs for its companions: resource, with its group → verbs.
        policy: the fields of a job's spec and of those objects, at any depth, that may differ between two submissions of the
            same job.
    """

    backend: ClassVar[str]
    api_version: ClassVar[str]
    kind: ClassVar[str]
    plural: ClassVar[str]
    controller: ClassVar[str]
    installation: ClassVar[str]
    role: ClassVar[str]
    selector: ClassVar[str]
    main_container: ClassVar[str]
    added_containers: ClassVar[frozenset[str]] = frozenset()
    needs: ClassVar[tuple[str, ...]] = ()
    bases: ClassVar[tuple[str, ...]] = ()
    before: ClassVar[Mapping[str, str]] = {}
    unready: ClassVar[str] = ""
    restarts_forever: ClassVar[bool] = False
    first_success_ends: ClassVar[bool] = False
    propagation: ClassVar[str] = "Foreground"
    between: ClassVar[Mapping[str, str]] = {}
    job_label: ClassVar[str]
    pod_name: ClassVar[str]
    further_rights: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    policy: ClassVar[frozenset[str]]

    @abstractmethod
    def check(self, plan: JobPlan) -> None:
        """Refuse what this kind cannot do.

        Raises:
            RequestError: naming the field, the value and the remedy.
        """

    @abstractmethod
    def job(self, plan: JobPlan, metadata: Document, template: Document) -> Document:
        """Return the job object.

        Args:
            plan: the job.
            metadata: complete: name, labels and annotations.
            template: of the pods, with the user's `pod_overrides`.
        """

    def foundations(self, plan: JobPlan, template: Document, base: Object | None) -> list[Document]:  # noqa: ARG002 - for kinds that need some
        """Return the objects of `before`: they are created before the job, which owns them from then on.

        Args:
            plan: the job.
            template: of its pods, with the user's `pod_overrides`.
            base: the object of the cluster on which the plan bases its pods; None for none, or without a cluster.

        Raises:
            RequestError: they cannot be based on it.
        """
        return []

    def companions(self, plan: JobPlan) -> list[Document]:  # noqa: ARG002 - for kinds that need some
        """Return the objects besides Secret, ConfigMap and claims, created after the job and owned by it."""
        return []

    @abstractmethod
    def raw(self, manifest: RawManifest) -> Document:
        """Return the spec of a job that the user wrote, with its pods labelled so that they are found.

        Raises:
            RequestError: it cannot run.
        """

    @abstractmethod
    def read(self, document: Object) -> LiveJob:
        """Understand a job object of the API; its conditions are called Succeeded, Failed and Restarting."""

    @abstractmethod
    def template(self, document: Object) -> Object:
        """Return the pod template of a job's first worker.

        Args:
            document: the job, or the object that `holder` names.
        """

    def holder(self, document: Object) -> tuple[str, str] | None:  # noqa: ARG002 - for kinds whose jobs do not hold it
        """Return kind and name of the object of the namespace that holds a job's pod template; None: the job itself."""
        return None

    @abstractmethod
    def processes(self, document: Object) -> int:
        """Return the number of processes in each worker."""

    @abstractmethod
    def worker(self, pod: Object) -> int:
        """Return the index of the worker that a pod is."""

    @abstractmethod
    def suspended(self, document: Object) -> bool:
        """Return whether a job object says that it is suspended."""

    @abstractmethod
    def suspend(self, *, suspended: bool) -> Object:
        """Return the merge patch that suspends a job or resumes it."""

    @abstractmethod
    def change(self, document: Object, update: JobUpdate, pods: Callable[[Object], Object] | None) -> Object:
        """Return the merge patch of a job's spec.

        Args:
            document: the job as it is now.
            update: what changes; `ttl` and `deadline` are this method's.
            pods: from the spec of a pod to its merge patch; None where the pods stay as they are.

        Raises:
            RequestError: its controller does not let the pods of a job change.
        """

    def worker_name(self, plan: JobPlan) -> list[Document]:  # noqa: ARG002 - for kinds whose pods do not keep their names
        """Return the variables that name a pod's worker, WORKER last: unique among jobs, and the same after a restart."""
        return [{"name": environment.WORKER, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]

    def unsafe_under(self, policy: str, plan: JobPlan) -> str:  # noqa: ARG002 - for kinds that are
        """Say why a Pod Security policy would keep the plan's pods from running, and what to do; "" where it does not."""
        return ""

    def read_pod(self, document: Object) -> Pod:
        """Understand a Pod of the API that belongs to such a job."""
        return Pod.read(document, self.worker(document), self.step_name)

    @property
    def paths(self) -> dict[str, str]:
        """The paths of its objects in the API, and of those of `before`: kind → path; `{}` stands for the namespace."""
        plurals = {self.kind: self.plural, **self.before}
        return {kind: f"/apis/{self.api_version}/namespaces/{{}}/{plural}" for kind, plural in plurals.items()}

    def parts(self, documents: Sequence[Object]) -> tuple[list[Object], Object, list[Object]]:
        """Split rendered manifests into those before the job, the job, and what it owns."""
        at = next(i for i, document in enumerate(documents) if document["kind"] == self.kind)
        return list(documents[:at]), documents[at], list(documents[at + 1 :])

    @property
    def resource(self) -> str:
        """Its resource with its group, as rights name it: "pytorchjobs.kubeflow.org"."""
        return f"{self.plural}.{self.api_version.partition('/')[0]}"

    def container_name(self, plan: JobPlan, container: ContainerSpec) -> str:
        """Return what a step of the plan is called in the pod."""
        return self.main_container if container is plan.main else container.name

    def step_name(self, container: str) -> str:
        """Return what a container of the pod is called in logs and messages."""
        return MAIN_STEP if container == self.main_container else container

    def steps(self, template: Mapping[str, Any]) -> tuple[str, ...]:
        """Return what the containers of a pod template are called in logs and messages, in the order in which they start."""
        spec = template["spec"]
        return tuple(self.step_name(c["name"]) for c in (*(spec.get("initContainers") or ()), *spec["containers"]))
