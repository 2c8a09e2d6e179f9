"""Names of a job's objects, labels and annotations: everything by which they are found later."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Literal

from tunewright.plan import plan
from tunewright.plan.plan import ContainerSpec, JobPlan

CHECK = "check"
"""The last init container of a training; no other job has it."""

Component = Literal["job", "worker", "configuration", "secrets", "storage", "network"]
"""What an object is to its job."""

MANAGED_BY, INSTANCE, QUEUE = plan.MANAGED_BY, plan.INSTANCE, plan.QUEUE

OUTPUT = "tunewright.dev/output"
"""Annotation of the job: URI of its output, `pvc://claim/folder` where it stays on a claim."""

MODEL = "tunewright.dev/model"
"""Annotation of the job: URI of its model, as the user wrote it; for lists of jobs."""

OBJECTS = "tunewright.dev/objects"
"""Annotation of the job: the objects that belong to it, as comma-separated `Kind/name`."""

STEPS = "tunewright.dev/steps"
"""Annotation of a job whose object does not hold its pods' template: names of the containers, comma-separated, in start order."""

FAILURE = "tunewright.dev/failure"
"""Annotation of a job that was ended because it could never run, or waited too long: the failure."""

WAIT_FOR = "tunewright.dev/wait-for"
"""Annotation of the job: seconds that its pods may wait to start before whoever looks at it ends it."""

LATE = "tunewright.dev/deadline-passed"
"""Annotation of a job whose controller had not seen that its deadline has passed; writing it makes the controller look."""

SECRETS = "tunewright.dev/secrets"
"""Annotation of a job with literal secrets, set at submit: a salted digest of them, slow to guess from."""

PLAN = "tunewright.dev/plan"
"""Annotation of the job and of the claims that outlive it, set at submit: a digest of what the job does."""


def labels(job: str) -> dict[str, str]:
    """Return the labels by which the objects of a job are found."""
    return {MANAGED_BY: "tunewright", INSTANCE: job}


def recommended(component: Component) -> dict[str, str]:
    """Return the labels of every object of a job that say what it is, which users may set otherwise.

    https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/
    """
    name, part_of, kind = plan.RECOMMENDED
    return {name: "tunewright", part_of: "tunewright", kind: component}


def all_labels(job: str, component: Component) -> dict[str, str]:
    """Return the labels of an object of a job that takes none of the user's."""
    return {**recommended(component), **labels(job)}


def config_name(job: str) -> str:
    """Return the name of the ConfigMap with the plan's files."""
    return f"{job}-config"


def secret_name(job: str) -> str:
    """Return the name of the Secret with the plan's literal secrets."""
    return f"{job}-secrets"


def secret_key(container: ContainerSpec, variable: str) -> str:
    """Return the key of one literal secret. Each container has its own keys and cannot see those of others."""
    return f"{container.name}.{variable}"


def claim_name(job: str, volume: str) -> str:
    """Return the name of the claim that is created for a volume of the plan."""
    return f"{job}-{volume}"


def file_key(name: str) -> str:
    """Return the ConfigMap key of a file in a folder: a key may contain neither "/" nor non-ASCII letters."""
    plain = string.ascii_letters + string.digits + "-."
    return "".join(c if c in plain else "".join(f"_{byte:02x}" for byte in c.encode()) for c in name)


def file_keys(plan: JobPlan) -> dict[str, str]:
    """Return file name → ConfigMap key. The key is the name itself, unless some files are in folders."""
    return {name: file_key(name) if any("/" in n for n in plan.files) else name for name in plan.files}


def command_for(command: str, job: str, namespace: str, *, backend: str, context: str | None = None) -> str:
    """Return the command line that does something with a job; see `Backend.command_for`."""
    place = f" --context {context}" if context else ""
    return f"tunewright {command} {job} --backend {backend} -n {namespace}{place}"


def object_id(document: Mapping[str, object]) -> str:
    """Return `Kind/name` of a manifest."""
    metadata = document["metadata"]
    assert isinstance(metadata, Mapping)  # noqa: S101 - for the type checker: every manifest here has one
    return f"{document['kind']}/{metadata['name']}"
