"""Which attention a model gets, and whether it takes batches without padding."""

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
from tunewright_hf.data.collators import Collator
from tunewright_hf.data.tokenize import IGNORED
from tunewright_hf.kernels import recognise
from tunewright_hf.kernels.attention import SEGMENTS, register
from tunewright_hf.model import config

logger = logging.getLogger(__name__)

_NOT_COMPUTED = ("s_aux=", "position_bias=")  # what some models hand to their attention, and "segments" does not know
_LAYERS_ATTENTION = ("attention", "attn", "self_attention", "self_attn")
_ATTENTION = ("full_attention", "sliding_attention", "chunked_attention")

# Of the logits' mean magnitude; expert layers round differently in other company. What a convolution lets through may be
# little, in a model that has not learnt yet: more is allowed only where the model's code tells that nothing leaks.
_MOST_CHANGED, _MOST_CHANGED_IN_HALF = 1e-5, 1e-2


def check_name(name: str) -> None:
    """Refuse what is neither "auto" nor a name that transformers knows, nor one of a kernel on the Hub.

    Raises:
        RequestError: naming what is near.
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
        wanted: a name that transformers knows, "segments", or "auto": flash-attn where it is installed, else "segments"
            where the model works with it, else what transformers chose.
        half: whether the model computes in bf16 or fp16.

    Raises:
        RequestError: the model cannot do what is wanted.
    """
    register()
    name = _automatic(model, half=half) if wanted == "auto" else wanted
    with errors.refused("attn_implementation", "Give another name, or leave it out."):
        if name == SEGMENTS and not works_with_segments(model):
            raise ValueError(f"{type(model).__name__} needs more of its attention than that computes")
        if name is not None:
            model.set_attn_implementation(name)
    logger.info("attention: %s", model.config._attn_implementation)


def _automatic(model: transformers.PreTrainedModel, *, half: bool) -> str | None:
    if torch.cuda.is_available() and half and model._supports_flash_attn and is_flash_attn_2_available():
        return "flash_attention_2"
    return SEGMENTS if works_with_segments(model) else None


def works_with_segments(model: transformers.PreTrainedModel) -> bool:
    """Whether a model's attention can be computed by `tunewright_hf.kernels.attention`.

    A model that may use flash-attn tells its attention all that it needs by arguments, since flash-attn knows no masks.
    """
    if not (model._supports_flash_attn and model._can_set_attn_implementation()):
        return False
    code = inspect.getsource(sys.modules[type(model).__module__])
    windowed = "sliding_attention" in (getattr(model.config, "layer_types", None) or [])
    needs_more = any(word in code for word in _NOT_COMPUTED) or (windowed and "sliding_window=" not in code)
    return not needs_more and _hands_on(code)


def _hands_on(code: str) -> bool:
    """Whether layers hand to their attention whatever the model is given, and with it where samples begin."""
    calls = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Call)]
    asking = [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr in _LAYERS_ATTENTION]
    return all(any(keyword.arg is None for keyword in call.keywords) for call in asking)


def is_by_sample(model: transformers.PreTrainedModel | peft.PeftModel) -> bool:
    """Whether a model computes nothing between samples that lie behind each other, so that these cost no more."""
    name = model.config._attn_implementation
    return name == SEGMENTS or "flash" in name


def keeps_apart(
    model: transformers.PreTrainedModel | peft.PeftModel, collate: Collator, *, sharded: bool = False
) -> bool:
    """Whether one sample leaves alone the logits of another that lies behind it.

    Attention is not all that may leak: there are layers with a state, convolutions, and code that comes with a model.

    Args:
        model: on the device that it computes on.
        collate: one that puts samples behind each other.
        sharded: no rank has the whole model to compute with: its kind alone has to tell.
    """
    if sharded:
        return _is_known_to_keep_apart(model)
    ids = list(range(min(16, model.config.get_text_config().vocab_size)))
    if _has_mask(model):
        return False
    was_training = model.training
    model.eval()
    try:
        alike, other = (_second_logits(model, collate, first, ids) for first in (ids, ids[::-1]))
    except (TypeError, ValueError, NotImplementedError, ImportError):  # no such arguments, or a layer that needs more
        return False
    finally:
        model.train(was_training)
    rounded = any(p.dtype != torch.float32 for p in model.parameters())
    most = _MOST_CHANGED_IN_HALF if rounded and _is_known_to_keep_apart(model) else _MOST_CHANGED
    return bool((alike - other).abs().mean() <= most * alike.abs().mean())


def _is_known_to_keep_apart(model: transformers.PreTrainedModel | peft.PeftModel) -> bool:
    base = recognise.base_of(model)
    own = type(base).__module__.startswith("transformers.")
    return own and works_with_segments(base) and not (_has_state(base) or _has_mask(base))


def _has_state(model: transformers.PreTrainedModel | peft.PeftModel) -> bool:
    """Whether layers of transformers' own carry something on from token to token besides what is attended to."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or []
    return model._is_stateful or any(kind not in _ATTENTION for kind in kinds)


def _has_mask(model: transformers.PreTrainedModel | peft.PeftModel) -> bool:
    """Whether it keeps a mask of its context squared, which a row of several samples may exceed (GPT-Neo's, GPT's)."""
    context = config.context_length(model.config)
    return any(b.dim() > 1 and b.shape[-1] == b.shape[-2] == context for b in model.buffers())


def _second_logits(
    model: transformers.PreTrainedModel | peft.PeftModel, collate: Collator, first: list[int], second: list[int]
) -> torch.Tensor:
    batch = collate([{"input_ids": ids, "labels": [IGNORED] * len(ids)} for ids in (first, second)])
    inputs = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items() if k != "labels"}
    with torch.no_grad():
        return cast("torch.Tensor", model(**inputs).logits[0, len(first) :].float())
