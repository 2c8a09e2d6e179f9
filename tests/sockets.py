"""Every socket of the processes of a real job: `python -m tests.sockets` runs one on this machine and prints them.

Two workers with two ranks each, all ranks connected to each other, are looked at from inside at the moment when they are.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from unittest import mock

import attrs

from tunewright import TrainingClient
from tunewright.status.state import JobState

NAME, WORKERS, PROCESSES = "sockets", 2, 2


@attrs.frozen(order=True)
class Socket:
    """A socket of a process; `remote` is "" for one that listens."""

    process: str
    kind: str
    local: str
    remote: str


def look() -> None:
    """What each rank runs."""
    import json
    import os

    import psutil
    import torch
    from torch import distributed

    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    for peer in range(rank):  # pairs that need no connection for the sum make one here
        distributed.recv(torch.ones(1), peer)
    for peer in range(rank + 1, distributed.get_world_size()):
        distributed.send(torch.ones(1), peer)
    distributed.all_reduce(torch.ones(1))

    def sockets(name: str, process: psutil.Process) -> list[list[str]]:
        found = []
        for one in process.net_connections("inet"):
            kind = "TCP" if one.type.name == "SOCK_STREAM" else "UDP"
            ends = [f"{end.ip}:{end.port}" if end else "" for end in (one.laddr, one.raddr)]
            found.append([name, kind, *ends])
        return found

    seen = sockets(f"rank {rank}", psutil.Process())
    if os.environ["LOCAL_RANK"] == "0":
        above = psutil.Process().parents()
        for process in above:
            line = " ".join(process.cmdline())
            if "tunewright.backends.local" in line:
                break
            seen += sockets(("torchrun" if "torch.distributed.run" in line or "torchrun" in line else "run"), process)
    distributed.barrier()
    distributed.destroy_process_group()
    print(json.dumps({"port": int(os.environ["MASTER_PORT"]), "seen": seen}), flush=True)


def sockets_of_a_job() -> tuple[int, list[Socket]]:
    """Run a job and return the port of torchrun's store, and every socket of its processes.

    Raises:
        JobError: the job failed.
    """
    with tempfile.TemporaryDirectory() as home, mock.patch.dict(os.environ, {"TUNEWRIGHT_HOME": home}):
        job = TrainingClient("local").create_job(
            NAME,
            train_func=look,
            num_workers=WORKERS,
            num_procs_per_worker=PROCESSES,
            storage={"access_modes": ["ReadWriteMany"]},
            env={"OMP_NUM_THREADS": "1"},
        )
        try:
            job.wait((JobState.SUCCEEDED,), timeout=240)
            said = [json.loads(line.partition("]:")[2]) for line in job.logs() if '"seen"' in line]
        finally:
            job.delete()
    return said[0]["port"], sorted({Socket(*one) for rank in said for one in rank["seen"]})


def table(port: int, found: list[Socket]) -> Iterator[str]:
    """Yield the lines of a table for people."""
    yield f"{'process':<10} {'kind':<5} {'from':<24} to     (torchrun's store: {port})"
    for one in found:
        yield f"{one.process:<10} {one.kind:<5} {one.local:<24} {one.remote or 'listens'}"


if __name__ == "__main__":
    for line in table(*sockets_of_a_job()):
        print(line)
