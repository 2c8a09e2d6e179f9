"""What a training does with its time: tokens, floating-point operations, memory, waiting for data."""

from __future__ import annotations

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

MEASURED = ("tokens_per_second", "total_tokens_per_second", "mfu", "peak_memory_bytes", "data_wait")
"""What `Meter` logs."""

_T = TypeVar("_T")

# FLOP/s in bf16 or fp16, dense, from the makers' data sheets; the first name that the device's contains.
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
    """Floating-point operations of a training step, without those of activations that are computed again.

    Attributes:
        per_token: of the products with weights.
        per_pair: of attention, for each pair of a token and one that it sees.
    """

    per_token: float
    per_pair: float

    @classmethod
    def of(cls, model: transformers.PreTrainedModel | peft.PeftModel) -> Flops | None:
        """Count a model's; None where that is not known: expert layers, quantised weights, other tasks.

        Each weight that a token is multiplied with costs 2 operations forward, 2 for the input's gradient, and 2 for
        its own gradient if it is trained. Each pair costs 2 · 2 · heads · head size forward in each layer, and twice
        that backward. So with everything trained it is 6 N + 12 L H Q T of PaLM (Chowdhery et al. 2022, appendix B),
        where T is the number of tokens that are seen, which causal attention halves.
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
        return cls(per_token, 12 * config.num_hidden_layers * config.num_attention_heads * head)


def peak_flops(device: torch.device) -> float | None:
    """What a device computes at most in half precision, in FLOP/s; None for one that is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for known, peak in _PEAKS.items() if known in name), None)


def peak_memory(device: torch.device) -> int:
    """The most memory that this process has held, in bytes: of the GPU, or of the machine."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _count(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Learnt tokens, tokens that are no pads, and pairs of a token and one that it sees; on the batch's device.

    Of a classifier, the tokens of samples with a label are learnt; the pairs of others than causal language models are not
    asked for.
    """
    joined = "cu_seq_lens_q" in batch
    lengths = batch["cu_seq_lens_q"].diff().long() if joined else batch["attention_mask"].sum(1)
    tokens = lengths.sum()
    if "labels" not in batch:  # of preference pairs
        learnt = batch.get("completion_mask", batch["attention_mask"]).sum()
        return torch.stack([learnt, tokens, torch.zeros_like(tokens)])
    known = batch["labels"] != IGNORED
    if "decoder_input_ids" in batch:
        learnt = known.sum()
        tokens = tokens + learnt
    elif known.dim() == 1 or batch["labels"].is_floating_point():
        learnt = lengths[known.reshape(len(lengths), -1)[:, 0]].sum()
    else:
        learnt = known[:, 1:].sum()
    return torch.stack([learnt, tokens, (lengths * (lengths + 1) // 2).sum()])


@attrs.define
class Meter:
    """Adds up what this rank does between two logs.

    Attributes:
        flops: the model's, or None.
        device: of the rank.
        half: whether it computes in half precision.
    """

    flops: Flops | None
    device: torch.device
    half: bool
    _counts: torch.Tensor = attrs.field(factory=lambda: torch.zeros(3, dtype=torch.int64))
    _waited: float = 0.0

    def timed(self, batches: Iterator[_T]) -> Iterator[_T]:
        """The same, and the time that each is waited for is measured."""
        while True:
            began = time.monotonic()
            batch = next(batches, None)
            self._waited += time.monotonic() - began
            if batch is None:
                return
            yield batch

    def add(self, batches: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """Add the batches of one step, without waiting for the device that they are on."""
        for batch in batches:
            if "cu_seq_lens_q" not in batch and "attention_mask" not in batch:  # a Trainer class's own
                continue
            counts = _count(batch)
            self._counts = self._counts.to(counts.device) + counts

    def counts(self) -> torch.Tensor:
        """This rank's counts, for all ranks' to be summed, on the rank's device."""
        # fp32 holds them well enough, and not every device has fp64.
        return self._counts.to(self.device, torch.float32)

    def lap(self, counts: Sequence[float], seconds: float, world_size: int) -> dict[str, float]:
        """What to log, from all ranks' counts and the seconds of training; starts anew.

        Returns:
            `tokens_per_second`: learnt ones; `total_tokens_per_second`: all but pads; `data_wait`: share of the time
            that this rank waited for its next batch; `peak_memory_bytes`: of this rank; `mfu`: model FLOP/s
            utilisation, the operations of `Flops` over time, ranks and what the device computes at most; where that is
            known.
        """
        learnt, tokens, pairs = (c / seconds for c in counts)
        found = {
            "tokens_per_second": learnt,
            "total_tokens_per_second": tokens,
            "data_wait": self._waited / seconds,
            "peak_memory_bytes": peak_memory(self.device),
        }
        peak = peak_flops(self.device) if self.half else None
        if peak and self.flops:
            operations = self.flops.per_token * tokens + self.flops.per_pair * pairs
            found["mfu"] = operations / (peak * world_size)
        self._counts, self._waited = torch.zeros_like(self._counts), 0.0
        return found
