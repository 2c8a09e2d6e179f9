"""Choose a model's attention, and find out whether it supports padding-free batches."""

from __future__ import annotations

import ast
import inspect
import logging
import sys
from typing import cast

import peft
import torch
import transformers
from transformers.utils import is_flash_attn_2_available

from tunewright.errors import RequestError, did_you_mean
from tunewright_hf import errors
from tunewright_hf.data.samples.collators import Collator
from tunewright_hf.data.tokenize import IGNORED
from tunewright_hf.kernels import recognise
from tunewright_hf.kernels.attention import SEGMENTS, register
from tunewright_hf.model import config

logger = logging.getLogger(__name__)

_UNSUPPORTED = ("s_aux=", "position_bias=")  # arguments of some models' attention that "segments" does not implement
_LAYERS_ATTENTION = ("attention", "attn", "self_attention", "self_attn")
_ATTENTION = ("full_attention", "sliding_attention", "chunked_attention")

# Largest change relative to the logits' mean magnitude: expert layers round differently in another batch. What leaks through a
# convolution may be small in an untrained model, so more is allowed only if the model's code shows that nothing leaks.
_MOST_CHANGED, _MOST_CHANGED_IN_HALF = 1e-5, 1e-2


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
    name = _automatic(model, half=half) if wanted == "auto" else wanted
    with errors.as_request_error("attn_implementation", "Give another name, or leave it out."):
        if name == SEGMENTS and not supports_segments(model):
            raise ValueError(f"{type(model).__name__} needs an attention with features that segments lacks")
        if name is not None:
            model.set_attn_implementation(name)
    logger.info("attention: %s", model.config._attn_implementation)


def _automatic(model: transformers.PreTrainedModel, *, half: bool) -> str | None:
    if torch.cuda.is_available() and half and model._supports_flash_attn and is_flash_attn_2_available():
        return "flash_attention_2"
    return SEGMENTS if supports_segments(model) else None


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
    name = model.config._attn_implementation
    return name == SEGMENTS or "flash" in name


def isolates_samples(
    model: transformers.PreTrainedModel | peft.PeftModel, collate: Collator, *, sharded: bool = False
) -> bool:
    """Return whether a sample in a packed row does not change the logits of the sample after it.

    Attention is not the only possible leak: there are recurrent layers, convolutions, and remote code. So the model is
    tried out.

    Args:
        model: the model, on the device that it computes on.
        collate: a padding-free collator.
        sharded: no rank has the whole model to try out, so its class must decide.
    """
    if sharded:
        return _is_known_to_isolate(model)
    ids = list(range(min(16, model.config.get_text_config().vocab_size)))
    if _has_context_mask(model):
        return False
    was_training = model.training
    model.eval()
    try:
        alike, other = (_second_logits(model, collate, first, ids) for first in (ids, ids[::-1]))
    except (TypeError, ValueError, NotImplementedError, ImportError):  # an argument or a feature is not supported
        return False
    finally:
        model.train(was_training)
    rounded = any(p.dtype != torch.float32 for p in model.parameters())
    most = _MOST_CHANGED_IN_HALF if rounded and _is_known_to_isolate(model) else _MOST_CHANGED
    return bool((alike - other).abs().mean() <= most * alike.abs().mean())


def _is_known_to_isolate(model: transformers.PreTrainedModel | peft.PeftModel) -> bool:
    base = recognise.base_of(model)
    own = type(base).__module__.startswith("transformers.")
    return own and supports_segments(base) and not (_has_state(base) or _has_context_mask(base))


def _has_state(model: transformers.PreTrainedModel | peft.PeftModel) -> bool:
    """Return whether the model has layers that carry a state from token to token, outside of attention."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or []
    return model._is_stateful or any(kind not in _ATTENTION for kind in kinds)


def _has_context_mask(model: transformers.PreTrainedModel | peft.PeftModel) -> bool:
    """Return whether the model has a mask of its context's size, which a packed row may exceed (GPT-Neo, GPT)."""
    context = config.context_length(model.config)
    return any(b.dim() > 1 and b.shape[-1] == b.shape[-2] == context for b in model.buffers())


def _second_logits(
    model: transformers.PreTrainedModel | peft.PeftModel, collate: Collator, first: list[int], second: list[int]
) -> torch.Tensor:
    batch = collate([{"input_ids": ids, "labels": [IGNORED] * len(ids)} for ids in (first, second)])
    inputs = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items() if k != "labels"}
    with torch.no_grad():
        return cast("torch.Tensor", model(**inputs).logits[0, len(first) :].float())
