"""Rotary position embeddings as an autograd function, for models that compute them as Llama does."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch.autograd.function import FunctionCtx, once_differentiable

from tunewright_hf.kernels import patches
from tunewright_hf.kernels.patches import Context, Patch, Undo

Rotary = Callable[..., tuple[torch.Tensor, torch.Tensor]]
_ROTARY, _HALF = "apply_rotary_pos_emb", "rotate_half"
_HEAD_SIZE = 8  # of a trial, if the layer does not say its own


class RotaryFunction(torch.autograd.Function):  # type: ignore[misc]
    """y = x·cos + (-x₂, x₁)·sin, where x₁ and x₂ are the halves of x's last dimension."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Compute y; cos and sin are constants whose shapes broadcast to x's."""
        ctx.save_for_backward(cos, sin)
        first, second = sin.chunk(2, -1)
        return _rotated(x, cos, first, second, sign=1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: FunctionCtx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradient of x: the inverse rotation."""
        cos, sin = ctx.saved_tensors
        first, second = sin.chunk(2, -1)
        return _rotated(grad, cos, second, first, sign=-1), None, None


def _rotated(
    x: torch.Tensor, cos: torch.Tensor, first: torch.Tensor, second: torch.Tensor, *, sign: int
) -> torch.Tensor:
    """Return (x₁·cos₁ - sign·x₂·first, x₂·cos₂ + sign·x₁·second)."""
    half = x.shape[-1] // 2
    y = x * cos
    y[..., :half].addcmul_(x[..., half:], first, value=-sign)
    y[..., half:].addcmul_(x[..., :half], second, value=sign)
    return y


def fuse_rotary(model: torch.nn.Module, context: Context = nullcontext) -> int:
    """Replace the rotation of every attention layer that rotates as Llama does, and return their number.

    A layer's forward looks the function up in its module's globals. Each layer gets a copy of its forward whose globals
    contain the faster function, so that transformers itself is not patched.
    """
    layers = [m for m in model.modules() if not patches.has_own_forward(m) and _rotates(m)]
    return len(patches.replace(ROTATIONS, layers, context))


def _rotates(layer: torch.nn.Module) -> bool:
    forward = patches.undecorated(type(layer).forward)
    return forward is not None and _ROTARY in forward.__code__.co_names and _ROTARY in forward.__globals__


def _code(layer: torch.nn.Module) -> Mapping[str, object]:
    known = patches.undecorated(type(layer).forward).__globals__  # type: ignore[union-attr] # `_rotates` has looked
    return {name: known.get(name) for name in (_ROTARY, _HALF)}


def _apply(layer: torch.nn.Module) -> Undo:
    own = patches.undecorated(type(layer).forward)
    assert own is not None  # noqa: S101 - for the type checker: `_rotates` has looked
    changed = patches.with_globals(own, **{_ROTARY: _rotary(own.__globals__[_ROTARY], layer)})
    return patches.set_forward(layer, changed)


def _trial(layer: torch.nn.Module) -> Sequence[torch.Tensor | None]:
    own = patches.has_own_forward(layer)
    forward: Any = vars(layer)["forward"].__func__ if own else patches.undecorated(type(layer).forward)
    rotate = cast("Rotary", forward.__globals__[_ROTARY])
    weight, size = _weight(layer), getattr(layer, "head_dim", _HEAD_SIZE)
    q, k = (patches.trial_rows(1, heads, 3, size, like=weight, seed=heads) for heads in (4, 2))
    cos, sin = (patches.trial_rows(1, 3, size, like=weight, seed=seed).detach() for seed in (5, 6))
    with patches.as_in_training(layer):
        rotated = rotate(q, k, cos, sin)
    return [*rotated, *patches.trial_gradients(rotated, [q, k])]


def _alike(layer: torch.nn.Module) -> tuple[object, ...]:
    weight = _weight(layer)
    return type(layer), weight.dtype, weight.device, getattr(layer, "head_dim", None)


def _weight(layer: torch.nn.Module) -> torch.Tensor:
    """Return a weight that is not quantized."""
    return next(p for p in layer.parameters() if p.is_floating_point())


ROTATIONS = Patch(
    name="rotations",
    tested={_ROTARY: frozenset({"7890dadf358a0525"}), _HALF: frozenset({"40a78839a80b582c"})},
    versions="transformers 5.24",
    code=_code,
    apply=_apply,
    trial=_trial,
    alike=_alike,
)
"""What is replaced here."""


def _rotary(original: Rotary, layer: torch.nn.Module) -> Rotary:
    @functools.wraps(original)
    def rotate(
        q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, unsqueeze_dim: int = 1
    ) -> tuple[torch.Tensor, torch.Tensor]:
        fits = q.dtype == k.dtype == cos.dtype == sin.dtype and q.shape[-1] == cos.shape[-1]
        if not (fits and layer.training):
            return original(q, k, cos, sin, unsqueeze_dim=unsqueeze_dim)
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        return RotaryFunction.apply(q, cos, sin), RotaryFunction.apply(k, cos, sin)

    return rotate
