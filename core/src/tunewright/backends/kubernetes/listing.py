"""Many jobs at once: their objects, and the pods of those that run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from tunewright.backends.base import GLANCED_EVENTS, GLANCES_AT_ONCE
from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.live import LiveJob, Pod
from tunewright.backends.kubernetes.logs import Wanted, newest_events
from tunewright.backends.kubernetes.state import phase_of, status_of
from tunewright.backends.kubernetes.submit import UNFINISHED
from tunewright.plan.plan import MAIN_STEP
from tunewright.status.status import JobGlance, JobStatus


def live_jobs(api: Api, labels: Mapping[str, str] | None, *, everywhere: bool = False) -> list[LiveJob]:
    """Return Tunewright's jobs of a kind, with `labels` only those that have all of them.

    Raises:
        ApiFailure: the cluster refuses the request.
    """
    selector = ",".join(f"{k}={v}" for k, v in {names.MANAGED_BY: "tunewright", **(labels or {})}.items())
    return [api.kind.read(d) for d in api.cached(api.kind.kind, {"labelSelector": selector}, everywhere=everywhere)]


def statuses(api: Api, jobs: Sequence[LiveJob], *, everywhere: bool = False) -> list[JobStatus]:
    """Return the statuses of jobs, newest first. No log is read, so their details are shorter than those of one job.

    Raises:
        ApiFailure: the cluster refuses the request for pods, which is sent if a job has not ended.
    """
    pods = _unfinished_pods(api, everywhere=everywhere) if any(not job.ended for job in jobs) else {}
    newest = sorted(jobs, key=lambda job: (job.created, job.name), reverse=True)
    return [status_of(job, phase_of(job, pods.get((job.namespace, job.name), ()))) for job in newest]


def glances(at: Callable[[str], Api], jobs: Sequence[JobStatus]) -> list[JobGlance]:
    """Return what a list shows of each job: from a request for all objects, one for all pods, and one for the log of each job.

    Args:
        at: returns the connection to a namespace.
        jobs: at most some dozens, as the requests name them all.

    Raises:
        ApiFailure: the cluster refuses a request.
    """
    if not jobs:
        return []
    api, everywhere = at(jobs[0].namespace), any(job.namespace != jobs[0].namespace for job in jobs)
    named = f"in ({','.join(sorted({job.name for job in jobs}))})"
    models = _models(api, f"{names.MANAGED_BY}=tunewright,{names.INSTANCE} {named}", everywhere=everywhere)
    pods = _pods(api, {"labelSelector": f"{api.kind.job_label} {named}"}, everywhere=everywhere)

    def glance(job: JobStatus) -> JobGlance:
        key = job.namespace, job.name
        found = Wanted(MAIN_STEP, 0).of(pods.get(key, ()))
        events = (e for pod, container in reversed(found) for e in newest_events(at(job.namespace), pod, container))
        return JobGlance(model=models.get(key, ""), events=itertools.islice(events, GLANCED_EVENTS))

    with ThreadPoolExecutor(GLANCES_AT_ONCE) as pool:
        return list(pool.map(glance, jobs))


def _models(api: Api, selector: str, *, everywhere: bool) -> dict[tuple[str, str], str]:
    documents = api.cached(api.kind.kind, {"labelSelector": selector}, metadata=True, everywhere=everywhere)
    found = [document["metadata"] for document in documents]
    return {(m["namespace"], m["name"]): (m.get("annotations") or {}).get(names.MODEL, "") for m in found}


def _unfinished_pods(api: Api, *, everywhere: bool) -> dict[tuple[str, str], list[Pod]]:
    # Of all jobs: a job's labels can be changed after submission, and its pods keep the old ones; and the pods of a job
    # that the user wrote may have none of ours.
    query = {"labelSelector": api.kind.job_label, "fieldSelector": UNFINISHED}
    return _pods(api, query, everywhere=everywhere)


def _pods(api: Api, query: Mapping[str, str], *, everywhere: bool) -> dict[tuple[str, str], list[Pod]]:
    """Return pods by the namespace and name of their job."""
    found: dict[tuple[str, str], list[Pod]] = {}
    for document in api.cached("Pod", query, everywhere=everywhere):
        metadata = document["metadata"]
        job = metadata["namespace"], metadata["labels"].get(api.kind.job_label, "")
        found.setdefault(job, []).append(api.kind.read_pod(document))
    return found
