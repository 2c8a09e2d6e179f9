"""Checks of what Kubernetes would refuse, in the user's terms and before anything is created."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import PurePosixPath
from typing import Any

import attrs

from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.kind import JobKind
from tunewright.errors import RequestError
from tunewright.plan.plan import JobPlan
from tunewright.providers.builtin import file
from tunewright.providers.uris import path_problem, uri_scheme

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_FILE_NAME = re.compile(r"[-._a-zA-Z0-9]{1,253}")

# The size limit of a ConfigMap, minus room for its names and labels.
_CONFIG_BYTES = 1024 * 1024 - 16 * 1024


def check_plan(kind: JobKind, plan: JobPlan) -> None:
    """Refuse a plan that cannot run.

    Raises:
        RequestError: naming the field, the value and the remedy.
    """
    _check_containers(kind, plan)
    _check_files(plan)
    _check_labels(plan)
    _check_json(plan)
    if plan.scheduling.runtime is not None and not kind.bases:
        problem = f"is Kubeflow Trainer 2's, and a {kind.kind} has none"
        remedy = "Leave it out, or submit a TrainJob: --backend trainjob"
        raise RequestError(problem, field="runtime", value=plan.scheduling.runtime, remedy=remedy)
    if plan.scheduling.queue and plan.run_policy.wait_for is not None:
        problem = "cannot be kept in a queue: Kueue alone suspends its jobs, and would start this one again"
        remedy = "Leave it out; your cluster admin can limit the time with waitForPodsReady of Kueue."
        raise RequestError(problem, field="wait_for", value=plan.run_policy.wait_for, remedy=remedy)
    if plan.self_starting and plan.elastic:
        problem = "needs torchrun, but an image that starts itself has a fixed world size"
        raise RequestError(problem, field="elastic", value=plan.elastic, remedy="Give script= or train_func= instead.")


def check_output(kind: JobKind, plan: JobPlan, template: Any) -> None:
    """Refuse an output in a folder of the container that is deleted with the pod.

    Args:
        kind: of the job.
        plan: the job.
        template: of its pods, with the user's own mounts.

    Raises:
        RequestError: no volume that outlasts a pod is mounted there.
    """
    if plan.output is None or uri_scheme(plan.output) != "file":
        return
    main = next(c for c in template["spec"]["containers"] if c["name"] == kind.main_container)
    volumes = {v["name"]: v for v in template["spec"].get("volumes") or ()}
    # Of nested mounts, the innermost counts.
    around = [m for m in main.get("volumeMounts") or () if _is_within(plan.output, m["mountPath"])]
    inner = max(around, key=lambda m: len(PurePosixPath(m["mountPath"]).parts), default=None)
    if inner is None or {"emptyDir", "ephemeral", "configMap"} & set(volumes.get(inner["name"], ())):
        problem = "is a folder of the container, which is deleted with its pod"
        remedy = (
            "Write s3://bucket/prefix, hf://org/name or pvc://claim/folder, or mount a volume there: pod_overrides."
        )
        raise RequestError(problem, field="output", value=plan.output, remedy=remedy)


def _is_within(uri: str, folder: str) -> bool:
    return PurePosixPath(file.parse_uri(uri, "output")).is_relative_to(folder)


def _check_containers(kind: JobKind, plan: JobPlan) -> None:
    pod_names = Counter(kind.container_name(plan, c) for c in plan.containers)
    for name, count in pod_names.items():
        if count > 1 or name in kind.added_containers or not _DNS_LABEL.fullmatch(name):
            problem = f"{name!r} cannot be the name of a container: it is taken, or not a DNS label"
            remedy = "Report it to the author of the plugin that names it."
            raise RequestError(problem, field="init_containers", remedy=remedy)
    for container in plan.containers:
        if not container.image:
            problem = f"container {container.name!r} has no image"
            raise RequestError(problem, field="image", remedy="Write registry/repository:tag.")


def _check_files(plan: JobPlan) -> None:
    for name, key in names.file_keys(plan).items():
        if not _FILE_NAME.fullmatch(key) or path_problem(name):
            remedy = "Use letters, digits, '-', '_' and '.': the file is shipped in a ConfigMap."
            raise RequestError("is not a valid key of a ConfigMap", field="script", value=name, remedy=remedy)
    size = sum(len(text.encode()) for text in plan.files.values())
    if size > _CONFIG_BYTES:
        problem = f"the job's files have {size:,} bytes, but a ConfigMap holds at most {_CONFIG_BYTES:,}"
        raise RequestError(problem, field="script", remedy="Put large files into the image or into a dataset.")


def _check_labels(plan: JobPlan) -> None:
    for name in (*names.labels(plan.name), names.QUEUE):
        if name in plan.labels:
            remedy = "Give queue=." if name == names.QUEUE else "Leave it out: jobs are found by it."
            raise RequestError("is set by Tunewright", field=f"labels[{name!r}]", remedy=remedy)


def _check_json(plan: JobPlan) -> None:
    objects = attrs.asdict(plan.scheduling, recurse=False) | {"pod_overrides": plan.pod_overrides}
    for field, value in objects.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            remedy = "Use strings, numbers, booleans, lists and dicts; quote dates in YAML."
            raise RequestError(f"is not JSON-serializable: {error}", field=field, remedy=remedy) from error
