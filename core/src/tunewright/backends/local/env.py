"""The environment variables of a job's processes: those of a pod, on top of the client's own."""

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
"""Process id of the supervisor. `run` ends a step when that process has gone."""

# Variables that a launcher around the client, such as torchrun, may have set.
_LEFT_OVER = re.compile(f"TUNEWRIGHT_.*|{environment.LAUNCHERS_OWN}")
_RANK = ("-m", "tunewright_launcher", "train")
_REFERENCE = re.compile(r"\$\$|\$\(([^)]*)\)")
# Our own ranks are forks of torchrun. Collections while torch is imported would scan all objects again and again.
_TORCHRUN = (
    "import gc, runpy, sys; gc.disable(); import torch; gc.freeze(); gc.enable(); "
    f"ours = sys.argv[-3:] == {[*_RANK]!r}; "
    'runpy.run_module("tunewright_launcher.forked_ranks" if ours else "torch.distributed.run", run_name="__main__", alter_sys=True)'
).replace("'", '"')
_SHIMS = {"python": "", "python3": "", "torchrun": f" -c '{_TORCHRUN}'"}


def expand(text: str, env: Mapping[str, str]) -> str:
    """Expand `$(NAME)` as Kubernetes does: unknown names are kept as they are, and `$$` becomes `$`."""
    return _REFERENCE.sub(
        lambda found: "$" if found[1] is None else env.get(found[1], found[0]),
        text,
    )


def client_environment(env: Mapping[str, str], programs: Path, without: Collection[str] = ()) -> dict[str, str]:
    """Return the environment that all steps inherit: the client's, with its Python environment first on PATH.

    Args:
        env: environment of the client.
        programs: folder in which `write_programs` wrote its programs.
        without: variables to leave out: credentials, which only the steps receive that the user gave them to.
    """
    kept = {k: v for k, v in env.items() if k not in without and not _LEFT_OVER.fullmatch(k)}
    places = (str(programs), sysconfig.get_path("scripts"), str(Path(sys.executable).parent), kept.get("PATH", ""))
    return {**kept, "PATH": os.pathsep.join(place for place in places if place)}


def write_programs(folder: Path) -> None:
    """Write `python`, `python3` and `torchrun` scripts that run this interpreter, whether its venv is activated or not.

    Symbolic links would not work: Python looks for its virtual environment next to the path that it was started as.
    """
    folder.mkdir(exist_ok=True)
    if sys.platform == "win32":
        return  # the Scripts folder of the environment has all three, and is on PATH
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
    """Return the environment of one process. The backend's variables override the container's, as the operator's do.

    Args:
        base: the environment from `client_environment`.
        program: the program to run.
        paths: paths of the worker.
        secrets: literal secrets of the container.
        own: the worker's own folder. Holds its caches, which may grow large.
        scratch: folder that takes the place of the pod's /tmp. Its path is short, as socket paths are limited.
        backend: further variables that the backend sets.
    """
    set_paths = paths.to_env()
    given: dict[str, str] = {}
    for name, value in program.env.items():
        given[name] = expand(value, {**set_paths, **given})
    pod = {"TMPDIR": str(scratch), "HF_HOME": str(own / "hf"), **given, **secrets, **set_paths, **backend}
    search = (set_paths[environment.PACKAGES], given.get("PYTHONPATH"), base.get("PYTHONPATH"))
    return {**base, **pod, "PYTHONPATH": os.pathsep.join(place for place in search if place)}


def distributed_environment(spec: Spec, *, job: str, worker: int, port: str, logs: Path) -> dict[str, str]:
    """Return the variables that the operator sets in a cluster, for a c10d rendezvous or for a self-starting image.

    Args:
        spec: the spec of the job.
        job: name of the job.
        worker: index of the worker.
        port: a free port of this machine, the same for all workers.
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
        # The operator does not set these. The machine's host name may not resolve, and each rank's lines need a prefix.
        "PET_LOCAL_ADDR": LOOPBACK,
        "PET_TEE": "3",
        "PET_LOG_DIR": str(logs),
    }


def who_checks(spec: Spec) -> dict[str, str]:
    """Return the variable that leaves the check to the first rank, on systems where it can be done in a fork of it.

    Nobody waits for a GPU here, and the libraries are imported once. A trainer with an entry point of its own is checked before;
    so is a job of several workers, whose torchruns have no store that the other ranks could wait at before they train.
    """
    forks = sys.platform == "linux" and spec.worker.command[-len(_RANK) :] == _RANK
    alone = spec.num_workers == 1 and spec.elastic is None
    return {environment.CHECK_BY_RANK: "1"} if forks and alone else {}


def share_of_machine(spec: Spec, worker: int, base: Mapping[str, str]) -> dict[str, str]:
    """Return variables that stand in for a pod's limits: the worker's share of the cores and of the requested GPUs."""
    ranks = spec.num_workers * spec.num_procs_per_worker
    env = {"OMP_NUM_THREADS": base.get("OMP_NUM_THREADS") or str(max(1, usable_cpus() // ranks))}
    if spec.gpus and spec.num_workers > 1:
        first = worker * spec.gpus
        visible = [d for d in base.get("CUDA_VISIBLE_DEVICES", "").split(",") if d]
        devices = visible or [str(index) for index in range(spec.num_workers * spec.gpus)]
        env["CUDA_VISIBLE_DEVICES"] = ",".join(devices[first : first + spec.gpus])
    return env
