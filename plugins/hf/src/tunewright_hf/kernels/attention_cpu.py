"""Causal attention of short samples that lie behind each other in one row, on CPUs, in matrix products of all heads.

torch's kernel for CPUs multiplies small tiles, and computes the weights again for the gradient: up to a third longer for
samples of some hundred tokens. All samples are one function here, so that outputs and gradients are written where they
belong, and autograd has one step instead of one for each.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch.autograd.function import FunctionCtx, once_differentiable

LONGEST = 512
"""Tokens of a sample. Weights are kept for the gradient: of longer ones that would take more memory than all else does."""

_ROWS = 128  # queries that are computed together: most of what lies above the diagonal is left out


class _Block(NamedTuple):
    """Some queries of a sample, and the keys that they may see: all from its first token on.

    Attributes:
        start: the sample's first token.
        first: the first query.
        end: behind the last query, and behind the last key.
        is_last: whether the sample ends there.
    """

    start: int
    first: int
    end: int
    is_last: bool


def _blocks(lengths: Sequence[int]) -> Iterator[_Block]:
    """Those of all samples, each sample's last one first: it has all keys, so that the others can add to their gradients."""
    start = 0
    for length in lengths:
        end = start + length
        for first in reversed(range(start, end, _ROWS)):
            yield _Block(start, first, min(end, first + _ROWS), first + _ROWS >= end)
        start = end


class CausalFunction(torch.autograd.Function):  # type: ignore[misc]
    """softmax(scale · q kᵀ + mask) v for each sample and head; the mask lets a token see itself and those before it."""

    @staticmethod
    def forward(ctx: FunctionCtx, lengths: Sequence[int], scale: float, *inputs: torch.Tensor) -> torch.Tensor:
        """Compute the attention.

        Args:
            ctx: autograd's.
            lengths: of each sample, in tokens; together all of them, and none longer than `LONGEST`.
            scale: of the scores.
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
        """The gradients of query, key and value: with the weights p and d_p = dy vᵀ, d_scores = p · (d_p - Σ p · d_p)."""
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
    """Memory for (1, tokens, heads, size), where x is (1, heads, tokens, size): as what lies before and behind has it."""
    return x.new_empty(1, x.shape[2], x.shape[1], x.shape[3])


@functools.cache
def _mask(dtype: torch.dtype) -> torch.Tensor:
    """(queries, keys) that end with the same token: 0 where a query sees a key, else minus infinity."""
    return torch.full((_ROWS, LONGEST), -torch.inf, dtype=dtype).triu(LONGEST - _ROWS + 1)
