"""Rotary position embeddings as an autograd function, for models that compute them as Llama does."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable

import torch
from torch.autograd.function import FunctionCtx, once_differentiable
from transformers.models.llama import modeling_llama
from transformers.utils import deprecation

from tunewright_hf.kernels.recognise import is_same

Rotary = Callable[..., tuple[torch.Tensor, torch.Tensor]]
_ROTARY = "apply_rotary_pos_emb"


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


def fuse_rotary(model: torch.nn.Module) -> int:
    """Replace the rotation of every attention layer that rotates as Llama does, and return their number.

    A layer's forward looks the function up in its module's globals. Each layer gets a copy of its forward whose globals
    contain the faster function, so that transformers itself is not patched.
    """
    fused = 0
    for module in model.modules():
        own = _undeprecated(type(module).forward)
        if "forward" not in vars(module) and own is not None and _rotates(own):
            changed = types.FunctionType(
                own.__code__,
                {**own.__globals__, _ROTARY: _rotary(own.__globals__[_ROTARY], module)},
                own.__name__,
                own.__defaults__,
                own.__closure__,
            )
            changed.__kwdefaults__ = own.__kwdefaults__
            module.forward = types.MethodType(functools.update_wrapper(changed, own), module)
            fused += 1
    return fused


def _undeprecated(function: object) -> types.FunctionType | None:
    """Return the function inside the deprecation decorators of transformers; None if another decorator wraps it."""
    while isinstance(function, types.FunctionType):
        inner = getattr(function, "__wrapped__", None)
        if inner is None:
            return function
        function = inner if function.__code__.co_filename == deprecation.__file__ else None
    return None


def _rotates(forward: types.FunctionType) -> bool:
    known = forward.__globals__
    return (
        _ROTARY in forward.__code__.co_names
        and _ROTARY in known
        and is_same(known[_ROTARY], modeling_llama.apply_rotary_pos_emb)
        and is_same(known["rotate_half"], modeling_llama.rotate_half)
    )


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
