"""Try a causal language model out on a few tokens: what packing needs, and what training on the next token needs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias, cast

import attrs
import peft
import torch
import transformers

from tunewright.errors import RequestError
from tunewright_hf.data.samples.collators import Collator
from tunewright_hf.data.tokenize import IGNORED
from tunewright_hf.kernels import recognise
from tunewright_hf.kernels.attention import SEGMENTS
from tunewright_hf.model import config
from tunewright_hf.model.attention import supports_segments
from tunewright_hf.model.language import language_part

Model: TypeAlias = "transformers.PreTrainedModel | peft.PeftModel"

_ATTENTION = ("full_attention", "sliding_attention", "chunked_attention")
_TOKENS, _WINDOW = 16, 6  # a sample must be longer than a window


@attrs.frozen(kw_only=True)
class Row:
    """A row of samples to try a model out with.

    Attributes:
        length: tokens of each sample.
        samples: number of samples.
    """

    length: int = _TOKENS
    samples: int = 2

    @classmethod
    def within(cls, longest: int, tokens: int) -> Row:
        """Return the row for data whose longest sample has `longest` tokens, and whose largest batch has `tokens`."""
        length = max(min(longest, tokens // 2), _TOKENS)
        return cls(length=length, samples=max(tokens // length, 2))


_SHORT = Row()

# Largest change relative to the logits' mean magnitude: expert layers round differently in another batch. What leaks through a
# convolution may be small in an untrained model, so more is allowed only if the model's code shows that nothing leaks.
_MOST_CHANGED, _MOST_CHANGED_IN_HALF = 1e-5, 1e-2

# The same for logits that another attention computes, in the median token: an expert more or less may change one altogether.
_MOST_APART, _MOST_APART_IN_HALF = 1e-3, 0.1

# A model that attends to later tokens, or is to copy its input, is far beyond these.
_MOST_FROM_LATER, _SAME_LOSS = 1e-2, 1e-3

# What models complain of that are not made for texts alone. Whatever else they raise is for the training to say.
_NEEDS_MORE = re.compile(r"pixel|image|patches|audio|input_features|required positional argument")

# What models raise that do not support an argument or a feature.
_UNSUPPORTED = (TypeError, ValueError, NotImplementedError, ImportError)


def isolates_samples(
    model: Model,
    collate: Collator,
    *,
    sharded: bool = False,
    autocast: AbstractContextManager[object] | None = None,
    row: Row = _SHORT,
) -> bool:
    """Return whether a sample in a packed row is computed as if it were alone.

    Attention is not the only possible leak: there are recurrent layers, convolutions, and remote code. So the model is
    tried out, with windows narrow enough for few tokens to reach beyond them. Code that a model brings may compute long
    rows in another way, and call its windows as it likes, so it is tried out with a row as long as the training's, too.

    Args:
        model: the model, on the device that it computes on.
        collate: a padding-free collator.
        sharded: no rank has the whole model to try out, so its class must decide.
        autocast: the training's autocast.
        row: the training's longest row.
    """
    if sharded:
        return _is_known_to_isolate(model)
    if _has_context_mask(model):
        return False
    rows = [_SHORT] if _is_own(model) else [_SHORT, row]
    try:
        with evaluating(model, autocast):
            return all(_isolates(model, collate, each) for each in dict.fromkeys(rows))
    except _UNSUPPORTED:
        return False


def _isolates(model: Model, collate: Collator, row: Row) -> bool:
    """Return whether the last sample of a row is computed as if it were alone."""
    ids = _some_tokens(model, row.length)
    with _narrow_windows(model):
        half = _computes_in_half(model)
        alike, other = (_last_logits(model, collate, [first] * (row.samples - 1), ids) for first in (ids, ids[::-1]))
        with another_attention(model):
            alone = model(input_ids=torch.tensor([ids], device=model.device)).logits[0].float()
    most = _MOST_CHANGED_IN_HALF if half and _is_known_to_isolate(model) else _MOST_CHANGED
    if not (alike - other).abs().mean() <= most * alike.abs().mean():
        return False
    most = _MOST_APART_IN_HALF if half else _MOST_APART
    beyond = (alike - alone).abs().mean(1) - most * alone.abs().mean(1)
    return bool(beyond.median() <= 0)


def no_packing(model: Model) -> RequestError:
    """Return the error for packed rows of a model that does not isolate samples."""
    name = type(recognise.base_of(model)).__name__
    problem = f"does not work with this {name}, which does not isolate the samples of a row from each other"
    return RequestError(problem, field="DataParams.packing", value=True, remedy="Leave packing out.")


def check_causal(model: Model, *, autocast: AbstractContextManager[object] | None = None, loss: bool = True) -> None:
    """Refuse a model that cannot learn to predict the next token.

    Such are models that need images, encoders, whose tokens attend to the ones that they are to predict, and decoders of encoder-decoder models, which
    transformers does not shift the labels for: they would learn to copy their input.

    Args:
        model: the model, on the device that it computes on.
        autocast: the training's autocast.
        loss: whether the model computes the loss of the training.

    Raises:
        RequestError: names the model and says what to give.
    """
    if problem := flaw_of(model, autocast=autocast, loss=loss):
        name = type(recognise.base_of(model)).__name__
        remedy = "Give a causal language model, or another transformer_type that the model supports."
        raise RequestError(f"is a {name}, {problem}", field="model", value=model.config.model_type, remedy=remedy)


def flaw_of(model: Model, *, autocast: AbstractContextManager[object] | None = None, loss: bool = True) -> str:
    """Return why a model cannot be trained as a causal language model, or ""; see `check_causal`."""
    try:
        ids = torch.tensor([_some_tokens(model)], device=model.device)
        changed = ids.clone()
        changed[0, -1] = ids[0, 0]
        with evaluating(model, autocast):
            found = model(input_ids=ids, labels=ids)
            other = model(input_ids=changed).logits
    except (*_UNSUPPORTED, RuntimeError, AttributeError, AssertionError) as error:
        text = " ".join(str(error).split())
        return f"which reads more than the tokens of a text: {text.rstrip('.')}" if _NEEDS_MORE.search(text) else ""
    if loss and getattr(found, "loss", None) is None:
        return "which computes no loss of a text"
    return "" if getattr(found, "logits", None) is None else _flaw_in(found, other, ids, loss=loss)


def _flaw_in(found: transformers.utils.ModelOutput, other: torch.Tensor, ids: torch.Tensor, *, loss: bool) -> str:
    """Return what is wrong with the loss and the logits of tokens, given the logits with another last token; or ""."""
    logits = found.logits.float()
    if logits.ndim != 3 or logits.shape[:2] != ids.shape:  # noqa: PLR2004 - (1, tokens, vocabulary)
        return ""
    moved = (logits - other.float())[:, :-1].abs().mean()
    if moved > _MOST_FROM_LATER * logits.abs().mean():
        return "whose tokens attend to the ones that they are to predict"
    if loss and _copies(logits[0], ids[0], found.loss):
        return (
            "whose loss compares each token with itself and not with the next one, so it would learn to copy its input"
        )
    return ""


def _copies(logits: torch.Tensor, ids: torch.Tensor, loss: torch.Tensor) -> bool:
    """Return whether a loss is that of labels which are not shifted."""
    entropy = torch.nn.functional.cross_entropy
    copied, shifted = entropy(logits, ids), entropy(logits[:-1], ids[1:])
    return bool((loss - copied).abs() <= _SAME_LOSS * copied < (loss - shifted).abs())


@contextlib.contextmanager
def evaluating(model: Model, autocast: AbstractContextManager[object] | None = None) -> Iterator[None]:
    """Evaluate without gradients and cache, in the training's autocast."""
    was_training, restore_cache = model.training, config.without_cache(model.config)
    model.eval()
    try:
        with torch.no_grad(), autocast or contextlib.nullcontext():
            yield
    finally:
        restore_cache()
        model.train(was_training)


