"""The training itself, on every rank: steps, checkpoints, a stop on SIGTERM, and the result."""

from __future__ import annotations

import json
import math
import signal
import threading
from collections import Counter
from pathlib import Path

from tunewright import TrainRun
from tunewright.events import Checkpoint, Step
from tunewright.providers import mark_checkpoint

_TERMINATED = 128 + signal.SIGTERM


def train(run: TrainRun, *, epochs: int) -> None:
    """Count the words of this rank's share of the lines, from the newest checkpoint on.

    Raises:
        SystemExit: the job was told to stop. A checkpoint is there, from which it continues.
    """
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    assert run.dataset is not None
    lines = [line for file in sorted(run.dataset.glob("*.txt")) for line in file.read_text("utf-8").splitlines()]
    done, counts = _load(run.resume_from)
    for epoch in range(done + 1, epochs + 1):
        for line in lines[run.rank :: run.world_size]:
            counts.update(line.split())
        run.emit(Step(step=epoch, total_steps=epochs, loss=_entropy(counts)))
        if run.rank == 0:  # with several pods, let each save what the others lack
            checkpoint = run.checkpoints / f"checkpoint-{epoch}"
            _save(counts, checkpoint)
            mark_checkpoint(checkpoint)
            run.emit(Checkpoint(step=epoch, path=str(checkpoint)))
        if stop.is_set():
            raise SystemExit(_TERMINATED)  # to return would mean that the training is finished
    if run.rank == 0:
        _save(counts, run.result)


def _load(checkpoint: Path | None) -> tuple[int, Counter[str]]:
    if checkpoint is None:
        return 0, Counter()
    counts = json.loads((checkpoint / "counts.json").read_text("utf-8"))
    return int(checkpoint.name.removeprefix("checkpoint-")), Counter(counts)


def _save(counts: Counter[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "counts.json").write_text(json.dumps(counts), "utf-8")


def _entropy(counts: Counter[str]) -> float:
    """Return the entropy of the words, in nats."""
    total = counts.total()
    return -sum(n / total * math.log(n / total) for n in counts.values())
