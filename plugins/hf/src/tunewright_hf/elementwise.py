"""RMSNorm and rotary embeddings in fewer passes over memory, for models that compute them as Llama does.

Both are bound by memory: transformers' RMSNorm reads and writes its input a dozen times for a step, its rotary embedding
more often. Here they are autograd functions with half of that.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable

import torch
from torch.autograd.function import FunctionCtx, once_differentiable
from transformers.models.llama import modeling_llama
from transformers.utils import deprecation

Rotary = Callable[..., tuple[torch.Tensor, torch.Tensor]]
_ROTARY = "apply_rotary_pos_emb"
HALVES = (torch.bfloat16, torch.float16)
"""What a GPU computes in fast."""


def is_same(one: Callable[..., object], other: Callable[..., object]) -> bool:
    """Whether two functions do the same, instruction by instruction; docstrings apart."""
    return _code(one) == _code(other)


def _code(function: Callable[..., object]) -> tuple[object, ...]:
    code = inspect.unwrap(function).__code__
    docstring = code.co_consts[:1]
    return code.co_code, code.co_names, tuple(c for c in code.co_consts if c not in docstring)


# --- RMSNorm ---


class NormFunction(torch.autograd.Function):  # type: ignore[misc]
    """y = w · x / √(mean(x²) + ε), over the last dimension."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """Compute y.

        Args:
            ctx: autograd's.
            x: (…, size).
            weight: (size), of x's dtype.
            eps: ε.
        """
        factor = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, factor)
        return (x * factor).mul_(weight)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: FunctionCtx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of x and, if wanted, of the weight: with f = 1/√(…), dx = f·w·dy - x·f³·mean(x·w·dy)."""
        x, weight, factor = ctx.saved_tensors
        d_weight = (grad * x).mul_(factor).flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        d_x = grad * weight
        mean = torch.linalg.vecdot(d_x, x).unsqueeze(-1).div_(x.shape[-1])
        return d_x.mul_(factor).addcmul_(x, mean * factor**3, value=-1), d_weight, None


def fuse_norms(model: torch.nn.Module) -> int:
    """Give every RMSNorm that is Llama's a faster forward; returns how many there were."""
    fused = 0
    for module in model.modules():
        own = type(module).forward
        if "forward" not in vars(module) and is_same(own, modeling_llama.LlamaRMSNorm.forward):
            module.forward = types.MethodType(_norm(own), module)
            fused += 1
    return fused


def _norm(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    as_it_is = torch.autocast("cuda", enabled=False)  # which would have it in fp32

    @functools.wraps(original)
    def forward(self: modeling_llama.LlamaRMSNorm, hidden_states: torch.Tensor) -> torch.Tensor:
        # The original computes in fp32, whatever it is given.
        dtype = hidden_states.dtype
        if not self.training or dtype != self.weight.dtype:
            return original(self, hidden_states)
        if dtype == torch.float32:
            return NormFunction.apply(hidden_states, self.weight, self.variance_epsilon)
        if hidden_states.is_cuda and dtype in HALVES:  # a kernel that does so, too
            with as_it_is:
                return torch.nn.functional.rms_norm(
                    hidden_states, self.weight.shape, self.weight, self.variance_epsilon
                )
        return original(self, hidden_states)

    return forward


# --- Rotary embeddings ---


class RotaryFunction(torch.autograd.Function):  # type: ignore[misc]
    """y = x·cos + (-x₂, x₁)·sin, where x₁ and x₂ are the halves of x's last dimension."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Compute y; cos and sin are constants, of shapes that go with x's."""
        ctx.save_for_backward(cos, sin)
        first, second = sin.chunk(2, -1)
        return _rotated(x, cos, first, second, sign=1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: FunctionCtx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradient of x: turned back."""
        cos, sin = ctx.saved_tensors
        first, second = sin.chunk(2, -1)
        return _rotated(grad, cos, second, first, sign=-1), None, None


def _rotated(
    x: torch.Tensor, cos: torch.Tensor, first: torch.Tensor, second: torch.Tensor, *, sign: int
) -> torch.Tensor:
    """(x₁·cos₁ - sign·x₂·first, x₂·cos₂ + sign·x₁·second)."""
    half = x.shape[-1] // 2
    y = x * cos
    y[..., :half].addcmul_(x[..., half:], first, value=-sign)
    y[..., half:].addcmul_(x[..., :half], second, value=sign)
    return y


def fuse_rotary(model: torch.nn.Module) -> int:
    """Give every attention layer that rotates as Llama does a faster rotation; returns how many there were.

    A layer finds the function among its module's globals. It gets a forward of its own with other globals, so that
    transformers itself stays as it is.
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
    """The function without what renames arguments of old callers; None where something else is around it."""
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
