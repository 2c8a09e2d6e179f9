"""Attention for padding-free batches: samples are concatenated in one row, and attention is block-diagonal.

In transformers this needs flash-attn, or a mask of the row's length squared. Here causal attention is computed for each
sample: on GPUs with the variable-length kernels of core torch, elsewhere sample by sample, and for short samples on CPUs
with `tunewright_hf.kernels.attention_cpu`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TypedDict, Unpack, cast

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from tunewright_hf.kernels.attention_cpu import LONGEST, CausalFunction
from tunewright_hf.kernels.patches import other_source, register_attention, say_left

SEGMENTS = "segments"
"""The attention's name in transformers."""

_KERNEL_HEAD_DIM = 256  # the largest that torch's variable-length kernels support
_ONE_SAMPLE = 2  # boundaries of one sample: its begin and its end
_STARTS_DIM = 2  # dimensions of what `mask` returns for padding-free batches; masks of "sdpa" have 4


def register() -> None:
    """Register "segments" with transformers."""
    register_attention(SEGMENTS, attend, mask)


def mask(
    *,
    batch_size: int,
    q_length: int,
    kv_length: int,
    mask_function: Callable[..., torch.Tensor],
    attention_mask: torch.Tensor | None = None,
    device: torch.device | str = "cpu",
    **given: object,
) -> torch.Tensor | None:
    """Return the first tokens of samples for padding-free batches, else the mask of "sdpa"; for AttentionMaskInterface.

    A batch may say where its samples begin by `position_ids` alone, as that of any collator. transformers knows it here
    and not in the layers, so this is passed on to them.

    Returns:
        For padding-free batches int64 of (batch, tokens): the index of the first token in the sample of each token.
    """
    # The only sign of a padding-free batch is that the mask may not be skipped as a plain causal one.
    padding_free = attention_mask is None and not given.get("allow_is_causal_skip", True) and not given.get("use_vmap")
    if padding_free and q_length == kv_length > 1:
        starts = _sample_starts(mask_function, batch_size, q_length, device)
        if starts is not None:
            return starts
    return sdpa_mask(
        batch_size=batch_size,
        q_length=q_length,
        kv_length=kv_length,
        mask_function=mask_function,
        attention_mask=attention_mask,
        device=device,
        **given,
    )


def _sample_starts(
    mask_function: Callable[..., torch.Tensor], rows: int, length: int, device: torch.device | str
) -> torch.Tensor | None:
    """Return what `mask` does; None if a token attends to a later one, as those of an image may.

    A token begins a sample if it does not attend to the one before it.
    """
    row, head = torch.arange(rows, device=device)[:, None], torch.zeros(1, 1, dtype=torch.int64, device=device)
    token = torch.arange(length, device=device)[None]
    before, after = token[:, :-1], token[:, 1:]
    if mask_function(row, head, before, after).any():
        return None
    continues = mask_function(row, head, after, before).expand(rows, -1)
    begins = torch.nn.functional.pad(~continues, (1, 0), value=True)
    return torch.where(begins, token, 0).cummax(1).values


def is_tested() -> bool:
    """Return whether "segments" may stand in for the attention of the installed transformers; the log says why not.

    The trial is that of padding-free batches: `tunewright_hf.model.probe.isolates_samples` compares the two on the model.
    """
    code = {"sdpa_attention_forward": sdpa_attention_forward}
    reason = other_source(code, {"sdpa_attention_forward": frozenset({"1b8dc81c4ba4d409"})}, "transformers 5.24")
    if reason is not None:
        say_left("attention", reason)
    return reason is None


