"""Cross entropy whose gradient is computed in the forward pass."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import attrs
import torch
import transformers
from torch.autograd.function import FunctionCtx, once_differentiable
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.modeling_outputs import CausalLMOutputWithPast

from tunewright_hf.data.tokenize import IGNORED
from tunewright_hf.kernels.recognise import base_of, is_same

LEARNT = "learnt"

# Logits that are there at once: 128 MiB in fp32, or of so many positions that the products stay efficient. A GPU's are with
# more of them, and its memory is read faster.
_LOGITS, _FEWEST_ROWS, _MORE_ON_GPUS = 2**25, 256, 4


# --- The loss ---
@attrs.frozen
class Positions:
    """A collator that adds to another one's batch which positions have a label to predict.

    Found here, on the CPU: on a GPU each step would wait for their number.

    Attributes:
        collator: the other one.
    """

    collator: Callable[[Sequence[Mapping[str, object]]], dict[str, torch.Tensor]]

    def __call__(self, samples: Sequence[Mapping[str, object]]) -> dict[str, torch.Tensor]:
        """The batch with `learnt`: see `learnt_positions`."""
        batch = self.collator(samples)
        return {**batch, LEARNT: learnt_positions(batch["labels"])}


def learnt_positions(labels: torch.Tensor) -> torch.Tensor:
    """Indices, counted through all samples, of the positions that predict a label: those before a learnt one."""
    predicts = torch.nn.functional.pad(labels[:, 1:] != IGNORED, (0, 1))
    return predicts.flatten().nonzero().squeeze(1)


def fuse_loss(model: torch.nn.Module) -> bool:
    """Give a causal language model a forward that, in training, returns the loss without logits.

    Returns:
        Whether it could be: only for models whose own forward is, instruction by instruction, Llama's (Mistral's, Qwen's,
        … is): others scale or cap their logits, or add to the loss.
    """
    causal = base_of(model)
    head = getattr(causal, "lm_head", None)
    known = is_same(type(causal).forward, transformers.LlamaForCausalLM.forward)
    known = known and causal.loss_function is ForCausalLMLoss
    if head is None or not known or type(head) is not torch.nn.Linear or head.bias is not None:
        return False
    causal.forward = types.MethodType(_with_fused_loss(type(causal).forward), causal)
    return True


def _with_fused_loss(original: Callable[..., CausalLMOutputWithPast]) -> Callable[..., CausalLMOutputWithPast]:
    @functools.wraps(original)  # Trainer reads the signature
    def forward(
        self: transformers.PreTrainedModel,
        *args: object,
        labels: torch.Tensor | None = None,
        learnt: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: object,
    ) -> CausalLMOutputWithPast:
        special = kwargs.get("shift_labels") is not None or kwargs.get("logits_to_keep") is not None
        if labels is None or not self.training or special:
            return original(self, *args, labels=labels, num_items_in_batch=num_items_in_batch, **kwargs)
        kwargs.pop("return_dict", None)
        hidden = self.model(*args, **kwargs).last_hidden_state
        where = learnt_positions(labels) if learnt is None else learnt
        loss = fused_loss(hidden.flatten(0, 1).index_select(0, where), self.lm_head.weight, labels.flatten()[where + 1])
        return CausalLMOutputWithPast(loss=loss / (len(where) if num_items_in_batch is None else num_items_in_batch))

    return forward


def fused_loss(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The summed cross-entropy of `hidden @ weightᵀ`, in at least fp32.

    Args:
        hidden: (positions, size).
        weight: (vocabulary, size).
        targets: (positions).
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    with torch.autocast(device, enabled=False):
        return cast("torch.Tensor", LossFunction.apply(hidden.to(dtype), weight.to(dtype), targets))


class LossFunction(torch.autograd.Function):  # type: ignore[misc]
    """Cross-entropy, summed, whose gradient is computed with it."""

    @staticmethod
    def forward(ctx: FunctionCtx, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """As `fused_loss`, with both in one dtype."""
        accurate = torch.promote_types(hidden.dtype, torch.float32)
        loss = torch.zeros((), dtype=accurate, device=hidden.device)
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros_like(weight, dtype=accurate) if ctx.needs_input_grad[1] else None
        step = max(_FEWEST_ROWS, _LOGITS * (_MORE_ON_GPUS if hidden.is_cuda else 1) // len(weight))
        for rows, wanted, d_rows in zip(hidden.split(step), targets.split(step), d_hidden.split(step), strict=True):
            scores = torch.log_softmax(rows @ weight.t(), 1, dtype=accurate)
            likely = scores.gather(1, wanted[:, None])
            loss -= likely.sum()
            # In one pass, rounded once; the wanted ones are rounded when 1 has been subtracted.
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
        """Scale what is there."""
        d_hidden, d_weight = ctx.saved_tensors
        return (
            d_hidden * grad.to(d_hidden.dtype),
            None if d_weight is None else d_weight * grad.to(d_weight.dtype),
            None,
        )
