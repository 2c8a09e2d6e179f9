"""Process groups: join the ranks, wait for them, and check that they agree."""

from __future__ import annotations

import datetime as dt
import typing
from collections.abc import Mapping

import torch
import transformers

from tunewright.errors import RequestError
from tunewright.providers import TrainRun


def is_sharded(trainer: transformers.Trainer) -> bool:
    """Return whether no rank holds the whole model. DeepSpeed shards weights only in ZeRO stage 3."""
    shards = trainer.is_fsdp_enabled or transformers.integrations.is_deepspeed_zero3_enabled()
    return shards or trainer.args.parallelism_config is not None


def check_sharding(trainer: transformers.Trainer) -> None:
    """Refuse FSDP if accelerate silently disables it, as it does on CPUs: each rank would hold the whole model.

    Raises:
        RequestError: FSDP is requested and not enabled.
    """
    args = trainer.args
    if args.fsdp and are_several() and not trainer.is_fsdp_enabled:
        problem = f"is disabled by accelerate on {args.device.type}, so each rank would hold the whole model"
        raise RequestError(problem, field="fsdp", value=args.fsdp, remedy="Train on GPUs, or leave it out.")


def are_several() -> bool:
    """Return whether this process belongs to a process group."""
    return bool(torch.distributed.is_available() and torch.distributed.is_initialized())


def barrier() -> None:
    """Wait for all ranks."""
    if are_several():
        torch.distributed.barrier()


def smallest_of_ranks(number: int) -> int:
    """Return the smallest number that a rank gives."""
    if not are_several():
        return number
    numbers = [0] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(numbers, number)
    return min(numbers)


def ranks_on_node(run: TrainRun) -> int:
    """Return the number of ranks on this rank's node. Call it on all ranks."""
    if not are_several():
        return 1
    firsts = [0] * torch.distributed.get_world_size()  # of each rank, the first one of its node
    torch.distributed.all_gather_object(firsts, run.rank - run.local_rank)
    return firsts.count(run.rank - run.local_rank)


def join_ranks(given: Mapping[str, object], world_size: int) -> None:
    """Initialise the process group on CPUs. Transformers would do so too, but without `ddp_timeout`."""
    cpu = bool(given.get("use_cpu")) or not torch.cuda.is_available()
    if cpu and world_size > 1 and torch.distributed.is_torchelastic_launched():
        seconds = given.get("ddp_timeout", transformers.TrainingArguments.__dataclass_fields__["ddp_timeout"].default)
        timeout = dt.timedelta(seconds=typing.cast("float", seconds))
        torch.distributed.init_process_group(str(given.get("ddp_backend") or "gloo"), timeout=timeout)


def shape_of(weight: torch.Tensor) -> torch.Size:
    """Return a weight's full shape, even if DeepSpeed has sharded it."""
    shape: torch.Size = getattr(weight, "ds_shape", weight.shape)
    return shape


def check_world(args: transformers.TrainingArguments, run: TrainRun) -> None:
    """Raise RuntimeError if transformers sees another number of processes than the job has.

    Otherwise each process would believe to be the only one, and train a model of its own.
    """
    if args.world_size != run.world_size:
        found = f"transformers sees {args.world_size} process(es), the job has {run.world_size}"
        raise RuntimeError(f"{found}. Start the ranks with torchrun.")


def check_same_checkpoint(run: TrainRun) -> None:
    """Check that all ranks resume from the same checkpoint.

    Pods with volumes of their own may have fetched different ones, before and after an upload.

    Raises:
        RuntimeError: they differ. After a restart all pods fetch the newest one.
    """
    if not are_several():
        return
    names: list[str | None] = [None] * run.world_size
    torch.distributed.all_gather_object(names, run.resume_from.name if run.resume_from else None)
    if len(set(names)) > 1:
        found = ", ".join(f"rank {rank} from {name or 'the beginning'}" for rank, name in enumerate(names))
        raise RuntimeError(f"The ranks would resume from different checkpoints: {found}.")