class AttentionKeywords(TypedDict, total=False):
    """Keywords that models of transformers pass to their attention, as far as they matter here.

    Attributes:
        cu_seq_lens_q: the first token of each sample, and the number of tokens: int32 of shape (samples + 1,).
        max_length_q: the longest sample, in tokens.
        dropout: dropout probability of attention weights.
        scaling: factor of the scores; None means one over the square root of the head size.
        sliding_window: number of tokens that each token attends to, itself included; None means no window.
        softcap: largest magnitude of a score (Gemma 2); None means no limit.
        is_causal: whether a token attends only to itself and earlier ones; None means the layer's own setting.
    """

    cu_seq_lens_q: torch.Tensor | None
    max_length_q: int
    dropout: float
    scaling: float | None
    sliding_window: int | None
    softcap: float | None
    is_causal: bool | None


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **given: Unpack[AttentionKeywords],
) -> tuple[torch.Tensor, None]:
    """Compute causal attention within each sample; for transformers' AttentionInterface.

    Where samples begin is in `cu_seq_lens_q`, or else in the tensor that `mask` returned. Without either it is the "sdpa"
    of transformers (with soft-capping: "eager").

    Args:
        module: the layer.
        query: (rows, heads, tokens, head size).
        key: (rows, key heads, tokens, head size); `heads` is a multiple of `key heads`.
        value: as `key`.
        attention_mask: what `mask` returned.
        given: see `AttentionKeywords`.

    Returns:
        (rows, tokens, heads, head size), and None in place of the weights.

    Raises:
        ValueError: the layer's attention is not causal.
    """
    starts = given.get("cu_seq_lens_q")
    firsts = attention_mask if attention_mask is not None and attention_mask.dim() == _STARTS_DIM else None
    if firsts is None and (starts is None or attention_mask is not None):
        if (
            starts is not None and attention_mask is not None
        ):  # of a batch that pads as well, or a model that fills its cache
            attention_mask = attention_mask & _same_sample(starts, attention_mask.shape)
        if given.get("softcap") is None:
            return sdpa_attention_forward(module, query, key, value, attention_mask, **given)[0], None
        return _softcapped(query, key, value, attention_mask, given), None
    _check_causal(module, given)
    if starts is None and firsts is not None:
        return _attend_by_firsts(query, key, value, firsts, given), None
    return _attend_per_sample((query, key, value), cast("torch.Tensor", starts), given), None


def _attend_by_firsts(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, firsts: torch.Tensor, given: AttentionKeywords
) -> torch.Tensor:
    """Return the attention of several rows, for what `mask` returned. They are concatenated: a row's start is a sample's."""
    rows, length = len(query), query.shape[2]
    begins = firsts == torch.arange(length, device=query.device)
    starts = torch.nn.functional.pad(begins.flatten().nonzero()[:, 0], (0, 1), value=rows * length).int()
    known: AttentionKeywords = {**given, "max_length_q": int(starts.diff().max())}
    joined = [x.transpose(0, 1).flatten(1, 2)[None] for x in (query, key, value)]
    return _attend_per_sample(joined, starts, known).unflatten(1, (rows, length))[0]


