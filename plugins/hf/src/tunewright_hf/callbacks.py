"""What Tunewright adds to transformers' Trainer: events, a loss and a speed that count tokens, complete checkpoints."""

from __future__ import annotations

import functools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import cast

import torch
import transformers
from torch.utils.data import DataLoader
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import rotate_checkpoints

from tunewright.errors import RequestError
from tunewright.events import Json
from tunewright.providers import TrainRun
from tunewright_hf.labels import IGNORED
from tunewright_hf.nodes import collect
from tunewright_hf.telemetry import MEASURED, Flops, Meter


def is_sharded(trainer: transformers.Trainer) -> bool:
    """Whether no rank has the whole model; DeepSpeed shards weights in ZeRO's stage 3 alone."""
    shards = trainer.is_fsdp_enabled or transformers.integrations.is_deepspeed_zero3_enabled()
    return shards or trainer.args.parallelism_config is not None


def check_sharding(trainer: transformers.Trainer) -> None:
    """Refuse FSDP where accelerate leaves it off without a word, so that each rank would have the whole model.

    Raises:
        RequestError: it does, as on CPUs.
    """
    args = trainer.args
    if args.fsdp and are_several() and not trainer.is_fsdp_enabled:
        problem = f"is left off by accelerate on {args.device.type}, and each rank would have the whole model"
        raise RequestError(problem, field="fsdp", value=args.fsdp, remedy="Train on GPUs, or leave it out.")


def are_several() -> bool:
    """Whether this process is one of a group."""
    return bool(torch.distributed.is_available() and torch.distributed.is_initialized())


def barrier() -> None:
    """Wait for all ranks."""
    if are_several():
        torch.distributed.barrier()


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


class Pauses(transformers.TrainerCallback):  # type: ignore[misc]
    """Measures the time between logs, without evaluation and saving, which come between a step and the next."""

    def __init__(self) -> None:
        self._since = self._mark = time.monotonic()
        self._paused = 0.0

    def lap(self) -> float:
        """Seconds of training since the last call; starts the next lap."""
        now = time.monotonic()
        seconds = now - self._since - self._paused
        self._since, self._mark, self._paused = now, now, 0.0
        return seconds

    def _pause_ended(self) -> None:
        now = time.monotonic()
        self._paused += now - self._mark
        self._mark = now

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Start the first lap."""
        self.lap()

    def on_step_end(self, *_: object, **__: object) -> None:
        """A pause may begin here."""
        self._mark = time.monotonic()

    def on_evaluate(self, *_: object, **__: object) -> None:
        """An evaluation has ended."""
        self._pause_ended()

    def on_save(self, *_: object, **__: object) -> None:
        """A checkpoint has been saved."""
        self._pause_ended()


def pauses_of(trainer: transformers.Trainer) -> Pauses:
    """The trainer's own Pauses."""
    return next(c for c in trainer.callback_handler.callbacks if isinstance(c, Pauses))


