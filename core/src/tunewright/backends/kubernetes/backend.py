"""A backend for any kind of job object on Kubernetes."""

from __future__ import annotations

import builtins
import contextlib
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar, Self, TypeVar

import attrs

from tunewright._doing import doing
from tunewright.backends.base import Backend, BackendOptions, Finding, problem
from tunewright.backends.kubernetes import bases, claims, doctor, names
from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.connection import Connection
from tunewright.backends.kubernetes.difference import difference
from tunewright.backends.kubernetes.endless import end_if_endless
from tunewright.backends.kubernetes.events import events_about
from tunewright.backends.kubernetes.failures import ALL_NAMESPACES, ApiFailure, NameTaken, explained
from tunewright.backends.kubernetes.informer import Informer, JobCache
from tunewright.backends.kubernetes.kind import JobKind, Object
from tunewright.backends.kubernetes.listing import glances, live_jobs, statuses
from tunewright.backends.kubernetes.live import LiveJob, Pod, as_job_pod, in_order
from tunewright.backends.kubernetes.logs import Follower, Wanted, newest_events, read, wanted_of
from tunewright.backends.kubernetes.obstacles import incompleteness, lost_node, obstacle
from tunewright.backends.kubernetes.progress import ProgressNotes
from tunewright.backends.kubernetes.raw import check_namespace, render_raw
from tunewright.backends.kubernetes.record import record_of
from tunewright.backends.kubernetes.refusals import END_TIMEOUT, no_such, refuse_queued, still_ending
from tunewright.backends.kubernetes.render import render
from tunewright.backends.kubernetes.sealed import same
from tunewright.backends.kubernetes.state import JobPhase, phase_of, start_of, status_of
from tunewright.backends.kubernetes.submit import (
    await_gone,
    has_unfinished_pods,
    kept_claims,
    plan_digest,
    remains,
    remove_unowned,
    submit,
)
from tunewright.backends.kubernetes.update import patch_for, refuse_too_late
from tunewright.errors import AlreadyRunning, AlreadySucceeded, JobError, TunewrightError
from tunewright.events import Event
from tunewright.plan.manifests import Manifests
from tunewright.plan.plan import MAIN_STEP, JobPlan
from tunewright.request.raw import RawManifest
from tunewright.request.update import JobUpdate
from tunewright.status.status import JobGlance, JobPod, JobRecord, JobStatus, LogLine
from tunewright.status.summary import progress_of

_Item = TypeVar("_Item")

_TICK = 1.0  # seconds

# Progress is read from the newest events of this many workers at most: each costs one request.
_PROGRESS_SOURCES = 8


