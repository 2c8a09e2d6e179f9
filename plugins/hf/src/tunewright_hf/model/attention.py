"""Choose a model's attention, and find out whether it is one that skips pairs of tokens from different samples."""

from __future__ import annotations

import ast
import inspect
import sys

import peft
import torch
import transformers
from transformers.utils import is_flash_attn_2_available

from tunewright.errors import RequestError, did_you_mean
from tunewright_hf import errors
from tunewright_hf.kernels.attention import SEGMENTS, is_tested, register
from tunewright_hf.model.language import language_part

_UNSUPPORTED = ("s_aux=", "position_bias=")  # arguments of some models' attention that "segments" does not implement
_LAYERS_ATTENTION = ("attention", "attn", "self_attention", "self_attn")


def check_name(name: str) -> None:
    """Refuse a name that is not "auto", an attention of transformers, or a kernel on the Hub.

    Raises:
        RequestError: suggests similar names.
    """
    register()
    names = ["auto", "eager", *transformers.AttentionInterface().valid_keys()]
    if name not in names and "/" not in name:
        remedy = did_you_mean(name, names)
        raise RequestError("is not known to transformers", field="attn_implementation", value=name, remedy=remedy)


def choose_attention(model: transformers.PreTrainedModel, wanted: str, *, half: bool) -> None:
    """Set a model's attention.

    Args:
        model: the model.
        wanted: a name that transformers knows, "segments", or "auto": flash-attn if it is installed, else "segments" if
            the model supports it, else the choice of transformers.
        half: whether the model computes in bf16 or fp16.

    Raises:
        RequestError: the model does not support the attention.
    """
    register()
    part = language_part(model)
    name = _automatic(part, half=half) if wanted == "auto" else wanted
    with errors.as_request_error("attn_implementation", "Give another name, or leave it out."):
        if name == SEGMENTS and not supports_segments(part):
            raise ValueError(f"{type(model).__name__} needs an attention with features that segments lacks")
        if name is not None:
            part.set_attn_implementation(name)


def may_be_flash(model: transformers.PreTrainedModel) -> bool:
    """Return whether "auto" is flash-attn for a model on a GPU in half precision."""
    return bool(language_part(model)._supports_flash_attn and is_flash_attn_2_available())


def _automatic(model: transformers.PreTrainedModel, *, half: bool) -> str | None:
    if torch.cuda.is_available() and half and may_be_flash(model):
        return "flash_attention_2"
    return SEGMENTS if supports_segments(model) and is_tested() else None


def supports_segments(model: transformers.PreTrainedModel) -> bool:
    """Return whether `tunewright_hf.kernels.attention` can compute a model's attention.

    The answer comes from the source of the model's module. A model that supports flash-attn passes everything to its
    attention by arguments, since flash-attn takes no masks; so an argument that "segments" does not implement, or a window
    that is not passed on, shows in the text.
    """
    if not (model._supports_flash_attn and model._can_set_attn_implementation()):
        return False
    code = inspect.getsource(sys.modules[type(model).__module__])
    windowed = "sliding_attention" in (getattr(model.config, "layer_types", None) or [])
    needs_more = any(word in code for word in _UNSUPPORTED) or (windowed and "sliding_window=" not in code)
    return not needs_more and _forwards_keywords(code)


def _forwards_keywords(code: str) -> bool:
    """Return whether layers pass all keywords of the model on to their attention, and so the boundaries of samples."""
    calls = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Call)]
    asking = [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr in _LAYERS_ATTENTION]
    return all(any(keyword.arg is None for keyword in call.keywords) for call in asking)


def attends_per_sample(model: transformers.PreTrainedModel | peft.PeftModel) -> bool:
    """Return whether a model's attention skips pairs of tokens from different samples, so that packing saves time."""
    name = language_part(model).config._attn_implementation
    return name == SEGMENTS or "flash" in name
