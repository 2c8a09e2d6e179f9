"""The trial of "segments": joined samples, a sliding window included, have the logits that each has by itself in transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import cast

import torch
import transformers
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from tunewright_hf.data.tokenize import IGNORED
from tunewright_hf.kernels import patches
from tunewright_hf.kernels.attention import SEGMENTS
from tunewright_hf.kernels.patches import Context, Patch, Undo

Batch = Callable[[Sequence[Mapping[str, list[int]]]], Mapping[str, object]]

_LENGTHS, _WINDOW = (5, 9), 4  # tokens of the samples, and of a sliding window meanwhile


def keep_if_equal(model: transformers.PreTrainedModel, join: Batch, context: Context = nullcontext) -> bool:
    """Keep "segments" as a model's attention if it computes what transformers computes; else set the one of transformers.

    Args:
        model: a causal language model. One that uses another attention stays as it is.
        join: makes a padding-free batch of samples.
        context: see `tunewright_hf.kernels.patches.replace`.

    Returns:
        Whether it is kept.
    """
    if model.config._attn_implementation != SEGMENTS:
        return False
    model.set_attn_implementation(_own(model))

    def logits(model: transformers.PreTrainedModel) -> Sequence[torch.Tensor]:
        return _logits(model, join)

    patch = Patch(
        name="attention",
        tested={"sdpa_attention_forward": frozenset({"1b8dc81c4ba4d409"})},
        versions="transformers 5.24",
        code=lambda _: {"sdpa_attention_forward": sdpa_attention_forward},
        apply=_apply,
        trial=logits,
        alike=id,
        most_apart_in_half=0.15,  # it adds up over the layers of a model
    )
    return bool(patches.replace(patch, [model], context))


def _own(model: transformers.PreTrainedModel) -> str:
    """Return the attention of transformers with the same results: "sdpa" leaves soft-capping out."""
    capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None)
    return "eager" if capped or not model._supports_sdpa else "sdpa"


def _apply(model: transformers.PreTrainedModel) -> Undo:
    before = model.config._attn_implementation
    model.set_attn_implementation(SEGMENTS)
    return lambda: cast("None", model.set_attn_implementation(before))


def _logits(model: transformers.PreTrainedModel, join: Batch) -> Sequence[torch.Tensor]:
    """Return the logits of some samples: joined with "segments", else of each by itself."""
    vocabulary = model.config.get_text_config().vocab_size
    ids = [[(7 * i + j) % vocabulary for j in range(length)] for i, length in enumerate(_LENGTHS)]
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), _small_windows(model):
            if model.config._attn_implementation != SEGMENTS:
                rows = [torch.tensor([row], device=model.device) for row in ids]
                return [model(input_ids=row, use_cache=False).logits[0] for row in rows]
            batch = dict(join([{"input_ids": row, "labels": [IGNORED] * len(row)} for row in ids]))
            del batch["labels"]
            inputs = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
            return list(model(**inputs, use_cache=False).logits[0].split(_LENGTHS))
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _small_windows(model: transformers.PreTrainedModel) -> Iterator[None]:
    """Let sliding windows be smaller than the trial's samples, which would not reach the end of any other."""
    config = model.config.get_text_config()
    owners = {id(o): o for o in (config, *model.modules(), *(getattr(m, "config", config) for m in model.modules()))}
    before = [(o, o.sliding_window) for o in owners.values() if isinstance(getattr(o, "sliding_window", None), int)]
    try:
        for owner, _ in before:
            owner.sliding_window = _WINDOW
        yield
    finally:
        for owner, window in before:
            owner.sliding_window = window
