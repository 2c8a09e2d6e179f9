"""Causal attention on CPUs for short samples that are concatenated in one row, by matrix products over all heads.

torch's CPU kernel multiplies small tiles and recomputes the weights in the backward pass, which takes up to a third longer
for samples of a few hundred tokens. Here all samples are one autograd function that writes outputs and gradients in place.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch.autograd.function import FunctionCtx, once_differentiable

LONGEST = 512
"""Tokens of the longest sample. Longer ones would need more memory for their weights than for everything else."""

_ROWS = 128  # queries in a block: most of the scores above the diagonal are skipped


class _Block(NamedTuple):
    """Some queries of a sample, and their keys: all from the sample's first token to the last query.

    Attributes:
        start: index of the sample's first token, and so of the first key.
        first: index of the first query.
        end: index after the last query and the last key.
        is_last: whether this is the sample's last block.
    """

    start: int
    first: int
    end: int
    is_last: bool


def _blocks(lengths: Sequence[int]) -> Iterator[_Block]:
    """Yield the blocks of all samples, each sample's last block first: it has all keys, and the others add to its gradients."""
    start = 0
    for length in lengths:
        end = start + length
        for first in reversed(range(start, end, _ROWS)):
            yield _Block(start, first, min(end, first + _ROWS), first + _ROWS >= end)
        start = end


class CausalFunction(torch.autograd.Function):  # type: ignore[misc]
    """softmax(scale · q kᵀ + mask) v for each sample and head, with a causal mask."""

    @staticmethod
    def forward(ctx: FunctionCtx, lengths: Sequence[int], scale: float, *inputs: torch.Tensor) -> torch.Tensor:
        """Compute the attention.

        Args:
            ctx: autograd's.
            lengths: tokens in each sample, none more than `LONGEST`; their sum is the number of tokens.
            scale: factor of the scores.
            inputs: query and key of (1, heads, tokens, head size), value of (1, heads, tokens, size).

        Returns:
            (1, tokens, heads, size).
        """
        query, key, value = inputs
        output = _by_token(value)
        q, k, v, out = query[0], key[0].transpose(1, 2), value[0], output[0].transpose(0, 1)
        mask = _mask(q.dtype)
        blocks, weights = list(_blocks(lengths)), []
        for start, first, end, _ in blocks:
            unseen = mask[first - end :, start - end :]
            p = torch.softmax(torch.baddbmm(unseen, q[:, first:end], k[:, :, start:end], alpha=scale), -1)
            out[:, first:end] = torch.bmm(p, v[:, start:end])
            weights.append(p)
        ctx.save_for_backward(*inputs, *weights)
        ctx.blocks, ctx.scale = blocks, scale
        return output

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: FunctionCtx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of query, key and value: with weights p and d_p = dy vᵀ, d_scores = p · (d_p - Σ p · d_p)."""
        query, key, value, *weights = ctx.saved_tensors
        grads = [_by_token(x) for x in (query, key, value)]
        q, k, v, d_y = query[0], key[0], value[0].transpose(1, 2), grad[0].transpose(0, 1)
        d_q, d_k, d_v = (x[0].transpose(0, 1) for x in grads)
        for (start, first, end, is_last), p in zip(ctx.blocks, weights, strict=True):
            d_p = torch.bmm(d_y[:, first:end], v[:, :, start:end])
            d_scores = torch._softmax_backward_data(d_p, p, -1, p.dtype).mul_(ctx.scale)
            d_q[:, first:end] = torch.bmm(d_scores, k[:, start:end])
            d_keys = torch.bmm(d_scores.transpose(1, 2), q[:, first:end])
            d_values = torch.bmm(p.transpose(1, 2), d_y[:, first:end])
            if is_last:
                d_k[:, start:end], d_v[:, start:end] = d_keys, d_values
            else:
                d_k[:, start:end] += d_keys
                d_v[:, start:end] += d_values
        return None, None, *(x.transpose(1, 2) for x in grads)


def _by_token(x: torch.Tensor) -> torch.Tensor:
    """Allocate (1, tokens, heads, size) for an x of (1, heads, tokens, size): the layout of the layers around attention."""
    return x.new_empty(1, x.shape[2], x.shape[1], x.shape[3])


@functools.cache
def _mask(dtype: torch.dtype) -> torch.Tensor:
    """Return the mask of (queries, keys) that end at the same token: 0 for attended keys, else minus infinity."""
    return torch.full((_ROWS, LONGEST), -torch.inf, dtype=dtype).triu(LONGEST - _ROWS + 1)
