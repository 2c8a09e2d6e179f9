"""Layers that compute what PEFT's and transformers' do, with less work. What is not recognised stays as it is.

LoRA: frozen linear layers that read the same input (q, k and v; gate and up) are one autograd function: their A's are one
product, and adapters are added inside the matrix products that are made anyway. The loss: only positions with a label go
through `lm_head`, in pieces, and each piece's gradient is computed at once; the logits are never kept. What is around the
matrix products: see `tunewright_hf.elementwise` and `tunewright_hf.gates`.

Weights stay in PEFT's modules under PEFT's names; saving, merging and evaluating are PEFT's own.
"""

from __future__ import annotations

import functools
import logging
import types
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import attrs
import torch
import transformers
from peft.tuners import lora
from torch.autograd.function import FunctionCtx, once_differentiable
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.modeling_outputs import CausalLMOutputWithPast

from tunewright_hf.allocator import keep_freed_memory
from tunewright_hf.callbacks import is_sharded
from tunewright_hf.elementwise import fuse_norms, fuse_rotary, is_same
from tunewright_hf.gates import fuse_gates
from tunewright_hf.labels import IGNORED
from tunewright_hf.real import base_of

logger = logging.getLogger(__name__)

LEARNT = "learnt"
_SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
# Logits that are there at once: 128 MiB in fp32, or of so many positions that the products stay efficient. A GPU's are with
# more of them, and its memory is read faster.
_LOGITS, _FEWEST_ROWS, _MORE_ON_GPUS = 2**25, 256, 4


def fuse(trainer: transformers.Trainer) -> None:
    """Replace layers of the trainer's model; called before training.

    Sharded and compiled models are left alone: they replace weights and forwards themselves.
    """
    args = trainer.args
    if args.device.type == "cpu":
        keep_freed_memory()
    if is_sharded(trainer) or args.torch_compile or args.n_gpu > 1:
        logger.info("fused_layers: not with FSDP, ZeRO's stage 3, other sharding, torch.compile or DataParallel")
        return
    layers = fuse_lora(trainer.model)
    # fp16 has no room for gradients that are computed before the loss is scaled; Liger has a forward of its own.
    loss = not (args.fp16 or args.use_liger_kernel) and fuse_loss(trainer.model)
    if loss:
        trainer.data_collator = Positions(trainer.data_collator)
    counts = (fuse_norms(trainer.model), fuse_rotary(trainer.model), fuse_gates(trainer.model))
    told = "loss" if loss else "not the loss"
    logger.info("fused_layers: %d LoRA layers, %d norms, %d rotations, %d gates, %s", layers, *counts, told)


# --- LoRA ---


