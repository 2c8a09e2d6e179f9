"""The order in which a training takes the tokenised samples of a mixture: a function of the position alone."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import attrs
import numpy as np
import numpy.typing as npt

from tunewright_hf.data.mixing.turns import Turns

SOURCE = "source"
"""The key that says which dataset of the mixture a sample comes from: its index, or -1 for one that does not count."""


@attrs.frozen(kw_only=True)
class Mixture:
    """The datasets of a mixture, and their shares.

    Attributes:
        names: their names.
        weights: their shares, as integers.
        repeats: whether each is read again within an epoch.
        costs: by dataset, the cost of each of its samples: 1, the number of samples in a packed row, or the tokens; None
            for streamed data. In the training data the samples of the first dataset come first, and so on.
    """

    names: tuple[str, ...]
    weights: tuple[int, ...]
    repeats: tuple[bool, ...]
    costs: tuple[npt.NDArray[np.int64], ...] | None = attrs.field(default=None, repr=False, eq=False)

    @property
    def shares(self) -> dict[str, float]:
        """The share of each dataset, by its name."""
        return {name: weight / sum(self.weights) for name, weight in zip(self.names, self.weights, strict=True)}

    @functools.cached_property
    def epoch_length(self) -> int:
        """The number of samples until each dataset has been read to its end at least once.

        It does not depend on a seed: with shares of tokens it is that of the order of the files.
        """
        return Order(self, None).count_round()


@attrs.define
class _Place:
    """A position in the order: whose turn it is, and the samples of each dataset before it."""

    turns: Turns
    read: list[int]

    def copy(self) -> _Place:
        return _Place(self.turns.copy(), [*self.read])


class Order:
    """The endless order of a mixture, and the part of it that each epoch takes.

    Args:
        mixture: the datasets; their costs are known.
        seed: seed of the shuffling within each dataset; None keeps the order of its files.
    """

    def __init__(self, mixture: Mixture, seed: int | None) -> None:
        assert mixture.costs is not None  # noqa: S101 - for the type checker: the data is not streamed
        self._mixture = mixture
        self._costs = mixture.costs
        self._seed = seed
        sizes = [len(costs) for costs in mixture.costs]
        self._sizes = sizes
        self._starts = [0, *itertools.accumulate(sizes)]
        turns = Turns.begin(mixture.weights, mixture.repeats, sizes)
        self._begun = {0: _Place(turns, [0] * len(sizes))}

    def count_round(self) -> int:
        """Return the number of samples until each dataset has been read to its end at least once."""
        place = self._begun[0].copy()
        return 1 + sum(1 for _ in itertools.takewhile(lambda _: not place.turns.rounds, self._walk(place)))

    @property
    def epoch_length(self) -> int:
        """The number of samples in an epoch."""
        return self._mixture.epoch_length

    def epoch(self, number: int) -> Iterator[int]:
        """Yield the indices of an epoch's samples in the training data; the first epoch is number 0."""
        nearest = max(known for known in self._begun if known <= number)
        place = self._begun[nearest].copy()
        for _ in itertools.islice(self._walk(place), (number - nearest) * self.epoch_length):
            pass
        self._begun[number] = place.copy()
        yield from itertools.islice(self._walk(place), self.epoch_length)
        self._begun[number + 1] = place

    def _walk(self, place: _Place) -> Iterator[int]:
        """Yield indices from a place on, and move the place along."""
        turns, read = place.turns, place.read
        passes = [self._pass(i, read[i]) for i in range(len(read))]
        costs = [int(self._costs[i][order[read[i] % len(order)]]) for i, order in enumerate(passes)]
        while True:
            i = turns.choose(costs)
            size = self._sizes[i]
            sample = int(passes[i][read[i] % size])
            turns.take(i, costs[i])
            read[i] += 1
            if read[i] % size == 0:
                passes[i] = self._pass(i, read[i])
            costs[i] = int(self._costs[i][passes[i][read[i] % size]])
            yield self._starts[i] + sample

    def _pass(self, i: int, read: int) -> npt.NDArray[np.int64]:
        """Return the order of one pass over a dataset."""
        size, seed = self._sizes[i], self._seed
        return np.arange(size) if seed is None else np.random.default_rng([seed, i, read // size]).permutation(size)

    @property
    def samples(self) -> int:
        """The number of samples in the training data."""
        return self._starts[-1]
