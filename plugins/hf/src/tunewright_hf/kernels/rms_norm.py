"""RMSNorm as an autograd function, for models that compute it as Llama does.

It is bound by memory: in transformers one step reads and writes its input a dozen times, here half as often.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

import torch
from torch.autograd.function import FunctionCtx, once_differentiable

from tunewright_hf.kernels import patches
from tunewright_hf.kernels.patches import Context, Patch, Undo
from tunewright_hf.kernels.recognise import HALVES


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


def fuse_norms(model: torch.nn.Module, context: Context = nullcontext) -> int:
    """Replace the forward of every RMSNorm that is computed as in Llama, and return their number."""
    norms = [m for m in model.modules() if type(m).__name__.endswith("RMSNorm") and not patches.has_own_forward(m)]
    return len(patches.replace(NORMS, norms, context))


def _code(norm: torch.nn.Module) -> Mapping[str, object]:
    return {"forward of LlamaRMSNorm": type(norm).forward}


def _apply(norm: torch.nn.Module) -> Undo:
    return patches.set_forward(norm, _norm(type(norm).forward))


def _trial(norm: torch.nn.Module) -> Sequence[torch.Tensor | None]:
    x = patches.trial_rows(2, 3, norm.weight.shape[-1], like=norm.weight)
    with patches.as_in_training(norm):
        y = norm(x)
    inputs = [x, norm.weight] if norm.weight.requires_grad else [x]
    return [y, *patches.trial_gradients([y], inputs)]


def _alike(norm: torch.nn.Module) -> tuple[object, ...]:
    weight = norm.weight
    return weight.shape, weight.dtype, weight.device, weight.requires_grad, norm.variance_epsilon


NORMS = Patch(
    name="norms",
    tested={"forward of LlamaRMSNorm": frozenset({"45005fab68325f87"})},
    versions="transformers 5.24",
    code=_code,
    apply=_apply,
    trial=_trial,
    alike=_alike,
)
"""What is replaced here."""


def _norm(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    no_autocast = torch.autocast("cuda", enabled=False)  # autocast would compute it in fp32

    @functools.wraps(original)
    def forward(self: torch.nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
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
