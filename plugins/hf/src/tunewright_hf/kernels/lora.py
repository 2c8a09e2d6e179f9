"""Fused LoRA: layers with the same input are computed together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import cast

import torch
from peft.tuners import lora
from torch.autograd.function import FunctionCtx, once_differentiable

from tunewright_hf.kernels import patches
from tunewright_hf.kernels.patches import Context, Patch, Undo

_SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class FusedLinear(lora.Linear):  # type: ignore[misc]
    """A `peft.tuners.lora.Linear` that is computed together with the layers that have the same input."""

    group: Group

    def forward(self, x: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        """Compute the output as PEFT does; outside of a plain training step by PEFT itself."""
        found = None if args or kwargs or not self.training else self.group.output(self, x)
        return super().forward(x, *args, **kwargs) if found is None else found

    @property
    def adapter(self) -> tuple[torch.Tensor, torch.Tensor, float]:
        """The adapter's A, B and scale."""
        (a,), (b,), (scale,) = self.lora_A.values(), self.lora_B.values(), self.scaling.values()
        return a.weight, b.weight, float(scale)

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype that the layer computes in; None unless it is the frozen weight plus its one adapter."""
        if self.disable_adapters or self.merged or self.active_adapters != list(self.lora_A):
            return None
        return cast("torch.dtype", self.base_layer.weight.dtype)


class Group:
    """Layers with the same input: the first one called computes all outputs, and the others take theirs.

    Args:
        members: the layers, in any order. A member that is called with another input computes on its own.
    """

    def __init__(self, members: Sequence[FusedLinear]) -> None:
        self._members = list(members)
        self._input: tuple[torch.Tensor, int] | None = None
        self._waiting: dict[FusedLinear, torch.Tensor] = {}

    def output(self, member: FusedLinear, x: torch.Tensor) -> torch.Tensor | None:
        """Return the member's output, or None if PEFT must compute it."""
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
            self._input = None  # free the activation
        return found


def _lora(members: Sequence[FusedLinear], x: torch.Tensor) -> Sequence[torch.Tensor] | None:
    """Return each member's output; None if one does not compute in the dtype of x, or of autocast."""
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
            adapters: every A of (r, in), then every B of (out, r); r and out may differ. They are cast to x's dtype.
        """
        half = len(adapters) // 2
        # Cast here, because casting outside would add two autograd functions for each adapter.
        a, b = torch.cat(adapters[:half]).to(x.dtype), [up.to(x.dtype) for up in adapters[half:]]
        ranks = [up.shape[1] for up in b]
        rows = x.reshape(-1, x.shape[-1])
        inner = rows @ a.t()  # (rows, sum of r)
        outputs = []
        for (weight, bias), up, scale, part in zip(frozen, b, scales, inner.split_with_sizes(ranks, 1), strict=True):
            # Memory of its own, in the output's shape: autograd refuses to change a view of several in place, as models do
            # that add to their projections.
            y = x.new_empty(*x.shape[:-1], len(weight))
            flat = y.view(-1, len(weight))
            if bias is None:
                torch.mm(rows, weight.t(), out=flat)
            else:
                torch.addmm(bias, rows, weight.t(), out=flat)
            flat.addmm_(part, up.t(), alpha=scale)
            outputs.append(y)
        ctx.save_for_backward(rows, inner, a, *b, *(weight for weight, _ in frozen))
        ctx.scales, ctx.ranks, ctx.shape = scales, ranks, x.shape
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: FunctionCtx, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x, if needed, and of the adapters. The adapter of an unused output has none."""
        rows, inner, a, *rest = ctx.saved_tensors
        b, weights = rest[: len(grads)], rest[len(grads) :]
        flat = [None if g is None else g.reshape(-1, g.shape[-1]) for g in grads]
        d_inner = torch.zeros_like(inner) if any(g is None for g in flat) else torch.empty_like(inner)
        d_b: list[torch.Tensor | None] = []
        parts, d_parts = (x.split_with_sizes(ctx.ranks, 1) for x in (inner, d_inner))
        for g, up, scale, part, d_part in zip(flat, b, ctx.scales, parts, d_parts, strict=True):
            if g is not None:
                torch.mm(g, up * scale, out=d_part)
            # (r, rows) @ (rows, out) takes half the time of its transpose.
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


