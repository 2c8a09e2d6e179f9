"""Volumes: those of the plan, those of every container, and the claims that are created with the job."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tunewright import environment
from tunewright.backends.kubernetes import names
from tunewright.errors import RequestError
from tunewright.plan.manifests import Document
from tunewright.plan.plan import (
    CONFIG,
    PACKAGES,
    RUN,
    WORKSPACE,
    ContainerSpec,
    EmptyDir,
    EphemeralClaim,
    ExistingClaim,
    JobPlan,
    NewClaim,
    Volume,
)

TMP = "/tmp"  # noqa: S108 - in the container, where it is the pod's own emptyDir
_SHM = "/dev/shm"  # noqa: S108 - as above

# `$$(NAME)` is not a reference to the variable, but literal text.
_PACKAGES = re.compile(rf"(?<!\$)\$\({environment.PACKAGES}\)")

# More than Tunewright's notes and any set of packages need: what grows further is a mistake, and must not fill the node.
_RUN_SIZE, _PACKAGES_SIZE = "1Gi", "50Gi"

Groups = Mapping[str, tuple[Volume, ...]]
"""Name of a volume in the pod → the volumes of the plan that share it."""


def grouped(plan: JobPlan) -> Groups:
    """Group the volumes by claim: a kubelet waits forever for a second volume of the same claim.

    https://github.com/kubernetes/kubernetes/issues/132921
    """
    groups: dict[str, list[Volume]] = {}
    for volume in plan.volumes:
        groups.setdefault(_claim(plan, volume) or f"{volume.name}:", []).append(volume)
    return {group[0].name: tuple(group) for group in groups.values()}


def pod_volumes(plan: JobPlan, groups: Groups) -> list[Document]:
    """Return the `volumes` of the pod.

    Raises:
        RequestError: two of them have the same name.
    """
    own: list[Document] = [
        {"name": "config", "configMap": {"name": names.config_name(plan.name), **_items(plan)}},
        {"name": "run", "emptyDir": {"sizeLimit": _RUN_SIZE}},
        {"name": "tmp", "emptyDir": _limited(plan.scheduling.tmp_size)},
        # It counts as memory of the container, whose limit bounds it. The runtime's default of 64 MiB is too small for
        # NCCL and the workers of a DataLoader.
        {"name": "shm", "emptyDir": {"medium": "Memory", **_limited(plan.scheduling.shm_size)}},
        *([{"name": "packages", "emptyDir": {"sizeLimit": _PACKAGES_SIZE}}] if installs_packages(plan) else []),
        *([_account()] if plan.scheduling.progress_account else []),
    ]
    volumes = [*(_volume(plan, name, group) for name, group in groups.items()), *own]
    _refuse_doubles([*(v.name for v in plan.volumes), *(str(v["name"]) for v in own)])
    return volumes


def _account() -> Document:
    """Return the volume that Kubernetes adds by itself where a pod's token is mounted in all of its containers.

    https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken
    """
    namespace = {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
    sources: list[Document] = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]
    return {"name": "account", "projected": {"sources": sources}}


def _limited(size: str | int | None) -> Document:
    return {"sizeLimit": str(size)} if size is not None else {}


def mounts(plan: JobPlan, container: ContainerSpec, groups: Groups) -> list[Document]:
    """Return the `volumeMounts` of a container.

    Raises:
        RequestError: it mounts a volume that the plan does not have.
    """
    pod_name = {v.name: name for name, group in groups.items() for v in group}
    read_only = {v.name for v in plan.volumes if _read_only(v)}
    found: list[Document] = []
    for mount in container.mounts:
        if mount.volume not in pod_name:
            problem = f"container {container.name!r} mounts volume {mount.volume!r}, which the plan does not have"
            raise RequestError(problem, field="mounts", remedy=f"There are: {', '.join(sorted(pod_name))}.")
        found.append(
            _mount(pod_name[mount.volume], mount.path, mount.sub_path, mount.read_only or mount.volume in read_only)
        )
    mounted = [*found, *_common_mounts(plan, container)]
    paths = [m["mountPath"] for m in mounted]
    for path in paths:
        if paths.count(path) > 1:
            problem = f"container {container.name!r} has two mounts at {path}"
            raise RequestError(problem, field="mounts", remedy="Report it to the author of the plugin that adds it.")
    return mounted


def claims(plan: JobPlan) -> list[Document]:
    """Return the PersistentVolumeClaims that are created with the job."""
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": names.claim_name(plan.name, v.name), "labels": names.all_labels(plan.name, "storage")},
            "spec": _claim_spec(v.source.size, v.source.storage_class, v.source.access_modes),
        }
        for v in plan.volumes
        if isinstance(v.source, NewClaim)
    ]


def output_uri(plan: JobPlan) -> str | None:
    """Return where the output is: the URI that it is uploaded to, or `pvc://claim/folder`; None if it is not kept."""
    if plan.output is not None:
        return plan.output
    by_name = {v.name: v for v in plan.volumes}
    for mount in plan.main.mounts:
        if mount.path == f"{WORKSPACE}/{environment.OUTPUT_SLOT}" and mount.volume in by_name:
            claim = _claim(plan, by_name[mount.volume])
            return f"pvc://{claim}/{mount.sub_path}" if claim else None
    return None


def _common_mounts(plan: JobPlan, container: ContainerSpec) -> list[Document]:
    common = [
        _mount("config", CONFIG, read_only=True),
        _mount("run", RUN),
        _mount("tmp", TMP),
        _mount("shm", _SHM),
    ]
    if installs_packages(plan):
        common.append(_mount("packages", PACKAGES, read_only=not _installs(container)))
    if plan.scheduling.progress_account and container is plan.main:
        common.append(_mount("account", environment.ACCOUNT, read_only=True))
    return common


def _mount(name: str, path: str, sub_path: str = "", read_only: bool = False) -> Document:
    return {
        "name": name,
        "mountPath": path,
        **({"subPath": sub_path} if sub_path else {}),
        **({"readOnly": True} if read_only else {}),
    }


def _volume(plan: JobPlan, name: str, group: tuple[Volume, ...]) -> Document:
    source = group[0].source
    if claim := _claim(plan, group[0]):
        read_only = {"readOnly": True} if all(_read_only(v) for v in group) else {}
        return {"name": name, "persistentVolumeClaim": {"claimName": claim, **read_only}}
    if isinstance(source, EphemeralClaim):
        template = {
            "metadata": {"labels": names.all_labels(plan.name, "storage")},
            "spec": _claim_spec(source.size, source.storage_class, ("ReadWriteOnce",)),
        }
        return {"name": name, "ephemeral": {"volumeClaimTemplate": template}}
    assert isinstance(source, EmptyDir)  # noqa: S101 - for the type checker: claims are above
    given = {"medium": source.medium, "sizeLimit": source.size_limit}
    return {"name": name, "emptyDir": {k: v for k, v in given.items() if v}}


def _items(plan: JobPlan) -> Document:
    """Return which key becomes which file, if the keys are not the names of the files."""
    items = [{"key": key, "path": name} for name, key in names.file_keys(plan).items()]
    return {"items": items} if any(item["key"] != item["path"] for item in items) else {}


def _claim_spec(size: str, storage_class: str | None, modes: tuple[str, ...]) -> Document:
    return {
        "accessModes": list(modes),
        **({"storageClassName": storage_class} if storage_class is not None else {}),
        "resources": {"requests": {"storage": size}},
    }


def _claim(plan: JobPlan, volume: Volume) -> str | None:
    if isinstance(volume.source, ExistingClaim):
        return volume.source.claim
    return names.claim_name(plan.name, volume.name) if isinstance(volume.source, NewClaim) else None


def _read_only(volume: Volume) -> bool:
    return isinstance(volume.source, ExistingClaim) and volume.source.read_only


def _installs(container: ContainerSpec) -> bool:
    """Whether the container installs packages: its command names their folder. The others only read it."""
    return any(_PACKAGES.search(word) for word in container.command)


def installs_packages(plan: JobPlan) -> bool:
    """Whether a step pip-installs packages when a pod starts, so that Python must search their folder."""
    return any(_installs(c) for c in plan.containers)


def _refuse_doubles(found: list[str]) -> None:
    for name in found:
        if found.count(name) > 1:
            problem, remedy = "is the name of two volumes", "Report it to the author of the plugin that adds it."
            raise RequestError(problem, field="volumes", value=name, remedy=remedy)
