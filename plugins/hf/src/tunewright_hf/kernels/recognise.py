"""RMSNorm and rotary embeddings in fewer passes over memory, for models that compute them as Llama does.

Both are bound by memory: transformers' RMSNorm reads and writes its input a dozen times for a step, its rotary embedding
more often. Here they are autograd functions with half of that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import peft
import torch

HALVES = (torch.bfloat16, torch.float16)
"""What a GPU computes in fast."""


def is_same(one: Callable[..., object], other: Callable[..., object]) -> bool:
    """Whether two functions do the same, instruction by instruction; docstrings apart."""
    return _code(one) == _code(other)


def _code(function: Callable[..., object]) -> tuple[object, ...]:
    code = inspect.unwrap(function).__code__
    docstring = code.co_consts[:1]
    return code.co_code, code.co_names, tuple(c for c in code.co_consts if c not in docstring)


def base_of(model: torch.nn.Module) -> torch.nn.Module:
    """The model itself, without its adapter."""
    return model.get_base_model() if isinstance(model, peft.PeftModel) else model
