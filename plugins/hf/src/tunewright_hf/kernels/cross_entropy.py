"""Fused cross entropy: skips unsupervised positions and never keeps the logits; computes the gradient in the forward pass."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Protocol, cast

import attrs
import torch
import transformers
from torch.autograd.function import FunctionCtx, once_differentiable
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import ModelOutput

from tunewright_hf.data.tokenize import IGNORED
from tunewright_hf.kernels import patches
from tunewright_hf.kernels.patches import Context, Patch, Undo
from tunewright_hf.kernels.recognise import base_of

SUPERVISED = "supervised"
"""The key of a batch's supervised positions, and the keyword of the model's forward."""

# Logits in memory at once: 128 MiB in fp32, or enough positions for efficient matrix products. A GPU needs more of them.
_LOGITS, _FEWEST_ROWS, _MORE_ON_GPUS = 2**25, 256, 4

_TRIED, _MOST_COMPARED = 8, 1024  # tokens of a trial's samples; rows of the gradient of `lm_head`


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


@dataclasses.dataclass
class TokenLosses(ModelOutput):  # type: ignore[misc]
    """What a model with a fused loss returns in an evaluation, in place of logits.

    Attributes:
        loss: their mean over the supervised tokens.
        losses: float32 of (samples, length - 1), the loss of each label but the first ones; 0 where it is ignored.
    """

    loss: torch.Tensor | None = None
    losses: torch.Tensor | None = None


def fuse_loss(model: torch.nn.Module, record: Record | None = None, context: Context = nullcontext) -> bool:
    """Let a causal language model return the loss without logits, in training and in evaluations.

    An evaluation is a forward pass outside of training that is given the supervised positions.

    Args:
        model: the model, which may have an adapter.
        record: receives the loss of each supervised position, in training.
        context: see `tunewright_hf.kernels.patches.replace`.

    Returns:
        Whether it does. Its own forward must be that of Llama, as for Mistral or Qwen: others scale or cap their logits, or
        add to the loss.
    """
    causal = base_of(model)
    head: torch.nn.Module = getattr(causal, "lm_head", None)
    reason = ""
    if type(head) is not torch.nn.Linear or head.bias is not None:
        reason = "the model has no lm_head that is a nn.Linear without bias"
    elif patches.has_own_forward(causal):
        reason = "the model was given another forward"
    if reason:
        patches.say_left("loss", reason)
        return False
    patch = attrs.evolve(LOSS, apply=functools.partial(_apply, record=record))
    return bool(patches.replace(patch, [causal], context))


def loss_code(causal: torch.nn.Module) -> dict[str, object]:
    """Return the functions of a model's loss, by their names in `LOSS_TESTED`."""
    loss = causal.loss_function
    return {"ForCausalLMLoss": loss, "fixed_cross_entropy": getattr(loss, "__globals__", {}).get("fixed_cross_entropy")}


def _code(causal: torch.nn.Module) -> Mapping[str, object]:
    return {"forward of LlamaForCausalLM": type(causal).forward, **loss_code(causal)}


def _apply(causal: torch.nn.Module, record: Record | None = None) -> Undo:
    return patches.set_forward(causal, _with_fused_loss(type(causal).forward, record))