def _some_tokens(model: Model, count: int = _TOKENS) -> list[int]:
    known = min(_TOKENS, getattr(model.config.get_text_config(), "vocab_size", _TOKENS))
    return [i % known for i in range(count)]


def _computes_in_half(model: Model) -> bool:
    return torch.is_autocast_enabled(model.device.type) or any(p.dtype != torch.float32 for p in model.parameters())


@contextlib.contextmanager
def _narrow_windows(model: Model) -> Iterator[None]:
    """Let windows of attention be shorter than the samples that a model is tried out with."""
    holders: list[dict[str, object]] = [vars(c) for c in config.every_config(model.config)]
    holders += [vars(module) for module in model.modules()]
    changed = [(holder, name, holder[name]) for holder in holders for name in holder if _is_window(name, holder[name])]
    for holder, name, _ in changed:
        holder[name] = _WINDOW
    try:
        yield
    finally:
        for holder, name, value in changed:
            holder[name] = value


def _is_window(name: str, value: object) -> bool:
    named = "window" in name or "attention_chunk" in name
    return named and isinstance(value, int) and not isinstance(value, bool) and value > _WINDOW


@contextlib.contextmanager
def another_attention(model: Model) -> Iterator[None]:
    """Let transformers compute the attention, where "segments" does."""
    base = language_part(model)
    if base.config._attn_implementation != SEGMENTS:
        yield
        return
    base.set_attn_implementation("sdpa" if base._supports_sdpa else "eager")
    try:
        yield
    finally:
        base.set_attn_implementation(SEGMENTS)


def _is_known_to_isolate(model: Model) -> bool:
    base = recognise.base_of(model)
    usable = _is_own(base) and not config.reads_images(base.config) and supports_segments(base)
    return usable and not (_has_state(base) or _has_context_mask(base))


def _is_own(model: Model) -> bool:
    """Return whether a model's code is that of transformers."""
    return type(recognise.base_of(model)).__module__.startswith("transformers.")


def _has_state(model: Model) -> bool:
    """Return whether the model has layers that carry a state from token to token, outside of attention."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or []
    return model._is_stateful or any(kind not in _ATTENTION for kind in kinds)


def _has_context_mask(model: Model) -> bool:
    """Return whether the model has a mask of its context's size, which a packed row may exceed (GPT-Neo, GPT)."""
    context = config.context_length(model.config)
    return any(b.dim() > 1 and b.shape[-1] == b.shape[-2] == context for b in model.buffers())


def _last_logits(model: Model, collate: Collator, before: Sequence[list[int]], last: list[int]) -> torch.Tensor:
    batch: Mapping[str, object] = collate(
        [{"input_ids": ids, "labels": [IGNORED] * len(ids)} for ids in (*before, last)]
    )
    inputs = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items() if k != "labels"}
    return cast("torch.Tensor", model(**inputs).logits[0, -len(last) :].float())