class Unlogged(transformers.TrainerCallback):  # type: ignore[misc]
    """Keeps the loss of the steps since the last log in the checkpoint: the next log is the mean over these, too."""

    def __init__(self, trainer: transformers.Trainer, run: TrainRun) -> None:
        self._trainer = trainer
        self._resume_from = run.resume_from
        self._file = f"unlogged_{run.rank}.json"

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Take up what the checkpoint has for this rank."""
        if self._resume_from and (file := self._resume_from / self._file).is_file():
            record = json.loads(file.read_text(encoding="utf-8"))
            self._trainer._tr_loss += record["loss"]
            self._trainer._globalstep_last_logged = record["logged"]

    def on_save(
        self, args: transformers.TrainingArguments, state: transformers.TrainerState, *_: object, **__: object
    ) -> None:
        """Write it beside the weights; of weights that no number came from, no checkpoint is made.

        It would be one of the last, and good ones would be removed for it.
        """
        record = {"loss": self._trainer._tr_loss.item(), "logged": self._trainer._globalstep_last_logged}
        check_loss(record["loss"], args, state)
        file = checkpoint_folder(args, state) / self._file
        file.write_text(json.dumps(record), encoding="utf-8")


def check_loss(loss: float, args: transformers.TrainingArguments, state: transformers.TrainerState) -> None:
    """End the job if the loss is no number any more.

    Raises:
        RequestError: it is not.
    """
    if not math.isfinite(loss):
        problem = f"the loss became {loss} by step {state.global_step}"
        remedy = "Lower learning_rate, add warmup_steps or max_grad_norm, or use bf16 instead of fp16."
        field = "TrainingArguments.learning_rate"
        raise RequestError(problem, field=field, value=args.learning_rate, remedy=remedy)


def checkpoint_folder(args: transformers.TrainingArguments, state: transformers.TrainerState) -> Path:
    """The folder of the checkpoint that is being saved."""
    return Path(args.output_dir, f"checkpoint-{state.global_step}")


class Events(transformers.TrainerCallback):  # type: ignore[misc]
    """Tells the client what happens, and makes checkpoints count.

    Args:
        run: where checkpoints go, and where events are sent; rank 0 sends them.
        keep: how many checkpoints to keep; None keeps all.
    """

    def __init__(self, run: TrainRun, keep: int | None) -> None:
        self._run = run
        self._keep = keep

    def _emit(self, event: str, **keys: Json) -> None:
        if self._run.rank == 0:
            self._run.emit({"event": event, **keys})

    def on_train_begin(
        self, args: transformers.TrainingArguments, state: transformers.TrainerState, *_: object, **__: object
    ) -> None:
        """Send `start`."""
        resumed = state.global_step if self._run.resume_from else None
        keys = {"total_steps": state.max_steps, "epochs": state.num_train_epochs, "world_size": args.world_size}
        self._emit("start", **keys, resumed_from=resumed)

    def on_log(
        self,
        args: transformers.TrainingArguments,
        state: transformers.TrainerState,
        control: object,  # noqa: ARG002 - transformers passes it by position
        logs: Mapping[str, float],
        **_: object,
    ) -> None:
        """Send `step`; on every rank, end the job if the loss is no number any more."""
        if "loss" not in logs:
            return
        found = {k: float(logs[k]) for k in ("loss", "epoch", "learning_rate", "grad_norm", *MEASURED) if k in logs}
        self._emit("step", step=state.global_step, total_steps=state.max_steps, **found)
        check_loss(logs["loss"], args, state)

    def on_evaluate(
        self,
        args: object,  # noqa: ARG002 - transformers passes it by position
        state: transformers.TrainerState,
        control: object,  # noqa: ARG002 - as above
        metrics: Mapping[str, float],
        **_: object,
    ) -> None:
        """Send `eval`."""
        found = {k: float(v) for k, v in metrics.items() if k.startswith("eval_")}
        self._emit("eval", step=state.global_step, **found)

    def on_save(
        self, args: transformers.TrainingArguments, state: transformers.TrainerState, *_: object, **__: object
    ) -> None:
        """Mark the checkpoint complete, once all ranks have written their part, and only then remove older ones."""
        barrier()
        folder = checkpoint_folder(args, state)
        if are_several():
            collect(folder, self._run)
        if self._run.rank == 0:
            from tunewright.runner import mark_checkpoint

            mark_checkpoint(folder)
            rotate_checkpoints(args.output_dir, self._keep, state.best_model_checkpoint)
        self._emit("checkpoint", step=state.global_step, path=str(folder))


class Means:
    """An evaluation's means over all samples or tokens; transformers' own are means of batches' means.

    For `compute_metrics` with `batch_eval_metrics`, after a `preprocess_logits_for_metrics` that returns for each sample the
    sums that the means are of, and last what they are divided by.

    Args:
        names: of the means.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._sums = [0.0] * (len(names) + 1)

    def __call__(self, predictions: transformers.EvalPrediction, compute_result: bool) -> dict[str, float]:
        """Add a batch; at the last, return the means of all and start again."""
        batch = predictions.predictions.double().sum(0).tolist()
        self._sums = [a + b for a, b in zip(self._sums, batch, strict=True)]
        if not compute_result:
            return {}
        *sums, count = self._sums
        self._sums = [0.0] * len(self._sums)
        return {name: total / count if count else math.nan for name, total in zip(self._names, sums, strict=True)}


def token_losses(logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    """Summed loss and number of learnt tokens of each sample, in nats.

    Args:
        logits: (samples, length, vocabulary), or a tuple that begins with them.
        labels: (samples, length), each predicted by the position before it.

    Returns:
        float32 of shape (samples, 2).
    """
    return summed_losses((logits[0] if isinstance(logits, tuple) else logits)[:, :-1], labels[:, 1:])


def summed_losses(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """As `token_losses`, of scores of the very positions that have the labels."""
    losses = torch.nn.functional.cross_entropy(
        scores.float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
    )
    return torch.stack([losses.sum(1), (targets != IGNORED).sum(1).float()], dim=1)


def quiet(trainer: transformers.Trainer) -> None:
    """Without transformers' own printing of logs: the events say the same."""
    trainer.remove_callback(PrinterCallback)
