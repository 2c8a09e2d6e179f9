"""Fused cross entropy: skips unsupervised positions and never keeps the logits; computes the gradient in the forward pass."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

import attrs
import torch
import transformers
from torch.autograd.function import FunctionCtx, once_differentiable
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.modeling_outputs import CausalLMOutputWithPast

from tunewright_hf.data.tokenize import IGNORED
from tunewright_hf.kernels.recognise import base_of, is_same

SUPERVISED = "supervised"
"""The key of a batch's supervised positions, and the keyword of the model's forward."""

# Logits in memory at once: 128 MiB in fp32, or enough positions for efficient matrix products. A GPU needs more of them.
_LOGITS, _FEWEST_ROWS, _MORE_ON_GPUS = 2**25, 256, 4


@attrs.frozen
class Positions:
    """A collator that adds the supervised positions to the batches of another collator.

    They are computed here on the CPU: on a GPU each step would have to wait for their number.

    Attributes:
        collator: the other collator.
    """

    collator: Callable[[Sequence[Mapping[str, object]]], dict[str, torch.Tensor]]

    def __call__(self, samples: Sequence[Mapping[str, object]]) -> dict[str, torch.Tensor]:
        """Return the batch with `supervised`: see `supervised_positions`."""
        batch = self.collator(samples)
        return {**batch, SUPERVISED: supervised_positions(batch["labels"])}


def supervised_positions(labels: torch.Tensor) -> torch.Tensor:
    """Return the flat indices of positions that predict a label: those before a supervised token."""
    predicts = torch.nn.functional.pad(labels[:, 1:] != IGNORED, (0, 1))
    return predicts.flatten().nonzero().squeeze(1)


class Record(Protocol):
    """Receives the losses of supervised positions; see `fuse_loss`."""

    def __call__(self, losses: torch.Tensor, *, where: torch.Tensor) -> None:
        """Receive the loss of each, and the flat indices of their labels."""


def fuse_loss(model: torch.nn.Module, record: Record | None = None) -> bool:
    """Monkey-patch a causal language model so that its forward, in training, returns the loss without logits.

    Args:
        model: the model, which may have an adapter.
        record: receives the loss of each supervised position.

    Returns:
        Whether the model was patched. Its own forward must be that of Llama, instruction by instruction, as for Mistral or
        Qwen: others scale or cap their logits, or add to the loss.
    """
    causal = base_of(model)
    head = getattr(causal, "lm_head", None)
    known = is_same(type(causal).forward, transformers.LlamaForCausalLM.forward)
    known = known and causal.loss_function is ForCausalLMLoss
    if head is None or not known or type(head) is not torch.nn.Linear or head.bias is not None:
        return False
    causal.forward = types.MethodType(_with_fused_loss(type(causal).forward, record), causal)
    return True


def _with_fused_loss(
    original: Callable[..., CausalLMOutputWithPast], record: Record | None
) -> Callable[..., CausalLMOutputWithPast]:
    @functools.wraps(original)  # Trainer reads the signature
    def forward(
        self: transformers.PreTrainedModel,
        *args: object,
        labels: torch.Tensor | None = None,
        supervised: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: object,
    ) -> CausalLMOutputWithPast:
        special = kwargs.get("shift_labels") is not None or kwargs.get("logits_to_keep") is not None
        if labels is None or not self.training or special:
            return original(self, *args, labels=labels, num_items_in_batch=num_items_in_batch, **kwargs)
        kwargs.pop("return_dict", None)
        hidden = self.model(*args, **kwargs).last_hidden_state
        where = supervised_positions(labels) if supervised is None else supervised
        rows, targets = hidden.flatten(0, 1).index_select(0, where), labels.flatten()[where + 1]
        each = None if record is None else torch.empty(len(where), device=rows.device)
        loss = fused_loss(rows, self.lm_head.weight, targets, each)
        if record is not None and each is not None:
            record(each, where=where + 1)
        return CausalLMOutputWithPast(loss=loss / (len(where) if num_items_in_batch is None else num_items_in_batch))

    return forward


def fused_loss(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, each: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the summed cross entropy of `hidden @ weightᵀ`, in at least fp32.

    Args:
        hidden: (positions, size).
        weight: (vocabulary, size).
        targets: (positions).
        each: (positions), which receives the loss of each.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    with torch.autocast(device, enabled=False):
        return cast("torch.Tensor", LossFunction.apply(hidden.to(dtype), weight.to(dtype), targets, each))


class LossFunction(torch.autograd.Function):  # type: ignore[misc]
    """Summed cross entropy that computes its gradient in the forward pass."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        each: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the loss as `fused_loss`, with hidden and weight of one dtype."""
        accurate = torch.promote_types(hidden.dtype, torch.float32)
        loss = torch.zeros((), dtype=accurate, device=hidden.device)
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros_like(weight, dtype=accurate) if ctx.needs_input_grad[1] else None
        step = max(_FEWEST_ROWS, _LOGITS * (_MORE_ON_GPUS if hidden.is_cuda else 1) // len(weight))
        places = [None] * len(targets.split(step)) if each is None else each.split(step)
        for rows, wanted, d_rows, place in zip(
            hidden.split(step), targets.split(step), d_hidden.split(step), places, strict=True
        ):
            scores = torch.log_softmax(rows @ weight.t(), 1, dtype=accurate)
            likely = scores.gather(1, wanted[:, None])
            loss -= likely.sum()
            if place is not None:
                place.copy_(-likely[:, 0])
            # In one pass and rounded once; the targets' entries are rounded after 1 has been subtracted.
            d_scores = scores if accurate == hidden.dtype else torch.empty_like(scores, dtype=hidden.dtype)
            torch.exp(scores, out=d_scores)
            d_scores.scatter_(1, wanted[:, None], likely.exp().sub_(1).to(hidden.dtype))
            torch.mm(d_scores, weight, out=d_rows)
            if d_weight is not None:
                d_weight += d_scores.t() @ rows
        ctx.save_for_backward(d_hidden, None if d_weight is None else d_weight.to(weight.dtype))
        return loss

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: FunctionCtx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scale the gradients from the forward pass."""
        d_hidden, d_weight = ctx.saved_tensors
        return (
            d_hidden * grad.to(d_hidden.dtype),
            None if d_weight is None else d_weight * grad.to(d_weight.dtype),
            None,
            None,
        )