class KubernetesBackend(Backend):
    """Runs jobs on Kubernetes, as objects of one kind.

    It keeps no state: everything known about a job is in the cluster. No kubeconfig is read and no request is sent before
    the first call that needs the cluster, so plans can be rendered anywhere.

    Class attributes:
        kind: the kind of job object.

    Args:
        options: what `TrainingClient` was given.
        connection: made from them, where backends share one; None for one of its own.
    """

    kind: ClassVar[JobKind]
    suspends_on_interrupt: ClassVar[bool] = False

    def __init__(self, options: BackendOptions, connection: Connection | None = None) -> None:
        self._options = options
        self._connection = connection or Connection(options)

    @classmethod
    def connect(cls, options: BackendOptions) -> Self:
        """Return a backend. The kubeconfig is read later, on the first request."""
        return cls(options)

    def render(self, plan: JobPlan) -> Manifests:
        """Render the job object, and the Secret, ConfigMap and claims that belong to it; raises as `Backend.render`."""
        return bases.noted(render(self.kind, plan, self._options.namespace), plan)

    def submit(self, plan: JobPlan) -> None:
        """Create the job, or continue an identical job where it stopped.

        Raises:
            RequestError: the plan has something that a job of this kind cannot do, or there is no kubeconfig.
            AlreadySucceeded: an identical job has succeeded.
            NameTaken: a running job, a job with another plan, or somebody else's object has that name.
            ClusterError: the cluster refused the job; nothing is left behind. `failures` has the subclasses.
        """
        manifests = self.render(plan)
        with self._explained(plan.name):
            if plan.scheduling.runtime is not None:
                manifests = render(self.kind, plan, self._options.namespace, bases.find_base(self.api, plan))
        self._submit(manifests.reveal(), kept_claims(plan))

    def render_raw(self, manifest: RawManifest) -> Manifests:
        """Render the user's own manifest, labelled so that it can be found; raises as `Backend.render_raw`."""
        return render_raw(self.kind, manifest, self._options.namespace)

    def submit_raw(self, manifest: RawManifest) -> None:
        """Submit the user's own manifest; raises as `submit`."""
        documents = self.render_raw(manifest).reveal()
        check_namespace(self.kind.parts(documents)[1], self.api.namespace)
        self._submit(documents, ())

    def _submit(self, documents: Sequence[Object], kept: Collection[str]) -> None:
        name = self.kind.parts(documents)[1]["metadata"]["name"]
        with self._explained(name):
            old = self.api.find(self.kind.kind, name)
            if old is not None and not (job := self.kind.read(old)).ending and not self._makes_way(job, documents):
                return
            submit(self.api, documents, kept)

    def get(self, name: str) -> JobStatus:  # noqa: D102 - the base's
        with self._explained(name):
            job = self._job(name)
            return self._status(job, self._pods(name))

    def list(self, labels: Mapping[str, str] | None = None) -> builtins.list[JobStatus]:
        """Return the namespace's Tunewright jobs, newest first; with `labels`, only those that have all of them.

        It takes a request for 500 jobs, or pods of running ones, and reads no logs: details are shorter than those of `get`.
        """
        with self._explained(""):
            return statuses(self.api, live_jobs(self.api, labels))

    def list_everywhere(self, labels: Mapping[str, str] | None = None) -> builtins.list[JobStatus]:
        """Return the Tunewright jobs of all namespaces, as `list`.

        Raises:
            Forbidden: the user may not list them in all namespaces.
        """
        with self._explained("", everywhere=True):
            return statuses(self.api, live_jobs(self.api, labels, everywhere=True), everywhere=True)

    def glances(self, jobs: Sequence[JobStatus]) -> builtins.list[JobGlance]:  # noqa: D102 - the base's
        with self._explained(""):
            return glances(lambda namespace: self.at(namespace).api, jobs)

    def at(self, namespace: str) -> Self:  # noqa: D102 - the base's
        return type(self)(attrs.evolve(self._options, namespace=namespace), self._connection.at(namespace))

    def watch(self, name: str) -> Iterator[JobStatus]:
        """Yield the status on each change, from a watch rather than by polling. Progress is read once a second.

        Raises:
            JobError: there is no such job, or it is deleted while being watched.
        """
        with self._explained(name):
            yield self._status(self._job(name), self._pods(name))
            with Informer(self.api) as informer:
                informer.watch(name)
                cache = JobCache()
                while True:
                    cache.take(informer.get(_TICK))
                    if cache.gone:
                        raise no_such(name, self.api.namespace)
                    if cache.whole and cache.job:
                        yield self._status(cache.job, cache.pods)

    def logs(  # noqa: D102 - the base's
        self, name: str, *, follow: bool = False, container: str | None = None, worker: int | None = None
    ) -> Iterator[LogLine]:
        with self._explained(name):
            wanted = wanted_of(self._job(name), self.kind.added_containers, container, worker)
            if not follow:
                return self._explained_lines(name, read(self.api, self._pods(name), wanted))
            news = self._follow(name, wanted)
            return self._explained_lines(name, (item for item in news if isinstance(item, LogLine)))

    def updates(self, name: str) -> Iterator[LogLine | JobStatus]:  # noqa: D102 - the base's
        with self._explained(name):
            news = self._follow(name, wanted_of(self._job(name), self.kind.added_containers, None, None))
            return self._explained_lines(name, ProgressNotes(self.api, name).during(news))

    def events(self, name: str) -> builtins.list[Event]:  # noqa: D102 - the base's
        with self._explained(name):
            job = self._job(name)
            try:
                return events_about(self.kind, job, self.api.list("Event", {}).items)
            except ApiFailure as failure:
                if failure.status == HTTPStatus.FORBIDDEN:
                    return []  # the containers' own events are still worth having
                raise

    def pods(self, name: str) -> builtins.list[JobPod]:  # noqa: D102 - the base's
        with self._explained(name):
            self._job(name)
            return [as_job_pod(pod) for pod in in_order(self._pods(name))]

    def newest_events(self, name: str) -> Iterator[Event]:  # noqa: D102 - the base's
        with self._explained(name):
            for pod, container in reversed(Wanted(MAIN_STEP, 0).of(self._pods(name))):
                yield from newest_events(self.api, pod, container)

    def record(self, name: str) -> JobRecord:  # noqa: D102 - the base's
        with self._explained(name):
            document = self.api.get(self.kind.kind, name)
            self._ours(document)
            config, template = self._found("ConfigMap", names.config_name(name)), document
            if holder := self.kind.holder(document):
                template = self._found(*holder) or {}
            return record_of(self.kind, document, self._pods(name), config, template)

    def update(self, name: str, update: JobUpdate) -> None:  # noqa: D102 - the base's
        with self._explained(name):
            document = self.api.get(self.kind.kind, name)
            patch = patch_for(self.kind, document, update)
            refuse_too_late(self.kind, self._ours(document), update)
            try:
                self.api.patch(self.kind.kind, name, patch)
            except ApiFailure as failure:
                if not failure.conflict:
                    raise
                problem = f"Somebody else changed job {name!r} at the same time; nothing was updated."
                raise JobError(f"{problem} Try again.", name=name) from failure

    def suspend(self, name: str) -> None:  # noqa: D102 - the base's
        with self._explained(name):
            job = self._job(name)
            refuse_queued(self.kind, job)
            if job.ended:
                raise JobError(f"Job {name!r} has already ended; there is nothing to suspend.", name=name)
            doing(f"suspending {name}, and waiting until its pods have ended")
            self.api.patch(self.kind.kind, name, self.kind.suspend(suspended=True))
            if not await_gone(lambda: has_unfinished_pods(self.api, name), END_TIMEOUT):
                raise still_ending(self.kind, name)

    def resume(self, name: str) -> None:
        """Resume a suspended job.

        Raises:
            JobError: there is no such job, it is not suspended, or Kueue decides when it runs.
        """
        with self._explained(name):
            self._resume(self._job(name))

    def delete(self, name: str) -> None:
        """Stop the job and delete it with everything it owns; a claim with the only copy of the result is kept.

        Raises:
            JobError: there is no such job, or its pods do not terminate.
        """
        with self._explained(name):
            if self.api.find(self.kind.kind, name, metadata=True) is None and remove_unowned(self.api, name):
                return
            self._delete(self._job(name))

    def kept(self, name: str) -> builtins.list[str]:
        """Return the claims that `delete` leaves, or has left, because they hold the only copy of the result."""
        with self._explained(name):
            return claims.kept(self.api, name)

    def discard(self, kept: Sequence[str]) -> None:  # noqa: D102 - the base's
        with self._explained(kept[0] if kept else ""):
            claims.discard(self.api, kept)

    def command_for(self, command: str, name: str) -> str:  # noqa: D102 - the base's
        return names.command_for(
            command, name, self.api.namespace, backend=self.kind.backend, context=self._options.context
        )

    def diagnose(self, plan: JobPlan | None) -> Iterator[Finding]:  # noqa: D102 - the base's
        try:
            plan = plan or doctor.sample_plan()
            yield from doctor.diagnose(self.api, plan, self.render(plan).reveal()[0])
        except TunewrightError as error:  # this kind of job cannot run the plan, or there is no kubeconfig
            yield problem("cluster", error)

    def _resume(self, job: LiveJob) -> None:
        refuse_queued(self.kind, job)
        if job.ended:
            ending = "succeeded" if "Succeeded" in job.conditions else "failed"
            remedy = f"To run it again, delete it and submit it again: {self.command_for('delete', job.name)}"
            raise JobError(f"Job {job.name!r} has {ending}, and Kubernetes cannot restart it. {remedy}", name=job.name)
        if not job.suspended:
            raise JobError(
                f"Job {job.name!r} is not suspended. Follow it: {self.command_for('follow', job.name)}", name=job.name
            )
        self.api.patch(self.kind.kind, job.name, self.kind.suspend(suspended=False))

    def _delete(self, job: LiveJob) -> None:
        doing(f"deleting {job.name}, and waiting until its pods have ended")
        self.api.delete(self.kind.kind, job.name, uid=job.uid, propagation=self.kind.propagation)
        if not await_gone(lambda: remains(self.api, job.name), END_TIMEOUT):
            raise still_ending(self.kind, job.name)

    def _makes_way(self, job: LiveJob, documents: Sequence[Object]) -> bool:
        """Remove an existing job for the new one and return True; return False where it is the same job, which continues."""
        name = job.name
        if not job.ours or job.annotations.get(names.PLAN) != plan_digest(self.kind, documents):
            differs = job.ours and difference(self.api, documents)
            owner = f"this request differs from it in {differs}" if differs else "its plan differs"
            owner = owner if job.ours else "Tunewright did not create it"
            remedy = f"Choose another name, or delete it: {self.command_for('delete', name)}"
            raise NameTaken(f"A job named {name!r} already exists, and {owner}. {remedy}", name=name)
        if "Succeeded" in job.conditions:
            remedy = f"To run it again: {self.command_for('delete', name)}"
            raise AlreadySucceeded(f"Job {name!r} has already succeeded with an identical plan. {remedy}", name=name)
        if "Failed" in job.conditions:
            self._delete(job)
            return True
        if incomplete := incompleteness(self.api, job):
            raise NameTaken(f"An identical job {name!r} already exists. {incomplete}", name=name)
        if not job.suspended or job.queue:
            follow = self.command_for("follow", name)
            raise AlreadyRunning(f"An identical job {name!r} is already running. Follow it: {follow}", name=name)
        if (sealed := job.annotations.get(names.SECRETS)) and not same(documents, sealed):
            remedy = f"Delete it and submit it again, and it goes on from its newest checkpoint: {self.command_for('delete', name)}"
            problem = f"Job {name!r} was submitted with other secrets, which Kubernetes keeps while it exists."
            raise NameTaken(f"{problem} {remedy}", name=name)
        if not self.kind.suspended(self.kind.parts(documents)[1]):
            self._resume(job)
        return False

    def _status(self, job: LiveJob, pods: Sequence[Pod]) -> JobStatus:
        job = end_if_endless(self.api, job, pods, lambda: self._waits_for(job, pods))
        phase = phase_of(job, pods)
        said = lost_node(pods) or self._said(phase) or obstacle(self.api, job, phase, pods)
        return status_of(job, phase, said or start_of(job, phase, pods), pods)

    def _waits_for(self, job: LiveJob, pods: Sequence[Pod]) -> str:
        phase = phase_of(job, pods)
        return obstacle(self.api, job, phase, pods) or phase.detail or start_of(job, phase, pods)

    def _said(self, phase: JobPhase) -> str:
        """Return the job's progress, from its containers' newest events."""
        for pod, container in phase.progress_sources[:_PROGRESS_SOURCES]:
            if text := progress_of(newest_events(self.api, pod, container), fetching=container.init):
                return text
        return ""

    def _followed(self, job: LiveJob, pods: Sequence[Pod]) -> JobStatus:
        """Return the status without what only further requests could tell."""
        job = end_if_endless(self.api, job, pods, lambda: self._waits_for(job, pods))
        return status_of(job, phase := phase_of(job, pods), lost_node(pods) or start_of(job, phase, pods), pods)

    def _follow(self, name: str, wanted: Wanted) -> Iterator[LogLine | JobStatus]:
        return Follower(self.api, name, wanted, status=self._followed, pods=lambda: self._pods(name)).updates()

    def _explained_lines(self, name: str, lines: Iterator[_Item]) -> Iterator[_Item]:
        with self._explained(name):
            yield from lines

    def _found(self, kind: str, name: str) -> Object | None:
        """Return an object that a record is still worth having without; None if it is not there or may not be read."""
        with contextlib.suppress(ApiFailure, KeyError):  # KeyError: a kind that only its own users may read
            return self.api.find(kind, name)
        return None

    def _job(self, name: str) -> LiveJob:
        return self._ours(self.api.get(self.kind.kind, name))

    def _ours(self, document: Object) -> LiveJob:
        job = self.kind.read(document)
        if not job.ours:
            problem = f"Tunewright did not create the {self.kind.kind} {job.name!r}."
            raise JobError(f"{problem} Manage it with kubectl.", name=job.name)
        return job

    def _pods(self, name: str) -> builtins.list[Pod]:
        selector = {"labelSelector": f"{self.kind.job_label}={name}"}
        return [self.kind.read_pod(document) for document in self.api.list("Pod", selector).items]

    @functools.cached_property
    def api(self) -> Api:
        """The connection to the namespace, made on first use."""
        return Api(self._connection, self.kind)

    @contextlib.contextmanager
    def _explained(self, name: str, *, everywhere: bool = False) -> Iterator[None]:
        try:
            yield
        except ApiFailure as failure:
            namespace = ALL_NAMESPACES if everywhere else self.api.namespace
            raise explained(failure, self.api.kind, name=name, namespace=namespace) from failure
