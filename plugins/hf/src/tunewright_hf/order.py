"""The random order of an epoch, of more samples than Python's numbers of them have room in memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch

_AT_ONCE = 1 << 16  # samples


class RandomOrder(torch.utils.data.Sampler[int]):  # type: ignore[misc]
    """The numbers that accelerate's SeedableRandomSampler gives, from 8 bytes for each sample instead of 40.

    Args:
        samples: how many there are.
        seed: that of an epoch is its number more.
    """

    def __init__(self, samples: int, seed: int) -> None:
        self._samples = samples
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        """How many samples there are."""
        return self._samples

    def __iter__(self) -> Iterator[int]:
        """The samples of this epoch; the next call is for the next one."""
        generator = torch.Generator().manual_seed(self._seed + self.epoch)
        for part in torch.randperm(self._samples, generator=generator).split(_AT_ONCE):
            yield from part.tolist()
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch."""
        self.epoch = epoch
