"""What ranks do together without a process group: the trainer's is gone when it has returned."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping

_DONE = "tunewright/rank-0-has-done-its-work"
_LOOK_EVERY = dt.timedelta(seconds=30)


def while_others_wait(env: Mapping[str, str], work: Callable[[], None]) -> None:
    """Let rank 0 work while the other ranks wait for its end.

    Without that the others would end, torchrun would give rank 0 five minutes more, and an elastic job would count as
    succeeded. They meet at the store of torchrun's agents. If rank 0 fails, torchrun ends the others.

    Args:
        env: the rank's environment, as torchrun has set it.
        work: what rank 0 does.
    """
    rank, world = int(env.get("RANK") or 0), int(env.get("WORLD_SIZE") or 1)
    if world == 1:
        work()
        return
    from torch.distributed import DistStoreError, TCPStore

    store = TCPStore(env["MASTER_ADDR"], int(env["MASTER_PORT"]), is_master=False, timeout=_LOOK_EVERY)
    if rank == 0:
        work()
        store.set(_DONE, "1")
        return
    while True:
        try:
            store.wait([_DONE])
        except DistStoreError:  # the time is up
            continue
        return
