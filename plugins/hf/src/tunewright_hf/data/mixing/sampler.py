"""The order of a mixture as torch's data loader takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from tunewright_hf.data.mixing.mixture_order import Order


class MixtureSampler(torch.utils.data.Sampler[int]):  # type: ignore[misc]
    """The order of a mixture as a sampler, which is the same on every rank: accelerate gives each its part of a batch.

    Args:
        order: the order.
        blanks: samples at the end of the training data that fill up the last step of an epoch.
        epoch: returns the number of complete epochs, whenever an epoch begins or is resumed.
    """

    def __init__(self, order: Order, blanks: int, epoch: Callable[[], int]) -> None:
        self._order = order
        self._blanks = blanks
        self._epoch = epoch

    def __len__(self) -> int:
        return self._order.epoch_length + self._blanks

    def __iter__(self) -> Iterator[int]:
        yield from self._order.epoch(self._epoch())
        yield from range(self._order.samples, self._order.samples + self._blanks)
