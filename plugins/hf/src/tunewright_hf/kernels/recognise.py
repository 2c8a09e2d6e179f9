"""What the fused layers know of models."""

from __future__ import annotations

import peft
import torch

HALVES = (torch.bfloat16, torch.float16)
"""The dtypes of half precision."""


def base_of(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model without its adapter."""
    return model.get_base_model() if isinstance(model, peft.PeftModel) else model