def _same_sample(starts: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return a mask of the pairs of tokens in one sample: bool of (tokens, tokens).

    Raises:
        ValueError: the mask's `shape` is not that of the samples.
    """
    numbers = torch.arange(len(starts) - 1, device=starts.device).repeat_interleave(starts.diff())
    if [*shape[-2:]] != [len(numbers)] * 2:
        raise ValueError(f"the mask has the shape {[*shape]}, and the samples have {len(numbers)} tokens")
    return numbers[:, None] == numbers


def _attend_per_sample(heads: Sequence[torch.Tensor], starts: torch.Tensor, given: AttentionKeywords) -> torch.Tensor:
    """Return the attention of one row of samples that begin at `starts`, from query, key and value; shapes as in `attend`."""
    query, key, value = heads
    plain = not (given.get("softcap") or given.get("dropout"))
    if plain and _is_single_sample(query, starts, given):
        return _attend_single_sample(query, key, value, given)
    if plain and _has_kernel(query, value):
        return _attend_by_kernel(query, key, value, starts, given)
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    lengths = torch.diff(starts).tolist()
    if plain and _are_short(query, lengths, given):
        return cast("torch.Tensor", CausalFunction.apply(lengths, _scale(query, given), query, key, value))
    # One split has one gradient, where a slice for each sample would have a gradient of the whole row's size each.
    parts = [x.split(lengths, dim=2) for x in (query, key, value)]
    found = [_compute(q, k, v, _window(q, given), given) for q, k, v in zip(*parts, strict=True)]
    return torch.cat(found, dim=2).transpose(1, 2).contiguous()


def _is_single_sample(query: torch.Tensor, starts: torch.Tensor, given: AttentionKeywords) -> bool:
    """Return whether one sample fills the row; for that a GPU has better kernels."""
    window = given.get("sliding_window")
    return query.is_cuda and len(starts) == _ONE_SAMPLE and (window is None or window >= query.shape[2])


def _are_short(query: torch.Tensor, lengths: Sequence[int], given: AttentionKeywords) -> bool:
    """Return whether `attention_cpu` supports the samples: short ones on a CPU, in fp32 or fp64."""
    window, longest = given.get("sliding_window"), max(lengths)
    accurate = query.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    return query.device.type == "cpu" and accurate and longest <= (LONGEST if window is None else min(LONGEST, window))


def _attend_single_sample(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, given: AttentionKeywords
) -> torch.Tensor:
    scale, grouped = given.get("scaling"), query.shape[1] != key.shape[1]
    output = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=grouped)
    return output.transpose(1, 2).contiguous()


def _softcapped(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, seen: torch.Tensor | None, given: AttentionKeywords
) -> torch.Tensor:
    if seen is None and query.shape[2] == 1:  # generation with a cache: the token attends to all cached ones
        seen = torch.ones(1, 1, dtype=torch.bool, device=query.device)
    groups = query.shape[1] // key.shape[1]
    output = _compute(query, repeat_kv(key, groups), repeat_kv(value, groups), seen, given)
    return output.transpose(1, 2).contiguous()


def _check_causal(module: torch.nn.Module, given: AttentionKeywords) -> None:
    causal = given.get("is_causal")
    if not (getattr(module, "is_causal", True) if causal is None else causal):
        raise ValueError(f"{type(module).__name__} is not causal: give attn_implementation='sdpa'")


def _compute(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, seen: torch.Tensor | None, given: AttentionKeywords
) -> torch.Tensor:
    """Return the attention; without a mask in `seen` it is causal. All shapes are (1, heads, tokens, head size)."""
    scale, dropout, softcap = _scale(query, given), given.get("dropout", 0.0), given.get("softcap")
    if softcap is None:
        return scaled_dot_product_attention(
            query, key, value, attn_mask=seen, dropout_p=dropout, is_causal=seen is None, scale=scale
        )
    # As "eager" for Gemma 2 in transformers.
    scores = query @ key.transpose(2, 3) * scale
    scores = softcap * torch.tanh(scores / softcap)
    # Not minus infinity: a pad token may attend to nothing, and would become NaN.
    scores = scores.masked_fill(~(_before(query) if seen is None else seen), torch.finfo(scores.dtype).min)
    weights = torch.nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    return torch.nn.functional.dropout(weights, dropout) @ value


def _scale(query: torch.Tensor, given: AttentionKeywords) -> float:
    """Return the factor of the scores."""
    scaling = given.get("scaling")
    return query.shape[-1] ** -0.5 if scaling is None else scaling


def _before(query: torch.Tensor) -> torch.Tensor:
    """Return the causal mask: bool of (queries, keys)."""
    length = query.shape[2]
    return torch.ones(length, length, dtype=torch.bool, device=query.device).tril()


def _window(query: torch.Tensor, given: AttentionKeywords) -> torch.Tensor | None:
    """Return the causal mask with a sliding window; None if the sample fits into the window."""
    window = given.get("sliding_window")
    return _before(query).triu(1 - window) if window is not None and window < query.shape[2] else None


def _has_kernel(query: torch.Tensor, value: torch.Tensor) -> bool:
    if not (query.is_cuda and _has_varlen()):
        return False
    half = _kernel_dtype(value) in (torch.bfloat16, torch.float16)
    ampere = torch.cuda.get_device_capability(query.device) >= (8, 0)
    return half and ampere and max(query.shape[-1], value.shape[-1]) <= _KERNEL_HEAD_DIM


def _has_varlen() -> bool:
    """Return whether torch has `varlen_attn` with windows, which its first release lacked."""
    return "window_size" in _varlen_parameters()


@functools.cache
def _varlen_parameters() -> frozenset[str]:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return frozenset()
    return frozenset(inspect.signature(varlen_attn).parameters)


def _kernel_dtype(value: torch.Tensor) -> torch.dtype:
    """Return the dtype that autocast would choose, as it does not cover these kernels."""
    device = value.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value.dtype


def _attend_by_kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: torch.Tensor, given: AttentionKeywords
) -> torch.Tensor:
    """Compute all samples at once with torch's kernels; returns the shape of `attend`."""
    from torch.nn.attention.varlen import varlen_attn

    dtype, longest, window = _kernel_dtype(value), given["max_length_q"], given.get("sliding_window")
    q, k, v = (x[0].transpose(0, 1).to(dtype) for x in (query, key, value))
    before = -1 if window is None else window - 1  # flash-attn does not count the token itself
    options = {"scale": given.get("scaling"), "window_size": (before, 0)}
    if "enable_gqa" in _varlen_parameters():  # older versions need no flag for grouped heads
        options["enable_gqa"] = True
    output: torch.Tensor = varlen_attn(q, k, v, starts, starts, longest, longest, **options)
    return output[None]
