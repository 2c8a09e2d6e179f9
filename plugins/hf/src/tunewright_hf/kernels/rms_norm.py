"""RMSNorm as an autograd function, for models that compute it as Llama does.

It is bound by memory: in transformers one step reads and writes its input a dozen times, here half as often.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable

import torch
from torch.autograd.function import FunctionCtx, once_differentiable
from transformers.models.llama import modeling_llama

from tunewright_hf.kernels.recognise import HALVES, is_same


class NormFunction(torch.autograd.Function):  # type: ignore[misc]
    """y = w · x / √(mean(x²) + ε), over the last dimension."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """Compute y.

        Args:
            ctx: autograd's.
            x: (…, size).
            weight: (size), in x's dtype.
            eps: ε.
        """
        factor = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, factor)
        return (x * factor).mul_(weight)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: FunctionCtx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x and, if needed, of the weight: with f = 1/√(…), dx = f·w·dy - x·f³·mean(x·w·dy)."""
        x, weight, factor = ctx.saved_tensors
        d_weight = (grad * x).mul_(factor).flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        d_x = grad * weight
        mean = torch.linalg.vecdot(d_x, x).unsqueeze(-1).div_(x.shape[-1])
        return d_x.mul_(factor).addcmul_(x, mean * factor**3, value=-1), d_weight, None


def fuse_norms(model: torch.nn.Module) -> int:
    """Replace the forward of every RMSNorm that is computed as in Llama, and return their number."""
    fused = 0
    for module in model.modules():
        own = type(module).forward
        if "forward" not in vars(module) and is_same(own, modeling_llama.LlamaRMSNorm.forward):
            module.forward = types.MethodType(_norm(own), module)
            fused += 1
    return fused


def _norm(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    no_autocast = torch.autocast("cuda", enabled=False)  # autocast would compute it in fp32

    @functools.wraps(original)
    def forward(self: modeling_llama.LlamaRMSNorm, hidden_states: torch.Tensor) -> torch.Tensor:
        # The original computes in fp32 for every dtype.
        dtype = hidden_states.dtype
        if not self.training or dtype != self.weight.dtype:
            return original(self, hidden_states)
        if dtype == torch.float32:
            return NormFunction.apply(hidden_states, self.weight, self.variance_epsilon)
        if hidden_states.is_cuda and dtype in HALVES:  # torch's kernel also computes in fp32
            with no_autocast:
                return torch.nn.functional.rms_norm(
                    hidden_states, self.weight.shape, self.weight, self.variance_epsilon
                )
        return original(self, hidden_states)

    return forward
