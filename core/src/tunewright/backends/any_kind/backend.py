"""A backend that chooses the kind of a job object by what the cluster can run, and finds the jobs of all kinds again."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar, Final, Self

import attrs

from tunewright._doing import doing
from tunewright.backends.any_kind.presence import creatable, explaining, holds, listed, lists, usable
from tunewright.backends.base import Backend, BackendOptions, Finding
from tunewright.backends.job import IndexedJobBackend
from tunewright.backends.kubernetes.backend import KubernetesBackend
from tunewright.backends.kubernetes.connection import Connection
from tunewright.backends.kubernetes.kind import JobKind
from tunewright.backends.kubernetes.listing import statuses
from tunewright.backends.kubernetes.submit import remove_unowned
from tunewright.backends.pytorchjob import PyTorchJobBackend
from tunewright.backends.trainjob import TrainJobBackend
from tunewright.errors import RequestError, TunewrightError, did_you_mean
from tunewright.events import Event
from tunewright.plan.manifests import Manifests
from tunewright.plan.plan import JobPlan
from tunewright.request.raw import RawManifest
from tunewright.request.update import JobUpdate
from tunewright.status.status import JobGlance, JobPod, JobRecord, JobStatus, LogLine

IN_ORDER: Final = (PyTorchJobBackend, TrainJobBackend, IndexedJobBackend)
"""The kinds, the one that can do most first."""

_EVER = datetime.min.replace(tzinfo=UTC)


class AnyKindBackend(Backend):
    """Submits PyTorchJobs where the training-operator runs, else TrainJobs, else Jobs; manages the jobs of all kinds.

    Without a cluster, plans are rendered as PyTorchJobs.

    Attributes:
        kinds: a backend for each kind, in the order in which they are chosen.

    Args:
        options: what `TrainingClient` was given.
        connection: made from them, where backends share one; None for one of its own.
    """

    suspends_on_interrupt: ClassVar[bool] = False

    def __init__(self, options: BackendOptions, connection: Connection | None = None) -> None:
        self._options = options
        self._connection = connection or Connection(options)
        self.kinds: builtins.list[KubernetesBackend] = [kind(options, self._connection) for kind in IN_ORDER]
        self._places: dict[str, AnyKindBackend] = {}
        self._known: dict[str, KubernetesBackend] = {}

    @classmethod
    def connect(cls, options: BackendOptions) -> Self:
        """Return a backend. The kubeconfig is read later, on the first request."""
        return cls(options)

    def render(self, plan: JobPlan) -> Manifests:
        """Render the plan as a PyTorchJob, whatever the cluster runs; raises as `Backend.render`."""
        if (asked := self._asked(plan)) is not None:
            return asked.render(plan)
        first, *others = (kind.kind for kind in self.kinds)
        choices = " or ".join(f"--backend {kind.backend}" for kind in others)
        note = f"Rendered as a {first.kind}. Submitting looks at what the cluster can run; to render another kind: {choices}."
        return self.kinds[0].render(plan).noted(note)

    def render_raw(self, manifest: RawManifest) -> Manifests:
        """Render the user's own manifest, of any kind; raises as `Backend.render_raw`."""
        return self._wrote(manifest).render_raw(manifest)

    def submit(self, plan: JobPlan) -> None:
        """Submit the plan as a job of the first kind that the cluster can run; raises as `KubernetesBackend.submit`."""
        chosen = self._known[plan.name] = self._known.get(plan.name) or self._chosen(plan)
        if chosen is not self.kinds[0]:
            doing(f"submitting {plan.name} as a {chosen.kind.kind}")
        chosen.submit(plan)

    def submit_raw(self, manifest: RawManifest) -> None:
        """Submit the user's own manifest, of any kind; raises as `submit`."""
        self._wrote(manifest).submit_raw(manifest)

    def get(self, name: str) -> JobStatus:  # noqa: D102 - the base's
        return self._of(name).get(name)

    def watch(self, name: str) -> Iterator[JobStatus]:  # noqa: D102 - the base's
        return self._of(name).watch(name)

    def list(self, labels: Mapping[str, str] | None = None) -> builtins.list[JobStatus]:
        """Return the namespace's Tunewright jobs of all kinds that the user may list, newest first.

        Raises:
            ClusterError: the cluster cannot be reached, or the user may list none of them.
        """
        known = {kind: jobs for kind in self.kinds if (jobs := listed(kind.api, labels)) is not None}
        if not known:
            return self.kinds[0].list(labels)  # says why not
        self._known |= {job.name: kind for kind, jobs in known.items() for job in jobs}
        with explaining(self.kinds[0].api):
            return _newest_first([s for kind, jobs in known.items() for s in statuses(kind.api, jobs)])

    def list_everywhere(self, labels: Mapping[str, str] | None = None) -> builtins.list[JobStatus]:
        """Return the Tunewright jobs of all namespaces and of all kinds that the user may list there, newest first.

        Raises:
            ClusterError: the cluster cannot be reached, or the user may list none of them.
        """
        known = {kind: jobs for kind in self.kinds if (jobs := listed(kind.api, labels, everywhere=True)) is not None}
        if not known:
            return self.kinds[0].list_everywhere(labels)  # says why not
        for kind, jobs in known.items():
            for job in jobs:
                self.at(job.namespace)._known[job.name] = kind.at(job.namespace)
        with explaining(self.kinds[0].api):
            return _newest_first([s for k, jobs in known.items() for s in statuses(k.api, jobs, everywhere=True)])

    def glances(self, jobs: Sequence[JobStatus]) -> builtins.list[JobGlance]:  # noqa: D102 - the base's
        kinds = [self._places.get(job.namespace, self)._of(job.name).kind for job in jobs]
        found: dict[tuple[str, str], JobGlance] = {}
        for backend in self.kinds:
            own = [job for job, kind in zip(jobs, kinds, strict=True) if kind is backend.kind]
            found |= {(job.namespace, job.name): g for job, g in zip(own, backend.glances(own), strict=True)}
        return [found[job.namespace, job.name] for job in jobs]

    def at(self, namespace: str) -> AnyKindBackend:  # noqa: D102 - the base's
        if namespace not in self._places:
            options = attrs.evolve(self._options, namespace=namespace)
            self._places[namespace] = AnyKindBackend(options, self._connection.at(namespace))
        return self._places[namespace]

    def logs(  # noqa: D102 - the base's
        self, name: str, *, follow: bool = False, container: str | None = None, worker: int | None = None
    ) -> Iterator[LogLine]:
        return self._of(name).logs(name, follow=follow, container=container, worker=worker)

    def updates(self, name: str) -> Iterator[LogLine | JobStatus]:  # noqa: D102 - the base's
        return self._of(name).updates(name)

    def newest_events(self, name: str) -> Iterator[Event]:  # noqa: D102 - the base's
        return self._of(name).newest_events(name)

    def events(self, name: str) -> builtins.list[Event]:  # noqa: D102 - the base's
        return self._of(name).events(name)

    def pods(self, name: str) -> builtins.list[JobPod]:  # noqa: D102 - the base's
        return self._of(name).pods(name)

    def record(self, name: str) -> JobRecord:  # noqa: D102 - the base's
        return self._of(name).record(name)

    def update(self, name: str, update: JobUpdate) -> None:  # noqa: D102 - the base's
        self._of(name).update(name, update)

    def suspend(self, name: str) -> None:  # noqa: D102 - the base's
        self._of(name).suspend(name)

    def resume(self, name: str) -> None:  # noqa: D102 - the base's
        self._of(name).resume(name)

    def delete(self, name: str) -> None:  # noqa: D102 - the base's
        if self._find(name) is None and any(remove_unowned(kind.api, name) for kind in self.kinds):
            return
        self._of(name).delete(name)
        self._known.pop(name, None)

    def kept(self, name: str) -> builtins.list[str]:  # noqa: D102 - the base's
        return self.kinds[0].kept(name)  # claims are the same for all kinds

    def discard(self, kept: Sequence[str]) -> None:  # noqa: D102 - the base's
        self.kinds[0].discard(kept)

    def command_for(self, command: str, name: str) -> str:  # noqa: D102 - the base's
        return self.kinds[0].command_for(command, name)

    def diagnose(self, plan: JobPlan | None) -> Iterator[Finding]:
        """Yield what the kind needs that jobs would be submitted as, and what the others would need to be chosen."""
        try:
            usables = [kind for kind in self.kinds if usable(kind.api)]
        except TunewrightError:
            usables = []  # no cluster: the diagnosis of the first kind says why
        asked = self._named(self._options.kind) if self._options.kind is not None else None
        chosen = asked or next(iter(usables), self.kinds[0])
        if chosen in usables:
            yield Finding(about="kind", level="ok", text=f"Jobs are submitted as {chosen.kind.kind}s.")
            yield from (_missing(kind.kind) for kind in self.kinds if kind not in usables)
        yield from chosen.diagnose(plan)

    def _chosen(self, plan: JobPlan) -> KubernetesBackend:
        """Return the kind that has a job of that name; else one that the plan asks for; else the first that can be created.

        That is one that the cluster can run, and that the user may create. If there is none, the first of all says why not.
        """
        there: builtins.list[KubernetesBackend] = []
        for kind in self.kinds:
            if (held := holds(kind.api, plan.name)) is not None:
                there.append(kind)
            if held:
                return kind
        asked = self._asked(plan)
        return asked or next((kind for kind in there if creatable(kind.api)), self.kinds[0])

    def _asked(self, plan: JobPlan) -> KubernetesBackend | None:
        """Return the kind that the user chose, or the only one that has what the plan asks for; None if any will do.

        Raises:
            RequestError: there is no kind of that name.
        """
        if self._options.kind is not None:
            return self._named(self._options.kind)
        return None if plan.scheduling.runtime is None else next(kind for kind in self.kinds if kind.kind.bases)

    def _named(self, name: str) -> KubernetesBackend:
        known = {kind.kind.kind.lower(): kind for kind in self.kinds}
        if (found := known.get(name.lower())) is None:
            raise RequestError(
                "is not a kind of job", field="kind", value=name, remedy=did_you_mean(name.lower(), known)
            )
        return found

    def _of(self, name: str) -> KubernetesBackend:
        """Return the kind of a job; where there is no such job, one that says so."""
        return self._find(name) or next((kind for kind in self.kinds if lists(kind.api)), self.kinds[0])

    def _find(self, name: str) -> KubernetesBackend | None:
        if name not in self._known:
            found = next((kind for kind in self.kinds if holds(kind.api, name)), None)
            if found is None:
                return None
            self._known[name] = found
        return self._known[name]

    def _wrote(self, manifest: RawManifest) -> KubernetesBackend:
        """Return the kind of a manifest; for an unknown one the first, which refuses it."""
        return next((k for k in self.kinds if k.kind.kind == manifest.document.get("kind")), self.kinds[0])


def _newest_first(found: Sequence[JobStatus]) -> list[JobStatus]:
    return sorted(found, key=lambda job: (job.created or _EVER, job.name), reverse=True)


def _missing(kind: JobKind) -> Finding:
    text = f"You cannot create {kind.kind}s here, which {kind.controller} would run. Jobs do without."
    remedy = f"If you want them: {kind.installation} The role of their users is {kind.role}."
    return Finding(about="kind", level="note", text=text, remedy=remedy)
