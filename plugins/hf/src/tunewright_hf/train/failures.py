"""How a training ends before its end: by a signal with a checkpoint, or with the cause that the machine had."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator

import torch
import transformers

from tunewright.errors import RequestError
from tunewright.providers import TrainRun, newest_checkpoint
from tunewright_hf.distributed import are_several

# Only where torch's own allocator for GPUs gives up is it an OutOfMemoryError.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
_NO_SPACE = ("No space left on device", "Disk quota exceeded")
_TORCH_SAVE = ("inline_container.cc", "PytorchStreamWriter")  # torch.save does not say why it could not write
_FULL = 64 << 20  # bytes that are left where it was for lack of space
_LOST = ("closed by peer", "reset by peer", "broken pipe", "connection refused", "remote process exited")
_LATE = ("timed out", "timeout")
_COLLECTIVE = ("gloo", "nccl", "pair closure")  # in gloo's messages, not all of which name it, and in NCCL's


@contextlib.contextmanager
def telling_of_the_machine(args: transformers.TrainingArguments, run: TrainRun) -> Iterator[None]:
    """In here, what the machine lacks is told as such, and not as the library that noticed it says it.

    Raises:
        RequestError: memory is too small.
        OSError: the volume is full.
        RuntimeError: another rank has ended, or does not go on.
    """
    with telling_of_memory(args), telling_of_space(run), telling_of_ranks(args, run):
        yield


@contextlib.contextmanager
def telling_of_ranks(args: transformers.TrainingArguments, run: TrainRun) -> Iterator[None]:
    """In here, a collective operation that fails for another rank's sake says so: that rank may be unable to.

    Raises:
        RuntimeError: with what happened to the other rank, as far as it can be known here.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error).lower()
        collective = isinstance(error, torch.distributed.DistError) or any(word in text for word in _COLLECTIVE)
        if not (are_several() and collective):
            raise
        if any(word in text for word in _LOST):
            found = "lost another rank: that has ended by an error of its own, which the log has, or was killed"
        elif any(word in text for word in _LATE):
            found = f"waited ddp_timeout={args.ddp_timeout} s for another rank, which is busy elsewhere or hangs"
        else:
            raise
        raise RuntimeError(f"Rank {run.rank} {found} ({' '.join(str(error).split())[:200]})") from error


@contextlib.contextmanager
def telling_of_space(run: TrainRun) -> Iterator[None]:
    """In here, a volume that is full is an OSError, whoever wrote; started again, the training would fill it again.

    Raises:
        OSError: ENOSPC, with what is left to resume from.
    """
    try:
        yield
    except Exception as error:
        if not _is_of_space(error, run):
            raise
        newest = newest_checkpoint(run.checkpoints)
        kept = f"{newest.name} is complete and stays" if newest else "there is no checkpoint yet"
        raise OSError(errno.ENOSPC, f"No space left on device in saving; {kept}", str(run.output)) from error


def _is_of_space(error: Exception, run: TrainRun) -> bool:
    text = str(error)
    if any(word in text for word in _NO_SPACE):
        return True
    return any(word in text for word in _TORCH_SAVE) and shutil.disk_usage(run.output).free < _FULL


@contextlib.contextmanager
def telling_of_memory(args: transformers.TrainingArguments) -> Iterator[None]:
    """In here, running out of memory is a bad request: started again, the training would end at the same batch.

    Raises:
        RequestError: with what to do.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and not any(w in str(error) for w in _NO_MEMORY):
            raise
        problem = f"is too much for the memory of {args.device}: {str(error).partition('. ')[0]}"
        checkpointing = "" if args.activation_checkpointing else " or set activation_checkpointing=True;"
        remedy = f"Lower it, and raise gradient_accumulation_steps by as much;{checkpointing} or lower DataParams.max_length."
        size = args.per_device_train_batch_size
        raise RequestError(problem, field="per_device_train_batch_size", value=size, remedy=remedy) from error


@contextlib.contextmanager
def telling_of_reading() -> Iterator[None]:
    """In here, bad data that a reading process finds is a bad request, as where the training process finds it.

    Raises:
        RequestError: with what the reading process said.
    """
    try:
        yield
    except RuntimeError as error:  # torch makes it of exceptions whose constructor takes more than a text
        _, found, text = str(error).rpartition(f"{RequestError.__module__}.{RequestError.__name__}: ")
        if not found:
            raise
        field, _, problem = text.strip().partition(": ")
        raise RequestError(problem.rstrip("."), field=field, remedy="") from error