def _trial(causal: torch.nn.Module) -> Sequence[torch.Tensor | None]:
    """Compute a step's loss with its gradients at `lm_head`, and the losses of an evaluation; the layers below compute once more."""
    vocabulary, head = causal.config.get_text_config().vocab_size, causal.lm_head.weight
    ids = (torch.arange(2 * _TRIED, device=head.device) % vocabulary).view(2, _TRIED)
    labels = ids.clone()
    labels[0, : _TRIED // 2] = IGNORED
    hidden: list[torch.Tensor] = []

    def hold(_: torch.nn.Module, __: object, output: ModelOutput) -> ModelOutput:
        hidden.append(output.last_hidden_state.detach().requires_grad_())
        output.last_hidden_state = hidden[-1]
        return output

    handle = causal.model.register_forward_hook(hold)
    try:
        with patches.as_in_training(causal):
            loss = causal(input_ids=ids, labels=labels, num_items_in_batch=torch.tensor(_TRIED, device=ids.device)).loss
            found = torch.autograd.grad(loss, [hidden[-1], *([head] if head.requires_grad else [])])
        with patches.as_in_training(causal, training=False), torch.no_grad():
            losses = _evaluated(causal, ids, labels)
    finally:
        handle.remove()
    return [loss, *(gradient[:_MOST_COMPARED] for gradient in found), *losses]


def _evaluated(causal: torch.nn.Module, ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if patches.has_own_forward(causal):
        found = causal(input_ids=ids, labels=labels, **{SUPERVISED: supervised_positions(labels)})
        return found.loss, found.losses
    found = causal(input_ids=ids, labels=labels)
    logits = found.logits[:, :-1].float().transpose(1, 2)
    each = torch.nn.functional.cross_entropy(logits, labels[:, 1:], ignore_index=IGNORED, reduction="none")
    return found.loss, each


LOSS_TESTED = {
    "ForCausalLMLoss": frozenset({"882c6f0afc0bb5d6"}),
    "fixed_cross_entropy": frozenset({"1d5f61da007213ce"}),
}
"""Digests of a causal language model's loss; see `tunewright_hf.kernels.patches.Patch`."""

LOSS = Patch(
    name="loss",
    tested={"forward of LlamaForCausalLM": frozenset({"f90c5b8119401393"}), **LOSS_TESTED},
    versions="transformers 5.24",
    code=_code,
    apply=_apply,
    trial=_trial,
    alike=id,
)
"""What is replaced here."""


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
    ) -> CausalLMOutputWithPast | TokenLosses:
        special = kwargs.get("shift_labels") is not None or kwargs.get("logits_to_keep") is not None
        asked = self.training or supervised is not None
        if labels is None or not asked or special:
            return original(self, *args, labels=labels, num_items_in_batch=num_items_in_batch, **kwargs)
        kwargs.pop("return_dict", None)
        hidden = self.model(*args, **kwargs).last_hidden_state
        where = supervised_positions(labels) if supervised is None else supervised
        rows, targets = hidden.flatten(0, 1).index_select(0, where), labels.flatten()[where + 1]
        count = len(where) if num_items_in_batch is None else num_items_in_batch
        if not self.training:
            each = token_losses(rows, self.lm_head.weight, targets)
            losses = each.new_zeros(labels.numel()).index_copy(0, where + 1, each).view(labels.shape)[:, 1:]
            return TokenLosses(loss=each.sum() / count, losses=losses)
        each = None if record is None else torch.empty(len(where), device=rows.device)
        loss = fused_loss(rows, self.lm_head.weight, targets, each)
        if record is not None and each is not None:
            record(each, where=where + 1)
        return CausalLMOutputWithPast(loss=loss / count)

    return forward


def token_losses(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy of each row of `hidden @ weightᵀ`, in float32 at least, without a gradient; see `fused_loss`."""
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    accurate = torch.promote_types(dtype, torch.float32)
    with torch.no_grad(), torch.autocast(device, enabled=False):
        weight = weight.to(dtype).t()
        pieces = zip(
            *(x.split(_rows_at_once(hidden, weight.shape[1])) for x in (hidden.to(dtype), targets)), strict=True
        )
        found = [
            torch.nn.functional.cross_entropy((rows @ weight).to(accurate), wanted, reduction="none")
            for rows, wanted in pieces
        ]
    return torch.cat(found).float()


def _rows_at_once(hidden: torch.Tensor, vocabulary: int) -> int:
    """Return how many rows of logits are in memory at once."""
    return max(_FEWEST_ROWS, _LOGITS * (_MORE_ON_GPUS if hidden.is_cuda else 1) // vocabulary)


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
        step = _rows_at_once(hidden, len(weight))
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
