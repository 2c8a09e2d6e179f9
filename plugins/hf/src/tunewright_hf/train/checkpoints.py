"""Checkpoints: what each contains beside the Trainer's own files, and removing incomplete ones."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
import transformers

from tunewright.errors import RequestError
from tunewright.events import Json
from tunewright.providers import TrainRun, is_complete
from tunewright_hf.distributed import barrier
from tunewright_hf.kernels import patches

logger = logging.getLogger(__name__)

FILE = "record.json"


class UnloggedLoss(transformers.TrainerCallback):  # type: ignore[misc]
    """Saves the loss of the steps since the last log, so that a resumed training logs the same mean."""

    def __init__(self, trainer: transformers.Trainer, run: TrainRun) -> None:
        self._trainer = trainer
        self._known = patches.keeps_unlogged_loss(trainer)
        self._resume_from = run.resume_from
        self._file = f"unlogged_{run.rank}.json"

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Restore what the checkpoint has for this rank."""
        if self._resume_from and (file := self._resume_from / self._file).is_file():
            record = json.loads(file.read_text(encoding="utf-8"))
            if self._known and "loss" in record:
                patches.restore_unlogged_loss(self._trainer, record["loss"], record["logged"])
            if self._trainer.by_source is not None and "by_source" in record:
                self._trainer.by_source.restore(record["by_source"])

    def on_save(
        self, args: transformers.TrainingArguments, state: transformers.TrainerState, *_: object, **__: object
    ) -> None:
        """Write it beside the weights.

        A loss of NaN ends the job before the checkpoint is complete: good ones would be removed in its favour.
        """
        record: dict[str, Json] = {}
        if self._known:
            loss, logged = patches.unlogged_loss(self._trainer)
            check_loss(loss, args, state)
            record |= {"loss": loss, "logged": logged}
        if self._trainer.by_source is not None:
            record["by_source"] = self._trainer.by_source.state()
        file = checkpoint_folder(args, state) / self._file
        file.write_text(json.dumps(record), encoding="utf-8")


def check_loss(loss: float, args: transformers.TrainingArguments, state: transformers.TrainerState) -> None:
    """Raise RequestError, which ends the job, if the loss is NaN or infinite."""
    if not math.isfinite(loss):
        problem = f"the loss became {loss} by step {state.global_step}"
        remedy = "Lower learning_rate, add warmup_steps or max_grad_norm, or use bf16 instead of fp16."
        field = "TrainingArguments.learning_rate"
        raise RequestError(problem, field=field, value=args.learning_rate, remedy=remedy)


def checkpoint_folder(args: transformers.TrainingArguments, state: transformers.TrainerState) -> Path:
    """Return the folder of the checkpoint that is being saved."""
    return Path(args.output_dir, f"checkpoint-{state.global_step}")


def gather_files(folder: Path, run: TrainRun) -> None:
    """Copy files of a checkpoint from other workers' volumes to rank 0's. Call it on every rank, after all have written.

    Rank 0's folder is the one that is marked, uploaded and resumed from. The files are small, such as states of random
    number generators: shards on volumes of their own are refused (`tunewright_hf.config.sharding`). Nothing is copied if
    all workers share the folder.
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


class ProvenanceCallback(transformers.TrainerCallback):  # type: ignore[misc]
    """Writes the provenance record into each checkpoint, and warns of differences when a training is resumed."""

    def __init__(self, run: TrainRun, now: Mapping[str, Json]) -> None:
        self._run = run
        self._now = now

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Warn of differences by which the resumed training cannot reproduce the same bits."""
        if self._run.rank == 0 and self._run.resume_from and (file := self._run.resume_from / FILE).is_file():
            before = json.loads(file.read_text(encoding="utf-8"))
            for name in sorted(name for name in self._now if before.get(name) != self._now[name]):
                checkpoint = self._run.resume_from.name
                logger.warning("%s was made with %s %s, now %s", checkpoint, name, before.get(name), self._now[name])

    def on_save(
        self, args: transformers.TrainingArguments, state: transformers.TrainerState, *_: object, **__: object
    ) -> None:
        """Write the record beside the weights."""
        if self._run.rank == 0:
            file = checkpoint_folder(args, state) / FILE
            file.write_text(json.dumps(self._now, indent=2), encoding="utf-8")


def clear_incomplete(run: TrainRun) -> None:
    """Remove incomplete checkpoints, so that their numbers are free and rotation only counts complete ones."""
    if run.rank == 0:
        for folder in run.checkpoints.glob("checkpoint-*"):
            if not is_complete(folder):
                logger.warning("removing the incomplete checkpoint %s", folder)
                shutil.rmtree(folder)
    barrier()


def owes_evaluation(args: transformers.TrainingArguments, resume_from: Path | None) -> bool:
    """Return whether a training was interrupted after an epoch's last checkpoint, before its evaluation."""
    if resume_from is None or args.eval_strategy != "epoch":
        return False
    state = transformers.TrainerState.load_from_json(str(resume_from / "trainer_state.json"))
    evaluated = any("eval_loss" in e and e["step"] == state.global_step for e in state.log_history)
    return float(state.epoch).is_integer() and state.epoch >= args.eval_delay and not evaluated
