"""Ranks: joining them, waiting for them, and what differs between them."""

from __future__ import annotations

import datetime as dt
import typing
from collections.abc import Mapping

import torch
import transformers

from tunewright.errors import RequestError
from tunewright.providers import TrainRun


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


def join_ranks(given: Mapping[str, object], world_size: int) -> None:
    """Make the group of several ranks on CPUs: transformers would, but without `ddp_timeout`."""
    cpu = bool(given.get("use_cpu")) or not torch.cuda.is_available()
    if cpu and world_size > 1 and torch.distributed.is_torchelastic_launched():
        seconds = given.get("ddp_timeout", transformers.TrainingArguments.__dataclass_fields__["ddp_timeout"].default)
        timeout = dt.timedelta(seconds=typing.cast("float", seconds))
        torch.distributed.init_process_group(str(given.get("ddp_backend") or "gloo"), timeout=timeout)


def shape_of(weight: torch.Tensor) -> torch.Size:
    """A weight's whole shape, also where DeepSpeed has sharded it."""
    shape: torch.Size = getattr(weight, "ds_shape", weight.shape)
    return shape


def check_world(args: transformers.TrainingArguments, run: TrainRun) -> None:
    """A job of several processes in which each believes to be alone would train as many models."""
    if args.world_size != run.world_size:
        found = f"transformers sees {args.world_size} process(es), the job has {run.world_size}"
        raise RuntimeError(f"{found}. Start the ranks with torchrun.")


def check_same_checkpoint(run: TrainRun) -> None:
    """Pods with volumes of their own may have fetched different checkpoints, one before and one after an upload.

    Raises:
        RuntimeError: they would train apart from each other. Started again, they all fetch the newest one.
    """
    if not are_several():
        return
    names: list[str | None] = [None] * run.world_size
    torch.distributed.all_gather_object(names, run.resume_from.name if run.resume_from else None)
    if len(set(names)) > 1:
        found = ", ".join(f"rank {rank} from {name or 'the beginning'}" for rank, name in enumerate(names))
        raise RuntimeError(f"The ranks would resume from different checkpoints: {found}.")