def fuse_lora(model: torch.nn.Module, context: Context = nullcontext) -> int:
    """Turn every plain LoRA layer on a frozen `nn.Linear` into a FusedLinear, and return their number."""
    groups: list[tuple[torch.nn.Module, ...]] = []
    left: Counter[str] = Counter()
    for parent in list(model.modules()):
        plain: dict[str, torch.nn.Module] = {}
        for name, child in parent.named_children():
            if isinstance(child, lora.LoraLayer):
                reason = _not_plain(child)
                left[reason] += bool(reason)
                plain |= {} if reason else {name: child}
        together = [tuple(plain.pop(n) for n in names) for names in _SAME_INPUT if set(names) <= plain.keys()]
        groups += [*together, *((child,) for child in plain.values())]
    for reason, count in left.items():
        if count:
            patches.say_left(f"{count} LoRA layers", reason)
    return sum(map(len, patches.replace(LAYERS, groups, context)))


def _not_plain(layer: lora.LoraLayer) -> str:
    """Return why a layer is not LoRA as in the paper, one adapter on the frozen weights of a `nn.Linear`; "" if it is."""
    if type(layer) is not lora.Linear or type(layer.base_layer) is not torch.nn.Linear:
        return f"they are {type(layer).__name__} on {type(layer.base_layer).__name__}"
    if any(p.requires_grad for p in layer.base_layer.parameters()):
        return "the weights below them are trained, too"
    if len(layer.lora_A) != 1:
        return "they have several adapters"
    if layer.lora_variant or any(layer.lora_bias.values()):
        return "they are a variant of LoRA, or have lora_bias"
    return "" if all(type(d) is torch.nn.Identity for d in layer.lora_dropout.values()) else "they have lora_dropout"


def _code(_: Sequence[lora.Linear]) -> Mapping[str, object]:
    return {"forward of peft.tuners.lora.Linear": lora.Linear.forward}  # `_not_plain` refuses other classes


def _apply(members: Sequence[lora.Linear]) -> Undo:
    return patches.set_class(members, FusedLinear, group=Group(members))


def _trial(members: Sequence[lora.Linear]) -> Sequence[torch.Tensor | None]:
    weight = members[0].base_layer.weight
    x = patches.trial_rows(1, 3, weight.shape[1], like=weight)
    adapters = [layer.weight for m in members for pair in (m.lora_A, m.lora_B) for layer in pair.values()]
    trained = [a for a in adapters if a.requires_grad]
    with _adapting(members, x.detach()), patches.as_in_training(*members):
        outputs = [m(x) for m in members]
        d_x, *gradients = patches.trial_gradients(outputs, [x, *trained])
    return [*outputs, d_x, *(None if g is None else g.flatten() for g in gradients)]


@contextmanager
def _adapting(members: Sequence[lora.Linear], x: torch.Tensor) -> Iterator[None]:
    """Let adapters, whose B begins as zeros, add as much to the outputs as the frozen weights; afterwards B is as before."""
    generator = torch.Generator().manual_seed(2)
    before = []
    try:
        with torch.no_grad():
            for member in members:
                (a,), (b,) = member.lora_A.values(), member.lora_B.values()
                before.append((b.weight, b.weight.clone()))
                (scale,) = member.scaling.values()
                inner, frozen = (a(x.to(a.weight.dtype)) * scale).float(), member.base_layer(x).float()
                size = frozen.norm() / inner.norm().clamp_min(1e-12) / b.weight.shape[0] ** 0.5
                drawn = torch.randn(*b.weight.shape, generator=generator).to(b.weight.device)
                b.weight.copy_(drawn * (size if size > 0 else 1.0))
        yield
    finally:
        with torch.no_grad():
            for weight, old in before:
                weight.copy_(old)


def _alike(members: Sequence[lora.Linear]) -> tuple[object, ...]:
    return tuple(
        (
            *(
                (w.shape, w.dtype, w.requires_grad)
                for pair in (m.lora_A, m.lora_B)
                for w in (layer.weight for layer in pair.values())
            ),
            (m.base_layer.weight.shape, m.base_layer.weight.dtype, m.base_layer.weight.device),
            m.base_layer.bias is None,
            tuple(m.scaling.values()),
        )
        for m in members
    )


LAYERS = Patch(
    name="groups of LoRA layers",
    tested={"forward of peft.tuners.lora.Linear": frozenset({"e72a29c82865463a"})},
    versions="peft 0.18 to 0.21",
    code=_code,
    apply=_apply,
    trial=_trial,
    alike=_alike,
)
"""What is replaced here."""
