"""Workers that have a volume each: what their ranks leave of a checkpoint belongs beside rank 0's part."""

from __future__ import annotations

from pathlib import Path

import torch

from tunewright.providers import TrainRun


def collect(folder: Path, run: TrainRun) -> None:
    """Bring a checkpoint's files that other workers have on volumes of their own to rank 0's; called on every rank.

    What is there is marked, uploaded and resumed from. They are small states, such as those of the random numbers: plans
    for shards are refused (`tunewright_hf.shards`). All ranks must have written theirs. Nothing is lacking in a folder
    that all share.
    """
    mine = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    everybodys: list[set[str]] = [set()] * run.world_size
    torch.distributed.all_gather_object(everybodys, mine)
    lacking = set().union(*everybodys) - everybodys[0]
    if not lacking:
        return
    sent = {name: (folder / name).read_bytes() for name in lacking & mine} if run.local_rank == 0 else {}
    parts: list[dict[str, bytes]] | None = [{}] * run.world_size if run.rank == 0 else None
    torch.distributed.gather_object(sent, parts)
    for part in parts or ():
        for name, content in part.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
