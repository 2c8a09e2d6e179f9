"""Recognise models and layers: what is computed instruction by instruction as in Llama can be replaced."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import peft
import torch

HALVES = (torch.bfloat16, torch.float16)
"""The dtypes of half precision."""


def is_same(one: Callable[..., object], other: Callable[..., object]) -> bool:
    """Return whether two functions have the same instructions, regardless of docstrings."""
    return _code(one) == _code(other)


def _code(function: Callable[..., object]) -> tuple[object, ...]:
    code = inspect.unwrap(function).__code__
    docstring = code.co_consts[:1]
    return code.co_code, code.co_names, tuple(c for c in code.co_consts if c not in docstring)


def base_of(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model without its adapter."""
    return model.get_base_model() if isinstance(model, peft.PeftModel) else model
