"""The claims that outlive their jobs, because they hold the only copy of a result."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.api import Api

_CLAIM = "PersistentVolumeClaim"


def kept(api: Api, job: str) -> list[str]:
    """Return the names of a job's claims that nothing owns, whether the job still exists or not."""
    selector = ",".join(f"{key}={value}" for key, value in names.labels(job).items())
    found = api.list(_CLAIM, {"labelSelector": selector}, metadata=True).items
    return [claim["metadata"]["name"] for claim in found if not claim["metadata"].get("ownerReferences")]


def discard(api: Api, claims: Sequence[str]) -> None:
    """Delete claims."""
    for claim in claims:
        api.delete(_CLAIM, claim)