class FusedLinear(lora.Linear):  # type: ignore[misc]
    """A `peft.tuners.lora.Linear` that computes together with those that read the same input."""

    group: Group

    def forward(self, x: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        """As PEFT's; by PEFT's own where it is no plain training step."""
        found = None if args or kwargs or not self.training else self.group.output(self, x)
        return super().forward(x, *args, **kwargs) if found is None else found

    @property
    def adapter(self) -> tuple[torch.Tensor, torch.Tensor, float]:
        """A, B and s."""
        (a,), (b,), (scale,) = self.lora_A.values(), self.lora_B.values(), self.scaling.values()
        return a.weight, b.weight, float(scale)

    @property
    def dtype(self) -> torch.dtype | None:
        """What it is computed in; None if not by the frozen weight and the one adapter alone."""
        if self.disable_adapters or self.merged or self.active_adapters != list(self.lora_A):
            return None
        return cast("torch.dtype", self.base_layer.weight.dtype)


class Group:
    """Layers with the same input: the first that is called computes for all, and the others take what is theirs.

    Args:
        members: in any order. A member that is called with another input computes by itself.
    """

    def __init__(self, members: Sequence[FusedLinear]) -> None:
        self._members = list(members)
        self._input: tuple[torch.Tensor, int] | None = None
        self._waiting: dict[FusedLinear, torch.Tensor] = {}

    def output(self, member: FusedLinear, x: torch.Tensor) -> torch.Tensor | None:
        """The member's output, or None if it must be computed by PEFT."""
        if (
            self._input is None
            or self._input[0] is not x
            or self._input[1] != x._version
            or member not in self._waiting
        ):
            found = _lora(self._members, x)
            if found is None:
                return None
            self._waiting = dict(zip(self._members, found, strict=True))
            self._input = (x, x._version)
        found = self._waiting.pop(member)
        if not self._waiting:
            self._input = None  # an activation that nobody needs any more
        return found


def _lora(members: Sequence[FusedLinear], x: torch.Tensor) -> Sequence[torch.Tensor] | None:
    """Each member's output; None if one does not compute in the dtype of x, or of autocast."""
    device = x.device.type
    autocast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocast else x.dtype
    if any(m.dtype != dtype for m in members):
        return None
    a, b, scales = zip(*(m.adapter for m in members), strict=True)
    if not autocast and any(weight.dtype != dtype for weight in (*a, *b)):
        return None
    frozen = [(m.base_layer.weight, m.base_layer.bias) for m in members]
    return cast("Sequence[torch.Tensor]", LoraFunction.apply(x.to(dtype), frozen, scales, *a, *b))


class LoraFunction(torch.autograd.Function):  # type: ignore[misc]
    """y = x Wᵀ + bias + s (x Aᵀ) Bᵀ for several W, A, B and s and one x; W and bias are frozen."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: torch.Tensor,
        frozen: Sequence[tuple[torch.Tensor, torch.Tensor | None]],
        scales: Sequence[float],
        *adapters: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Compute one y for each W.

        Args:
            ctx: autograd's.
            x: (…, in).
            frozen: W of (out, in) and bias of (out), or None.
            scales: s.
            adapters: every A of (r, in), then every B of (out, r); r and out may differ. They are computed with in x's dtype.
        """
        half = len(adapters) // 2
        # Cast here, and not before: there are many, and autograd would have two more functions for each.
        a, b = torch.cat(adapters[:half]).to(x.dtype), [up.to(x.dtype) for up in adapters[half:]]
        ranks = [up.shape[1] for up in b]
        rows = x.reshape(-1, x.shape[-1])
        inner = rows @ a.t()  # (rows, sum of r)
        outputs = []
        for (weight, bias), up, scale, part in zip(frozen, b, scales, inner.split_with_sizes(ranks, 1), strict=True):
            y = torch.nn.functional.linear(rows, weight, bias).addmm_(part, up.t(), alpha=scale)
            outputs.append(y.view(*x.shape[:-1], -1))
        ctx.save_for_backward(rows, inner, a, *b, *(weight for weight, _ in frozen))
        ctx.scales, ctx.ranks, ctx.shape = scales, ranks, x.shape
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: FunctionCtx, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        """The gradients of x, if wanted, and of the adapters. An output that was not used gives its adapter none."""
        rows, inner, a, *rest = ctx.saved_tensors
        b, weights = rest[: len(grads)], rest[len(grads) :]
        flat = [None if g is None else g.reshape(-1, g.shape[-1]) for g in grads]
        d_inner = torch.zeros_like(inner) if any(g is None for g in flat) else torch.empty_like(inner)
        d_b: list[torch.Tensor | None] = []
        parts, d_parts = (x.split_with_sizes(ctx.ranks, 1) for x in (inner, d_inner))
        for g, up, scale, part, d_part in zip(flat, b, ctx.scales, parts, d_parts, strict=True):
            if g is not None:
                torch.mm(g, up * scale, out=d_part)
            # (r, rows) by (rows, out) takes half the time of its transpose
            d_b.append(None if g is None else (part.t() @ g).t() * scale)
        d_a = (d_inner.t() @ rows).split_with_sizes(ctx.ranks)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = d_inner @ a
            for g, weight in zip(flat, weights, strict=True):
                if g is not None:
                    d_x.addmm_(g, weight)
            d_x = d_x.view(ctx.shape)
        used = [None if g is None else d for g, d in zip(flat, d_a, strict=True)]
        return (d_x, None, None, *used, *d_b)


def fuse_lora(model: torch.nn.Module) -> int:
    """Make every plain LoRA layer on a frozen `nn.Linear` a FusedLinear; returns how many there were."""
    fused = 0
    for parent in list(model.modules()):
        plain = {name: child for name, child in parent.named_children() if _is_plain(child)}
        together = [[plain.pop(n) for n in names] for names in _SAME_INPUT if set(names) <= plain.keys()]
        for members in (*together, *([child] for child in plain.values())):
            group = Group(members)
            for member in members:
                member.__class__ = FusedLinear
                member.group = group
            fused += len(members)
    return fused


def _is_plain(module: torch.nn.Module) -> bool:
    """LoRA as in the paper: one adapter, without dropout, bias, DoRA or another variant, on weights that are not trained."""
    return (
        type(module) is lora.Linear
        and type(module.base_layer) is torch.nn.Linear
        and not any(p.requires_grad for p in module.base_layer.parameters())
        and len(module.lora_A) == 1
        and not module.lora_variant
        and not any(module.lora_bias.values())
        and all(type(d) is torch.nn.Identity for d in module.lora_dropout.values())
    )


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
