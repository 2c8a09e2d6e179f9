"""Throughput: tokens and FLOP per second, memory, and the time spent waiting for data."""

from __future__ import annotations

import logging
import math
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import attrs
import peft
import torch
import transformers

from tunewright_hf.data.tokenize import IGNORED
from tunewright_hf.distributed import shape_of

logger = logging.getLogger(__name__)

MEASURED = ("tokens_per_second", "total_tokens_per_second", "mfu", "peak_memory_bytes", "data_wait")
"""The names of what `Meter` logs."""

_T = TypeVar("_T")

# Dense FLOP/s in bf16 or fp16, from the vendors' data sheets; the first name that occurs in the device's name counts.
_PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
}


@attrs.frozen
class Flops:
    """Floating-point operations of a training step, without recomputed activations.

    Attributes:
        per_token: operations in products with weights, for each token.
        per_pair: operations in attention, for each pair of a query and a key that it attends to.
    """

    per_token: float
    per_pair: float

    @classmethod
    def of(cls, model: transformers.PreTrainedModel | peft.PeftModel) -> Flops | None:
        """Count a model's operations; None if they are unknown: expert layers, quantised weights, other tasks.

        Each weight that multiplies a token costs 2 operations in the forward pass, 2 for the input's gradient, and 2 for
        its own gradient if it is trained. Each pair costs 2 · 2 · heads · head size in each layer's forward pass, and twice
        that in the backward pass. With all weights trained this is 6 N + 12 L H Q T of PaLM (Chowdhery et al. 2022,
        appendix B), where T is the number of keys that a query attends to, which causal attention halves.
        """
        if not model.can_generate() or model.config.is_encoder_decoder:
            return None
        looked_up = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
        output = model.get_output_embeddings()
        looked_up -= {id(output.weight)} if output is not None else set()
        weights = [w for w in model.parameters() if len(shape_of(w)) > 1 and id(w) not in looked_up]
        if any(len(shape_of(w)) > 2 or not w.is_floating_point() for w in weights):  # noqa: PLR2004 - a matrix
            return None
        config = model.config.get_text_config()
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        per_token = sum(shape_of(w).numel() * (6 if w.requires_grad else 4) for w in weights)
        return cls(float(per_token), float(12 * config.num_hidden_layers * config.num_attention_heads * head))


def flops_of(model: transformers.PreTrainedModel | peft.PeftModel) -> Flops | None:
    """Count as `Flops.of`; None as well if the model has other fields than most, as one whose layers differ."""
    try:
        return Flops.of(model)
    except Exception as error:  # whatever a configuration raises: no log is worth a training
        logger.info("no MFU: the operations of %s are unknown: %r", type(model).__name__, error)
        return None


def device_name(device: torch.device) -> str:
    """Return a device's name for people: "NVIDIA H100 80GB HBM3" or "cpu"."""
    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else device.type


def peak_flops(device: torch.device) -> float | None:
    """Return a device's peak FLOP/s in half precision; None for an unknown device."""
    if device.type != "cuda":
        return None
    name = device_name(device)
    return next((peak for known, peak in _PEAKS.items() if known in name), None)


def peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process in bytes, on the GPU or else in main memory."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _count(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Count supervised tokens, tokens without padding, and pairs of a query and its keys, on the batch's device.

    For a classifier, the tokens of samples with a label count as supervised. The pairs are only used for causal language
    models.
    """
    padding_free = "cu_seq_lens_q" in batch
    lengths = batch["cu_seq_lens_q"].diff().long() if padding_free else batch["attention_mask"].sum(1)
    tokens = lengths.sum()
    if "labels" not in batch:  # of preference pairs
        supervised = batch.get("completion_mask", batch["attention_mask"]).sum()
        return torch.stack([supervised, tokens, torch.zeros_like(tokens)])
    known = batch["labels"] != IGNORED
    if "decoder_input_ids" in batch:
        supervised = known.sum()
        tokens = tokens + supervised
    elif known.dim() == 1 or batch["labels"].is_floating_point():
        supervised = lengths[known.reshape(len(lengths), -1)[:, 0]].sum()
    else:
        supervised = known[:, 1:].sum()
    return torch.stack([supervised, tokens, (lengths * (lengths + 1) // 2).sum()])


@attrs.define
class Meter:
    """Adds up tokens and waiting time of this rank between two logs.

    Attributes:
        flops: the model's operations, or None if unknown.
        device: the rank's device.
        half: whether the model computes in half precision.
    """

    flops: Flops | None
    device: torch.device
    half: bool
    _counts: torch.Tensor = attrs.field(factory=lambda: torch.zeros(3, dtype=torch.int64))
    _waited: float = 0.0
    _uncounted: bool = False

    def timed(self, batches: Iterator[_T]) -> Iterator[_T]:
        """Yield the batches, and measure the time spent waiting for each."""
        while True:
            began = time.monotonic()
            batch = next(batches, None)
            self._waited += time.monotonic() - began
            if batch is None:
                return
            yield batch

    def add(self, batches: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """Add the batches of one step, without synchronising with their device."""
        for batch in batches:
            if "cu_seq_lens_q" not in batch and "attention_mask" not in batch:  # a format of the Trainer class
                continue
            try:
                counts = _count(batch)
            except Exception as error:  # whatever another collator makes: no log is worth a training
                if not self._uncounted:
                    logger.warning("no throughput: the tokens of a batch of %s cannot be counted: %r", [*batch], error)
                self._uncounted = True
                return
            self._counts = self._counts.to(counts.device) + counts

    def counts(self) -> torch.Tensor:
        """Return this rank's counts on its device, for a sum over all ranks; NaN if a batch could not be counted."""
        if self._uncounted:
            return torch.full((3,), torch.nan, device=self.device)
        # fp32 is precise enough, and not every device has fp64.
        return self._counts.to(self.device, torch.float32)

    def lap(self, counts: Sequence[float], seconds: float, world_size: int) -> dict[str, float]:
        """Return what to log, from all ranks' counts and the seconds of training, and reset this rank's counts.

        Returns:
            `tokens_per_second`: supervised tokens; `total_tokens_per_second`: all tokens without padding; `data_wait`:
            share of the time in which this rank waited for a batch; `peak_memory_bytes`: of this rank; and, where the
            operations and the device's peak are known, `mfu`: model FLOP/s utilisation, the operations of `Flops` per
            second, divided by the peak of all ranks' devices.
        """
        supervised, tokens, pairs = (c / seconds for c in counts)
        found = {
            "tokens_per_second": supervised,
            "total_tokens_per_second": tokens,
            "data_wait": self._waited / seconds,
            "peak_memory_bytes": peak_memory(self.device),
        }
        peak = peak_flops(self.device) if self.half else None
        if peak and self.flops:
            operations = self.flops.per_token * tokens + self.flops.per_pair * pairs
            found["mfu"] = operations / (peak * world_size)
        self._counts, self._waited = torch.zeros_like(self._counts), 0.0
        return {name: value for name, value in found.items() if not math.isnan(value)}
