"""The job that fetches the inputs before the workers start, so that no device is held while a model is downloaded. Pure.

A pod holds its devices from the moment that it is bound to a node, init containers included. Where the inputs lie on a volume that
all pods share, one pod without devices runs the steps first; the workers' own steps then find everything there.
"""

from __future__ import annotations

from typing import Any, Final, cast

from tunewright import environment
from tunewright.backends.kubernetes.indexed import indexed_spec
from tunewright.plan.manifests import Document
from tunewright.plan.plan import ExistingClaim, JobPlan, NewClaim, Volume
from tunewright.request.storage import RWX

PREPARE: Final = "prepare"
"""Name of the replicated job, and of its main container."""


def fetches_first(plan: JobPlan) -> bool:
    """Return whether a job of its own fetches the inputs: the workers have devices, and all pods share the volumes."""
    resources, volumes = plan.main.resources, {volume.name: volume for volume in plan.volumes}
    if resources is None or not (resources.gpu or any("/" in name for name in resources.extended)):
        return False
    steps = [c for c in plan.init_containers if environment.is_fetch_container(c.name)]
    return (
        bool(steps) and "--" in plan.main.command and all(_shared(volumes[m.volume]) for c in steps for m in c.mounts)
    )


def _shared(volume: Volume) -> bool:
    """Return whether pods on any node can mount it; a new claim of one node might be bound where no device is."""
    source = volume.source
    return isinstance(source, ExistingClaim) or (isinstance(source, NewClaim) and RWX in source.access_modes)


def job(plan: JobPlan, template: Document) -> Document:
    """Return the replicated job, whose pod has a worker's steps, and ends with their verdict instead of training."""
    spec = cast("dict[str, Any]", template["spec"])
    pod = {**spec, "containers": [_main(plan, spec)], "restartPolicy": "Never"}
    about = indexed_spec(1, PREPARE, backoff_limit=0)
    return {"name": PREPARE, "template": {"spec": {**about, "template": {**template, "spec": pod}}}}


def _main(plan: JobPlan, spec: dict[str, Any]) -> Document:
    main, first = spec["containers"][0], spec["initContainers"][0]
    command = list(main["command"])
    # `run` ends with the steps' verdict; it counts this start apart from those of worker 0.
    own = {"name": environment.WORKER, "value": f"{plan.name}-{PREPARE}"}
    env = [own if variable["name"] == environment.WORKER else variable for variable in main.get("env", ())]
    return {
        **{k: v for k, v in main.items() if k not in ("resources", "ports", "livenessProbe", "readinessProbe")},
        "name": PREPARE,
        "command": [*command[: command.index("--") + 1], command[0], "-c", "pass"],
        "env": env,
        **({"resources": first["resources"]} if "resources" in first else {}),
    }
