"""A subclass of transformers' Trainer that logs throughput and resumes exactly."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sized
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
import transformers
from torch.utils.data import DataLoader

from tunewright.events import Phase
from tunewright.providers import TrainRun
from tunewright_hf.data.mixing.mixture_order import Order
from tunewright_hf.data.mixing.sampler import MixtureSampler
from tunewright_hf.model.config import without_cache
from tunewright_hf.model.dtypes import SavedDtypes
from tunewright_hf.phases import LONG, lasting
from tunewright_hf.train.by_source import SourceMeter
from tunewright_hf.train.events import clock_of
from tunewright_hf.train.throughput import Meter, flops_of

_OF_THE_LOSS = ("compute_loss", "prediction_step", "evaluation_loop", "training_step")


def instrumented(base: type[transformers.Trainer]) -> type[transformers.Trainer]:
    """Return a subclass of a Trainer class that logs what `Meter` measures on all ranks, and that resumes exactly.

    The time for evaluations and checkpoints does not count; see `TrainingClock`. Evaluations do not change the training,
    and a training that is resumed after its last step makes no further step.
    """
    return cast("type[transformers.Trainer]", type(f"Instrumented{base.__name__}", (_Instrumented, base), {}))


def computes_loss_as_usual(trainer: transformers.Trainer) -> bool:
    """Return whether an instrumented Trainer's class computes losses and evaluates as transformers' Trainer does.

    Others may need logits, which a model with a fused loss does not return.
    """
    base, usual = type(trainer).__mro__[2], transformers.Trainer
    return all(getattr(base, name) is getattr(usual, name) for name in _OF_THE_LOSS)


class _Instrumented(transformers.Trainer):  # type: ignore[misc]
    by_source: SourceMeter | None = None  # of a mixture, as is the order
    order: Order | None = None
    evaluating = False  # also after an evaluation that failed
    returns_losses = False  # whether the model returns losses in an evaluation, and no logits
    loss_apart = False  # whether evaluations need the model's logits only
    reports_to: TrainRun | None = None  # receives the phases
    saved_dtypes: SavedDtypes | None = None  # of the result; checkpoints have the dtypes of the training

    def __init__(self, *args: object, **keywords: object) -> None:
        super().__init__(*args, **keywords)
        without_cache(self.model.config)  # transformers sets `use_cache` of the arguments
        self._ordered = False
        self._predicted = 0  # batches that were evaluated on
        self._meter = Meter(flops_of(self.model), self.args.device, self.args.bf16 or self.args.fp16)

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, torch.Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, torch.Tensor]], torch.Tensor | int | None]:
        if self.state.global_step >= self.state.max_steps:  # transformers only checks after a step
            return [], None
        batches, items = super().get_batch_samples(self._meter.timed(epoch_iterator), num_batches, device)
        self._meter.add(batches)
        if self.by_source is not None:
            for batch in batches:
                self.by_source.count(batch)
        return batches, items

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *args: Any, **keywords: Any) -> Any:
        if self.by_source is not None:
            self.by_source.take(inputs)
        return super().compute_loss(model, inputs, *args, **keywords)

    def _get_train_sampler(self, train_dataset: object = None) -> torch.utils.data.Sampler | None:
        if self.order is None:
            return super()._get_train_sampler(train_dataset)
        self._ordered = True
        blanks = len(self.train_dataset) - self.order.samples
        # At the beginning of an epoch, or where it is resumed, the state's epoch is its number and what has passed of it.
        return MixtureSampler(self.order, blanks, lambda: int(self.state.epoch or 0))

    def get_train_dataloader(self) -> DataLoader:
        loader = super().get_train_dataloader()
        if self.order is not None and not self._ordered:  # samples in another order would be another training
            found = f"transformers {transformers.__version__} does not ask Trainer._get_train_sampler for the order of samples"
            raise RuntimeError(f"{found}, which a mixture needs. Use another version of it.")
        return _outliving_sigterm(loader)

    def get_eval_dataloader(self, *args: object, **keywords: object) -> DataLoader:
        return _outliving_sigterm(super().get_eval_dataloader(*args, **keywords))

    def evaluate(self, *args: object, **keywords: object) -> dict[str, float]:
        # The data loader of an evaluation draws a seed. After a checkpoint that was saved before it, the resumed training would
        # draw other random numbers.
        self.evaluating = True
        with torch.random.fork_rng(devices=[]), self._lasting("evaluate", "evaluating", batches=True):
            found = cast("dict[str, float]", super().evaluate(*args, **keywords))
        self.evaluating = False
        return found

    def prediction_step(
        self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *args: Any, **keywords: Any
    ) -> Any:
        self._predicted += 1
        if not self.loss_apart:
            return super().prediction_step(model, inputs, *args, **keywords)
        if self.by_source is not None:
            self.by_source.take(inputs)
        # Given labels, the model would copy all logits to compute a loss, which the metrics compute in pieces.
        labels = self._prepare_input(inputs["labels"])
        unlabelled = {name: value for name, value in inputs.items() if name != "labels"}
        return None, super().prediction_step(model, unlabelled, *args, **keywords)[1], labels

    def _save_checkpoint(self, *args: Any, **keywords: Any) -> None:
        with self._lasting("save", f"saving a checkpoint at step {self.state.global_step}"):
            super()._save_checkpoint(*args, **keywords)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        if self.saved_dtypes is not None and self.args.should_save:
            model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
            state_dict = self.saved_dtypes.cast(model.state_dict() if state_dict is None else state_dict)
        super()._save(output_dir, state_dict)

    def _lasting(self, name: str, text: str, *, batches: bool = False) -> AbstractContextManager[None]:
        """Tell of something that lasts, in a training that is quiet meanwhile."""
        if self.reports_to is None:
            return contextlib.nullcontext()
        if not batches:
            return lasting(self.reports_to, Phase(name=name, text=text), after=LONG)
        before, rows = self._predicted, len(self.eval_dataset) if isinstance(self.eval_dataset, Sized) else None
        total = rows and -(-rows // (self.args.eval_batch_size * self.args.world_size))
        phase = Phase(name=name, text=text, total=total, unit="batches")
        return lasting(self.reports_to, phase, after=LONG, count=lambda: self._predicted - before)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            counts = self.accelerator.reduce(self._meter.counts(), "sum").tolist()
            logs |= self._meter.lap(counts, max(clock_of(self).lap(), 1e-9), self.args.world_size)
            if self.by_source is not None:
                logs |= self.by_source.lap(self.accelerator.reduce(self.by_source.sums, "sum"))
        super().log(logs, start_time)


def _outliving_sigterm(loader: DataLoader) -> DataLoader:
    """Move a loader's worker processes out of the process group that torchrun sends SIGTERM to, and return the loader.

    They are needed until the checkpoint is saved. The training process ends them, and they exit when it is gone.
    """
    inner = getattr(loader, "base_dataloader", loader)  # accelerate wraps the loader that starts the workers
    inner.worker_init_fn = functools.partial(_leave_group, inner.worker_init_fn)
    return loader


def _leave_group(begin: Callable[[int], None] | None, worker: int) -> None:
    os.setpgid(0, 0)
    if begin is not None:
        begin(worker)
