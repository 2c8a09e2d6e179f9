"""Synchronize ranks without a process group: the trainer's has ended when it returns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping

_DONE = "tunewright/rank-0-has-done-its-work: "
_POLL = dt.timedelta(seconds=30)


def while_others_wait(env: Mapping[str, str], work: Callable[[], None], name: str) -> None:
    """Run a function on rank 0 while the other ranks wait for it.

    Otherwise they would exit, torchrun would give rank 0 five more minutes, and an elastic job would count as succeeded. They
    wait at the store of torchrun's agents. If rank 0 fails, torchrun ends them.

    Args:
        env: the rank's environment, as torchrun set it.
        work: what rank 0 runs.
        name: what it is called, once in a training.
    """
    rank, world = int(env.get("RANK") or 0), int(env.get("WORLD_SIZE") or 1)
    if world == 1:
        work()
        return
    from torch.distributed import DistStoreError, TCPStore

    store = TCPStore(env["MASTER_ADDR"], int(env["MASTER_PORT"]), is_master=False, timeout=_POLL)
    if rank == 0:
        work()
        store.set(_DONE + name, "1")
        return
    while True:
        try:
            store.wait([_DONE + name])
        except DistStoreError:  # the timeout of one wait
            continue
        return
