"""The plan for memory: activation checkpointing if a step would not fit, and evaluations of fewer samples at once.

It follows from the bytes that the model keeps of a token.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import datasets
import numpy as np
import pyarrow.compute
import torch
import transformers

from tunewright_hf.data.prepare import Prepared
from tunewright_hf.data.samples.packing import SEGMENTS
from tunewright_hf.data.streaming import Stream
from tunewright_hf.distributed import are_several, is_sharded, smallest_of_ranks
from tunewright_hf.kernels import attention_cpu
from tunewright_hf.model.probe import Row

logger = logging.getLogger(__name__)

_USABLE = 0.85  # the rest is for temporary tensors within one operation, and for fragmentation
_ADAM = 8  # bytes of fp32 moments for each trained weight
_MEASURED_TOKENS = attention_cpu.LONGEST  # longer samples keep no more per token
_NAMES = ("activation_checkpointing", "gradient_checkpointing")


@attrs.frozen(kw_only=True)
class Need:
    """Memory that a training step needs, in bytes.

    Attributes:
        fixed: bytes of weights, gradients and optimizer state.
        per_token: bytes of activations that are kept for the backward pass, for each token.
        tokens: tokens in the largest batch on one device.
    """

    fixed: int
    per_token: int
    tokens: int

    @property
    def whole(self) -> int:
        """Bytes of a step without activation checkpointing."""
        return self.fixed + self.per_token * self.tokens


def needs_checkpointing(need: Need, available: int) -> bool:
    """Return whether a step does not fit without activation checkpointing, which costs about a quarter of the speed."""
    return need.whole > _USABLE * available


def decide(trainer: transformers.Trainer, given: Mapping[str, object]) -> None:
    """Set `activation_checkpointing` before training, unless the user did, and lower `per_device_eval_batch_size`.

    Sharded models are left as they are, since no rank knows what the others hold, and so is DeepSpeed, which may offload
    gradients and optimizer state.
    """
    args = trainer.args
    if is_sharded(trainer) or trainer.is_deepspeed_enabled:
        return
    available = memory_of(args.device)
    if any(given.get(name) is not None for name in _NAMES) or not trainer.model.supports_gradient_checkpointing:
        fit_evaluation(trainer, Need(fixed=fixed_bytes(trainer), per_token=0, tokens=0), available, given)
        return
    try:
        need = need_of(trainer)
    except torch.OutOfMemoryError:  # even with few tokens
        need = Need(fixed=available, per_token=0, tokens=0)
    except (
        Exception
    ) as error:  # whatever a model or a Trainer class raises: the training will say so, if it does as well
        logger.warning("activation_checkpointing: off; the memory of a step cannot be measured: %r", error)
        return
    args.activation_checkpointing = args.gradient_checkpointing = needs_checkpointing(need, available)
    if args.activation_checkpointing:
        trainer.model.enable_input_require_grads()  # as if the user had asked for it
    state = "on" if args.activation_checkpointing else "off"
    gib = [f"{n / 2**30:.1f}" for n in (need.whole, available)]
    logger.info("activation_checkpointing: %s; without it a step needs about %s GiB of %s GiB", state, *gib)
    fit_evaluation(trainer, need, available, given)


def fit_evaluation(
    trainer: transformers.Trainer, need: Need, available: int, given: Mapping[str, object] | None = None
) -> None:
    """Lower the number of samples that are evaluated at once until they fit; eval_loss stays the same.

    The number that the user gave is kept, and a warning says what it needs.
    """
    data, args = trainer.eval_dataset, trainer.args
    if args.eval_strategy == "no" or not isinstance(data, datasets.Dataset) or "length" not in data.column_names:
        return
    given_size = (given or {}).get("per_device_eval_batch_size")
    layers = getattr(trainer.model.config.get_text_config(), "num_hidden_layers", 1)
    per_token = logits_bytes(trainer) + need.per_token // layers  # an evaluation keeps what one layer computes
    padding_free = "cu_seq_lens_q" in trainer.data_collator([data[0]])
    sizes = [n for n in range(args.per_device_eval_batch_size, 0, -1) if not args.per_device_eval_batch_size % n]
    needs = {n: need.fixed + per_token * largest_batch(data, n, padding_free=padding_free) for n in sizes}
    size = smallest_of_ranks(next((n for n, needed in needs.items() if needed <= _USABLE * available), 1))
    if size == args.per_device_eval_batch_size:
        return
    gib = [f"{n / 2**30:.1f}" for n in (needs[args.per_device_eval_batch_size], available)]
    logger.warning(
        "per_device_eval_batch_size=%d needs about %s GiB of %s GiB: %s",
        args.per_device_eval_batch_size,
        *gib,
        f"{size} would fit" if given_size is not None else f"evaluating {size} samples at once",
    )
    if given_size is None:
        args.per_device_eval_batch_size = size


def logits_bytes(trainer: transformers.Trainer) -> int:
    """Return the bytes of a token's logits in an evaluation; 0 if the model returns losses in their place."""
    if trainer.returns_losses:
        return 0
    size: int = next(p for p in trainer.model.parameters() if p.is_floating_point()).itemsize + 4  # and a copy in fp32
    return size * int(trainer.model.config.get_text_config().vocab_size)


