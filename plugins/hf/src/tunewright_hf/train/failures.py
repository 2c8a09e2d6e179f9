"""Failures of the machine during training: out of memory, a full volume, a lost rank. Explain each with its remedy."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Callable, Iterator

import torch
import transformers

from tunewright.errors import RequestError
from tunewright.providers import TrainRun, newest_checkpoint
from tunewright_hf.distributed import are_several

# torch raises OutOfMemoryError only from its own allocator for GPUs.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
_NO_SPACE = ("No space left on device", "Disk quota exceeded")
_TORCH_SAVE = ("inline_container.cc", "PytorchStreamWriter")  # torch.save does not say why it could not write
_FULL = 64 << 20  # with fewer free bytes than this, a failed write is for lack of space
_LOST = ("closed by peer", "reset by peer", "broken pipe", "connection refused", "remote process exited")
_LATE = ("timed out", "timeout")
_COLLECTIVE = ("gloo", "nccl", "pair closure")  # in gloo's messages, not all of which name it, and in NCCL's


@contextlib.contextmanager
def explain_machine_errors(
    args: transformers.TrainingArguments, run: TrainRun, evaluates: Callable[[], bool]
) -> Iterator[None]:
    """Replace a library's error by one that says what the machine lacks.

    Args:
        args: the Trainer's arguments.
        run: the training run.
        evaluates: returns whether an evaluation is going on.

    Raises:
        RequestError: out of memory.
        OSError: the volume is full.
        RuntimeError: another rank died or hangs.
    """
    with explain_out_of_memory(args, evaluates), explain_full_volume(run), explain_lost_ranks(args, run):
        yield


@contextlib.contextmanager
def explain_lost_ranks(args: transformers.TrainingArguments, run: TrainRun) -> Iterator[None]:
    """Explain a collective operation that failed because of another rank, which may be unable to report it.

    Raises:
        RuntimeError: with what happened to the other rank, as far as this rank can know.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error).lower()
        collective = isinstance(error, torch.distributed.DistError) or any(word in text for word in _COLLECTIVE)
        if not (are_several() and collective):
            raise
        if any(word in text for word in _LOST):
            found = "lost another rank, which was killed or failed with an error of its own (see the log)"
        elif any(word in text for word in _LATE):
            found = f"waited ddp_timeout={args.ddp_timeout} s for another rank, which is busy or hangs"
        else:
            raise
        raise RuntimeError(f"Rank {run.rank} {found} ({' '.join(str(error).split())[:200]})") from error


@contextlib.contextmanager
def explain_full_volume(run: TrainRun) -> Iterator[None]:
    """Raise OSError for a full volume, whichever library was writing. It is final: a restart would fill the volume again.

    Raises:
        OSError: ENOSPC, with the checkpoint that is left to resume from.
    """
    try:
        yield
    except Exception as error:
        if not _is_full_volume(error, run):
            raise
        newest = newest_checkpoint(run.checkpoints)
        kept = f"{newest.name} is complete and is kept" if newest else "there is no checkpoint yet"
        raise OSError(errno.ENOSPC, f"No space left on device while saving; {kept}", str(run.output)) from error


def _is_full_volume(error: Exception, run: TrainRun) -> bool:
    text = str(error)
    if any(word in text for word in _NO_SPACE):
        return True
    return any(word in text for word in _TORCH_SAVE) and shutil.disk_usage(run.output).free < _FULL


@contextlib.contextmanager
def explain_out_of_memory(
    args: transformers.TrainingArguments, evaluates: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Raise RequestError for running out of memory. It is final: a restart would fail at the same batch.

    Raises:
        RequestError: with the field that made the batch large, and the remedy.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        problem = f"is too large for the memory of {args.device}: {_told_by(error)}"
        others: list[str] = []  # what helps besides a smaller batch and shorter samples
        if evaluates():
            field, smaller = "per_device_eval_batch_size", "lower it, which does not change eval_loss"
            size = args.per_device_eval_batch_size
            problem = f"{problem} (in an evaluation)"
        else:
            field, smaller = (
                "per_device_train_batch_size",
                "lower it, and raise gradient_accumulation_steps in proportion",
            )
            size = args.per_device_train_batch_size
            others = [] if args.activation_checkpointing else ["set activation_checkpointing=True"]
        if size == 1:  # there is no smaller batch: its samples are too long
            remedy = _sentence(*others, "lower it")
            raise RequestError(problem, field="DataParams.max_length", remedy=remedy) from error
        remedy = _sentence(smaller, *others, "lower DataParams.max_length")
        raise RequestError(problem, field=field, value=size, remedy=remedy) from error


def _sentence(*alternatives: str) -> str:
    text = "; or ".join(alternatives)
    return f"{text[0].upper()}{text[1:]}."


@contextlib.contextmanager
def explain_too_large_model(args: transformers.TrainingArguments) -> Iterator[None]:
    """Raise RequestError for running out of memory while the model is loaded and tried out, before the first batch.

    Raises:
        RequestError: with the remedy.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        problem = f"does not fit into the memory of {args.device}: {_told_by(error)}"
        remedy = (
            "Give quantization_config=…, share it among GPUs with fsdp, or give a smaller model or a larger machine."
        )
        raise RequestError(problem, field="model", remedy=remedy) from error


def _told_by(error: RuntimeError | MemoryError) -> str:
    """Return the sentence of torch's error that tells of memory: a place in its code may come before it."""
    sentences = str(error).split(". ")
    return next((s for s in sentences if any(word in s for word in _NO_MEMORY)), sentences[0])


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Return whether an error is for lack of memory, of a GPU or of the machine."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(word in str(error) for word in _NO_MEMORY)
