"""Many jobs at once: their objects and the pods of those that run, read page by page, so that a page is all that is held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.live import LiveJob, Pod
from tunewright.backends.kubernetes.state import phase_of, status_of
from tunewright.backends.kubernetes.submit import UNFINISHED
from tunewright.status.status import JobStatus


def live_jobs(api: Api, labels: Mapping[str, str] | None, *, everywhere: bool = False) -> list[LiveJob]:
    """Return Tunewright's jobs of a kind, with `labels` only those that have all of them.

    Raises:
        ApiFailure: the cluster refuses the request.
    """
    selector = ",".join(f"{k}={v}" for k, v in {names.MANAGED_BY: "tunewright", **(labels or {})}.items())
    pages = api.pages(api.kind.kind, {"labelSelector": selector}, everywhere=everywhere)
    return [api.kind.read(document) for page in pages for document in page.items]


def statuses(api: Api, jobs: Sequence[LiveJob], *, everywhere: bool = False) -> list[JobStatus]:
    """Return the statuses of jobs, newest first. No log is read, so their details are shorter than those of one job.

    Raises:
        ApiFailure: the cluster refuses the request for pods, which is sent if a job has not ended.
    """
    pods = _unfinished_pods(api, everywhere=everywhere) if any(not job.ended for job in jobs) else {}
    newest = sorted(jobs, key=lambda job: (job.created, job.name), reverse=True)
    return [status_of(job, phase_of(job, pods.get((job.namespace, job.name), ()))) for job in newest]


def _unfinished_pods(api: Api, *, everywhere: bool) -> dict[tuple[str, str], list[Pod]]:
    # Of all jobs: a job's labels can be changed after submission, and its pods keep the old ones; and the pods of a job
    # that the user wrote may have none of ours.
    query = {"labelSelector": api.kind.job_label, "fieldSelector": UNFINISHED}
    found: dict[tuple[str, str], list[Pod]] = {}
    for page in api.pages("Pod", query, everywhere=everywhere):
        for document in page.items:
            metadata = document["metadata"]
            job = metadata["namespace"], metadata["labels"].get(api.kind.job_label, "")
            found.setdefault(job, []).append(api.kind.read_pod(document))
    return found
