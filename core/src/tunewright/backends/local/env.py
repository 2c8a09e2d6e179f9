"""The environment of a job's processes: what a pod would have, on top of the client's own."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Collection, Mapping
from pathlib import Path

from tunewright import environment
from tunewright.backends.local.spec import Program, Spec
from tunewright.environment import Paths
from tunewright.runner.cpus import usable_cpus

LOOPBACK = "127.0.0.1"
PARENT = "TUNEWRIGHT_PARENT"
"""The process that a step must not outlive; `run` reads it."""

# What a launcher around the client may have left in its environment.
_LEFT_OVER = re.compile(
    r"(TUNEWRIGHT|PET|TORCHELASTIC)_.*|MASTER_(ADDR|PORT)|((LOCAL|GROUP|ROLE)_)?(RANK|WORLD_SIZE)|ROLE_NAME"
)
_REFERENCE = re.compile(r"\$\$|\$\(([^)]*)\)")
_SHIMS = {"python": "", "python3": "", "torchrun": " -m torch.distributed.run"}


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace `$(NAME)` as Kubernetes does: unknown names stay as they are, and `$$` is `$`."""
    return _REFERENCE.sub(
        lambda found: "$" if found[1] is None else env.get(found[1], found[0]),
        text,
    )


def client_environment(env: Mapping[str, str], programs: Path, without: Collection[str] = ()) -> dict[str, str]:
    """The environment that steps begin with: the client's own, whose Python environment has the plugins.

    Args:
        env: the client's.
        programs: folder of the programs that `write_programs` made.
        without: variables that are left out: credentials that only those steps get to which the user gave them.
    """
    kept = {k: v for k, v in env.items() if k not in without and not _LEFT_OVER.fullmatch(k)}
    places = (str(programs), sysconfig.get_path("scripts"), str(Path(sys.executable).parent), kept.get("PATH", ""))
    return {**kept, "PATH": os.pathsep.join(place for place in places if place)}


def write_programs(folder: Path) -> None:
    """Make `python`, `python3` and `torchrun` be those of this interpreter's environment, activated or not.

    A link would not do: Python looks for its environment beside the name by which it was started.
    """
    folder.mkdir(exist_ok=True)
    if sys.platform == "win32":
        return  # an environment's Scripts folder has all of them, and is on PATH
    for name, options in _SHIMS.items():
        quoted = sys.executable.replace("'", "'\\''")
        file = folder / name
        file.write_text(f"#!/bin/sh\nexec '{quoted}'{options} \"$@\"\n", "utf-8")
        file.chmod(0o700)


def step_environment(
    base: Mapping[str, str],
    program: Program,
    paths: Paths,
    *,
    secrets: Mapping[str, str],
    own: Path,
    scratch: Path,
    backend: Mapping[str, str],
) -> dict[str, str]:
    """The environment of one process. What the backend sets wins over the container's, as the operator's does.

    Args:
        base: from `client_environment`.
        program: what is to run.
        paths: the worker's.
        secrets: the container's literal secrets.
        own: what the worker has to itself; holds its caches, which may grow large.
        scratch: stands for the pod's /tmp. Its path is short, for sockets' paths have to be.
        backend: what the backend sets besides `paths`.
    """
    set_paths = paths.to_env()
    given: dict[str, str] = {}
    for name, value in program.env.items():
        given[name] = expand(value, {**set_paths, **given})
    pod = {"TMPDIR": str(scratch), "HF_HOME": str(own / "hf"), **given, **secrets, **set_paths, **backend}
    search = (set_paths[environment.PACKAGES], given.get("PYTHONPATH"), base.get("PYTHONPATH"))
    return {**base, **pod, "PYTHONPATH": os.pathsep.join(place for place in search if place)}


def distributed_environment(spec: Spec, *, job: str, worker: int, port: str, logs: Path) -> dict[str, str]:
    """What the operator sets: for elastic Workers with a c10d rendezvous, or for an image that starts itself.

    Args:
        spec: the job's.
        job: its name.
        worker: index.
        port: free on this machine, the same for all workers.
        logs: folder for the output of each rank.
    """
    env = {
        "PYTHONUNBUFFERED": "1",
        "PET_NPROC_PER_NODE": str(spec.num_procs_per_worker),
        environment.WORKER: f"{job}-worker-{worker}",
    }
    if spec.self_starting:
        world = spec.num_workers * spec.num_procs_per_worker
        address = {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": port}
        rank = {"WORLD_SIZE": str(world), "RANK": str(worker), "PET_NODE_RANK": str(worker)}
        pet = {f"PET_{k}": v for k, v in address.items()} | {"PET_NNODES": str(spec.num_workers)}
        return {**env, **address, **rank, **pet}
    least, most = spec.elastic or (spec.num_workers, spec.num_workers)
    return {
        **env,
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": f"{LOOPBACK}:{port}",
        "PET_RDZV_ID": job,
        "PET_NNODES": f"{least}:{most}",
        # Not the operator's. This machine's own name need not resolve; and each rank's lines are to be told apart.
        "PET_LOCAL_ADDR": LOOPBACK,
        "PET_TEE": "3",
        "PET_LOG_DIR": str(logs),
    }


def share_of_machine(spec: Spec, worker: int, base: Mapping[str, str]) -> dict[str, str]:
    """What a pod's limits would do: this worker's part of the cores, and of the GPUs where it asked for some."""
    ranks = spec.num_workers * spec.num_procs_per_worker
    env = {"OMP_NUM_THREADS": base.get("OMP_NUM_THREADS") or str(max(1, usable_cpus() // ranks))}
    if spec.gpus and spec.num_workers > 1:
        first = worker * spec.gpus
        visible = [d for d in base.get("CUDA_VISIBLE_DEVICES", "").split(",") if d]
        devices = visible or [str(index) for index in range(spec.num_workers * spec.gpus)]
        env["CUDA_VISIBLE_DEVICES"] = ",".join(devices[first : first + spec.gpus])
    return env
