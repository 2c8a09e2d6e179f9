"""The names by which a job's objects, containers and annotations are found again."""

from __future__ import annotations

import string
from collections.abc import Mapping

from tunewright.plan import plan
from tunewright.plan.plan import ContainerSpec, JobPlan

CHECK = "check"
"""The last init container of a training, which no other job has."""

MANAGED_BY, INSTANCE, QUEUE = plan.MANAGED_BY, plan.INSTANCE, plan.QUEUE

OUTPUT = "tunewright.dev/output"
"""Annotation of the job: URI of its output, `pvc://claim/folder` where it stays on a claim."""

OBJECTS = "tunewright.dev/objects"
"""Annotation of the job: the objects that belong to it, `Kind/name`, with commas between them."""

PLAN = "tunewright.dev/plan"
"""Annotation of the job and of the claims that outlive it, set at submit: digest of what the job does."""


def labels(job: str) -> dict[str, str]:
    """The labels of everything that is made for a job."""
    return {MANAGED_BY: "tunewright", INSTANCE: job}


def config_name(job: str) -> str:
    """The ConfigMap with the plan's files."""
    return f"{job}-config"


def secret_name(job: str) -> str:
    """The Secret with the plan's literal secrets."""
    return f"{job}-secrets"


def secret_key(container: ContainerSpec, variable: str) -> str:
    """The key of one literal secret: each container has keys of its own, and sees no other's."""
    return f"{container.name}.{variable}"


def claim_name(job: str, volume: str) -> str:
    """The claim that is made for a volume of the plan."""
    return f"{job}-{volume}"


def file_key(name: str) -> str:
    """The key under which a ConfigMap has a file of a folder: a key takes neither "/" nor letters beyond ASCII."""
    plain = string.ascii_letters + string.digits + "-."
    return "".join(c if c in plain else "".join(f"_{byte:02x}" for byte in c.encode()) for c in name)


def file_keys(plan: JobPlan) -> dict[str, str]:
    """Name of each file of the plan → its key in the ConfigMap: the name itself, unless some lie in folders."""
    return {name: file_key(name) if any("/" in n for n in plan.files) else name for name in plan.files}


def command_for(command: str, job: str, namespace: str, context: str | None = None) -> str:
    """What to type to do something with a job; see `Backend.command_for`."""
    place = f" --context {context}" if context else ""
    return f"tunewright {command} {job} --backend kubernetes -n {namespace}{place}"


def object_id(document: Mapping[str, object]) -> str:
    """`Kind/name` of a manifest."""
    metadata = document["metadata"]
    assert isinstance(metadata, Mapping)  # noqa: S101 - for the type checker: every manifest here has one
    return f"{document['kind']}/{metadata['name']}"
