"""What Tunewright adds to transformers' Trainer: events, a loss and a speed that count tokens, complete checkpoints."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from typing import cast

import torch
import transformers
from torch.utils.data import DataLoader

from tunewright_hf.train.events import pauses_of
from tunewright_hf.train.throughput import Flops, Meter


def with_speed(base: type[transformers.Trainer]) -> type[transformers.Trainer]:
    """A subclass of a Trainer class that logs what `Meter` measures, for all ranks, over training time.

    Time spent in evaluation and in saving is not counted; see `Pauses`. A training is the same with evaluations as
    without, and one that is resumed when it has made its last step makes no further one.
    """
    return cast("type[transformers.Trainer]", type(base.__name__, (_Exact, base), {}))


class _Exact(transformers.Trainer):  # type: ignore[misc]
    def __init__(self, *args: object, **keywords: object) -> None:
        super().__init__(*args, **keywords)
        self._meter = Meter(Flops.of(self.model), self.args.device, self.args.bf16 or self.args.fp16)

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, torch.Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, torch.Tensor]], torch.Tensor | int | None]:
        if self.state.global_step >= self.state.max_steps:  # transformers looks only after a step
            return [], None
        batches, items = super().get_batch_samples(self._meter.timed(epoch_iterator), num_batches, device)
        self._meter.add(batches)
        return batches, items

    def get_train_dataloader(self) -> DataLoader:
        return _steadfast(super().get_train_dataloader())

    def get_eval_dataloader(self, *args: object, **keywords: object) -> DataLoader:
        return _steadfast(super().get_eval_dataloader(*args, **keywords))

    def evaluate(self, *args: object, **keywords: object) -> dict[str, float]:
        # Its data loader draws a seed. A checkpoint may lie before that, and a resumed training would draw other numbers.
        with torch.random.fork_rng(devices=[]):
            return cast("dict[str, float]", super().evaluate(*args, **keywords))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            counts = self.accelerator.reduce(self._meter.counts(), "sum").tolist()
            logs |= self._meter.lap(counts, max(pauses_of(self).lap(), 1e-9), self.args.world_size)
        super().log(logs, start_time)


def _steadfast(loader: DataLoader) -> DataLoader:
    """A loader whose reading processes are no part of the process group that torchrun sends SIGTERM to.

    They are needed until there is a checkpoint. The process that trains ends them, and they end when it is gone.
    """
    inner = getattr(loader, "base_dataloader", loader)  # accelerate's have another inside, which starts them
    inner.worker_init_fn = functools.partial(_leave_group, inner.worker_init_fn)
    return loader


def _leave_group(begin: Callable[[int], None] | None, worker: int) -> None:
    os.setpgid(0, 0)
    if begin is not None:
        begin(worker)
