"""SwiGLU on a GPU: one pass over memory in each direction, keeping only the two factors for the backward pass.

torch compiles the kernels on their first call with NVRTC, which it brings along: the image needs no compiler.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import cast

import attrs
import torch
import transformers
from torch.autograd.function import FunctionCtx, once_differentiable
from transformers.activations import SiLUActivation

from tunewright_hf.kernels import patches
from tunewright_hf.kernels.patches import Context, Patch, Undo
from tunewright_hf.kernels.recognise import HALVES

logger = logging.getLogger(__name__)

# Computed in fp32 and rounded once, where the two operations of transformers round twice.
_FORWARD = """
template <typename T> T swiglu(T gate, T up) {
    float x = static_cast<float>(gate);
    return static_cast<T>(x / (1.0f + exp(-x)) * static_cast<float>(up));
}
"""

_BACKWARD = """
template <typename T> void swiglu_backward(T grad, T gate, T up, T& d_gate, T& d_up) {
    float x = static_cast<float>(gate), dy = static_cast<float>(grad);
    float sigmoid = 1.0f / (1.0f + exp(-x));
    d_gate = static_cast<T>(dy * static_cast<float>(up) * sigmoid * (1.0f + x * (1.0f - sigmoid)));
    d_up = static_cast<T>(dy * x * sigmoid);
}
"""


@attrs.frozen
class _Kernels:
    forward: Callable[..., torch.Tensor]
    backward: Callable[..., Sequence[torch.Tensor]]


@functools.cache
def _kernels() -> _Kernels | None:
    """Return the compiled kernels; None if torch cannot compile them."""
    try:
        from torch.cuda.jiterator import _create_jit_fn, _create_multi_output_jit_fn

        found = _Kernels(_create_jit_fn(_FORWARD), _create_multi_output_jit_fn(_BACKWARD, num_outputs=2))
        one = torch.ones(1, device="cuda", dtype=torch.bfloat16)
        found.backward(found.forward(one, one), one, one)
    except (ImportError, AttributeError, AssertionError, RuntimeError) as error:  # the interface is beta in torch
        logger.info("fused_layers: no kernels for SwiGLU: %s", error)
        return None
    return found


class GateFunction(torch.autograd.Function):  # type: ignore[misc]
    """y = silu(gate) · up, in half precision on a GPU."""

    @staticmethod
    def forward(ctx: FunctionCtx, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """Compute y; gate and up have the same shape."""
        ctx.save_for_backward(gate, up)
        return cast("_Kernels", _kernels()).forward(gate, up)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: FunctionCtx, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the gradients of gate and up."""
        return tuple(cast("_Kernels", _kernels()).backward(grad, *ctx.saved_tensors))


def fuse_gates(model: transformers.PreTrainedModel, context: Context = nullcontext) -> int:
    """Replace the forward of every feed-forward layer that is computed as in Llama, on a GPU, and return their number."""
    if model.device.type != "cuda" or _kernels() is None:
        return 0
    layers = [m for m in model.modules() if _is_gated(m) and not patches.has_own_forward(m)]
    return len(patches.replace(GATES, layers, context))


def _is_gated(module: torch.nn.Module) -> bool:
    names = ("gate_proj", "up_proj", "down_proj")
    silu = isinstance(getattr(module, "act_fn", None), (torch.nn.SiLU, SiLUActivation))
    return silu and all(isinstance(getattr(module, name, None), torch.nn.Module) for name in names)


def _code(layer: torch.nn.Module) -> Mapping[str, object]:
    return {"forward of LlamaMLP": type(layer).forward}


def _apply(layer: torch.nn.Module) -> Undo:
    return patches.set_forward(layer, _gated(type(layer).forward))


def _trial(layer: torch.nn.Module) -> Sequence[torch.Tensor | None]:
    x = patches.trial_rows(1, 3, layer.gate_proj.in_features, like=_input_of(layer))
    with patches.as_in_training(layer):
        y = layer(x)
    return [y, *patches.trial_gradients([y], [x])]


def _alike(layer: torch.nn.Module) -> tuple[object, ...]:
    weight = layer.gate_proj.weight
    return type(layer.act_fn), type(layer.gate_proj), weight.shape, weight.dtype, weight.device


def _input_of(layer: torch.nn.Module) -> torch.Tensor:
    """Return a tensor of a layer's dtype and device; quantized weights compute in half precision."""
    weight = layer.gate_proj.weight
    return torch.empty(0, dtype=weight.dtype if weight.is_floating_point() else HALVES[0], device=weight.device)


GATES = Patch(
    name="gates",
    tested={"forward of LlamaMLP": frozenset({"b3edfb98c6d7eddb"})},
    versions="transformers 5.24",
    code=_code,
    apply=_apply,
    trial=_trial,
    alike=_alike,
)
"""What is replaced here."""


def _gated(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(original)
    def forward(self: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return original(self, x)
        gate, up = self.gate_proj(x), self.up_proj(x)
        fits = gate.dtype == up.dtype and gate.dtype in HALVES
        return cast("torch.Tensor", self.down_proj(GateFunction.apply(gate, up) if fits else self.act_fn(gate) * up))

    return forward