def fixed_bytes(trainer: transformers.Trainer) -> int:
    """Return the bytes of weights, gradients and optimizer state."""
    parameters = list(trainer.model.parameters())
    trained = [p for p in parameters if p.requires_grad]
    gradients = sum(p.nbytes for p in trained) * (2 if are_several() else 1)  # DDP keeps a copy in its buckets
    return int(sum(p.nbytes for p in parameters) + gradients + _ADAM * sum(p.numel() for p in trained))


def need_of(trainer: transformers.Trainer) -> Need:
    """Return what a step needs, measured by a forward pass of the trainer's model with one sample of the data."""
    args, fixed = trainer.args, fixed_bytes(trainer)
    batch = trainer.data_collator([_measured(trainer.train_dataset)])
    size = batch["input_ids"].numel()
    padding_free = "cu_seq_lens_q" in batch
    data = trainer.train_dataset
    if isinstance(data, Stream):
        tokens = data.longest * args.train_batch_size
    else:
        tokens = largest_batch(data, args.train_batch_size, padding_free=padding_free)
    return Need(fixed=fixed, per_token=saved_bytes(trainer, batch) // size, tokens=tokens)


def largest_batch(data: datasets.Dataset, size: int, *, padding_free: bool) -> int:
    """Return the tokens in the largest possible batch: that of the longest samples, with padding unless `padding_free`."""
    lengths = data.data.column("length").to_numpy()
    longest = np.partition(lengths, -size)[-size:] if size < len(lengths) else lengths
    return int(longest.sum() if padding_free else longest.max() * len(longest))


def longest_row(args: transformers.TrainingArguments, data: Prepared) -> Row:
    """Return the longest row of samples that are concatenated, in a step or an evaluation."""
    if isinstance(data.train, Stream):
        rows = [(data.train.longest, data.train.longest * args.train_batch_size)]
    else:
        rows = [(_longest(data.train), largest_batch(data.train, args.train_batch_size, padding_free=True))]
    if data.evaluation is not None:
        rows.append(
            (_longest(data.evaluation), largest_batch(data.evaluation, args.eval_batch_size, padding_free=True))
        )
    longest, tokens = (max(sizes) for sizes in zip(*rows, strict=True))
    return Row.within(longest, tokens)


def _measured(data: datasets.Dataset | Stream) -> dict[str, Sequence[int] | int]:
    """Return a sample as long as the longest one: attention may keep more per token in longer samples."""
    row = data.example() if isinstance(data, Stream) else data[0]
    size = min(_longest(data), _MEASURED_TOKENS)
    ids, labels = ([*itertools.islice(itertools.cycle(row[name]), size)] for name in ("input_ids", "labels"))
    found: dict[str, Sequence[int] | int] = {"input_ids": ids, "labels": labels, "length": size}
    return {**found, SEGMENTS: [size]} if SEGMENTS in row else found


def _longest(data: datasets.Dataset | Stream) -> int:
    if isinstance(data, Stream):
        return data.longest
    if SEGMENTS in data.column_names:
        return int(pyarrow.compute.max(pyarrow.compute.list_flatten(data.data.column(SEGMENTS))).as_py())
    return int(pyarrow.compute.max(data.data.column("length")).as_py())


def saved_bytes(trainer: transformers.Trainer, batch: Mapping[str, torch.Tensor]) -> int:
    """Return the bytes that a batch's forward pass saves for its backward pass, without weights."""
    model = trainer.model
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    was_training = model.training
    model.train()
    try:
        # The measurement must not change the training: dropout draws random numbers.
        with (
            torch.random.fork_rng(),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            trainer.compute_loss_context_manager(),
        ):
            loss = trainer.compute_loss(model, trainer._prepare_inputs(dict(batch)))
        del loss  # only now, as a freed address could be reused and counted once for two tensors
    finally:
        model.train(was_training)
    return sum(kept.values())


def memory_of(device: torch.device) -> int:
    """Return the bytes that this rank may use: of its GPU, or its share of the container's memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device))
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(pages, _cgroup_limit()) // int(os.environ.get("LOCAL_WORLD_SIZE") or 1)


def _cgroup_limit(folder: Path = Path("/sys/fs/cgroup")) -> int:
    for file in ("memory.max", "memory/memory.limit_in_bytes"):  # versions 2 and 1
        try:
            return int((folder / file).read_text("utf-8"))
        except (OSError, ValueError):  # absent, or "max"
            continue
    return 1 << 62
