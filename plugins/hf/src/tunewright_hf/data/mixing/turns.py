"""The order of a mixture: which dataset the next sample is taken from.

Each dataset has a share. Its n-th sample is due at the time by which its share amounts to n samples, and must not come before
the time at which its share exceeds n - 1. Of those that may come now, the one that is due first is taken. So at any time the
samples of each dataset differ from its share by less than one sample (Baruah et al. 1996, "Proportionate progress": unit jobs
by earliest deadline). If shares are counted in tokens, a sample takes as much time as it has tokens, and the difference is
about the longest sample (Bennett and Zhang 1996, "WF2Q").

The order depends on the numbers of samples and tokens alone: not on the ranks, nor on what was interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import attrs


def as_integers(weights: Sequence[float]) -> tuple[int, ...]:
    """Return integers in the same proportions, so that no rounding can change the order."""
    exact = [Fraction(str(weight)) for weight in weights]
    common = math.lcm(*(weight.denominator for weight in exact))
    return tuple(int(weight * common) for weight in exact)


@attrs.define(kw_only=True)
class Turns:
    """Whose turn it is.

    A round ends once every dataset has been read to its end at least once. Those that are not repeated take part until
    then only, and the others share what is left.

    Attributes:
        weights: shares, as integers.
        repeats: whether each dataset is read again within a round.
        sizes: samples of each dataset; None while that is unknown.
        given: cost of the samples of each dataset since the shares last changed.
        taken: samples of each dataset in this round.
        rounds: complete rounds.
    """

    weights: tuple[int, ...]
    repeats: tuple[bool, ...]
    sizes: list[int | None]
    given: list[int]
    taken: list[int]
    rounds: int = 0
    _active: list[int] = attrs.field(init=False, eq=False)
    _total: int = attrs.field(init=False, eq=False)

    @classmethod
    def begin(cls, weights: Sequence[int], repeats: Sequence[bool], sizes: Sequence[int | None]) -> Turns:
        """Return the state before the first sample."""
        given, taken = [0] * len(weights), [0] * len(weights)
        return cls(weights=tuple(weights), repeats=tuple(repeats), sizes=list(sizes), given=given, taken=taken)

    def __attrs_post_init__(self) -> None:
        """Find out which datasets take part."""
        self._share()

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Turns:
        """Return the state that `state` wrote."""
        fixed = {name: tuple(state[name]) for name in ("weights", "repeats")}
        return cls(**{**state, **fixed}).copy()

    def state(self) -> dict[str, object]:
        """Return the state as JSON values."""
        return attrs.asdict(self.copy(), filter=lambda field, _: field.init)

    def copy(self) -> Turns:
        """Return a copy that goes its own way."""
        return attrs.evolve(self, sizes=[*self.sizes], given=[*self.given], taken=[*self.taken])

    def _share(self) -> None:
        self._active = [i for i in range(len(self.weights)) if self.repeats[i] or not self._is_read(i)]
        self._total = sum(self.weights[i] for i in self._active)

    def _is_read(self, i: int) -> bool:
        size = self.sizes[i]
        return size is not None and self.taken[i] >= size

    def choose(self, costs: Sequence[int]) -> int:
        """Return the dataset of the next sample.

        Args:
            costs: the cost of each dataset's next sample: 1, or its tokens.
        """
        given, total, chosen, due = self.given, self._total, -1, 0
        now = sum(given)
        for i in self._active:
            weight, got = self.weights[i], given[i]
            if got * total // weight > now:
                continue  # it is ahead of its share
            deadline = -(-(got + costs[i]) * total // weight)
            if chosen < 0 or deadline < due:
                chosen, due = i, deadline
        return chosen

    def take(self, i: int, cost: int) -> None:
        """Count a sample."""
        self.given[i] += cost
        self.taken[i] += 1
        self._end(i)

    def found_end(self, i: int) -> None:
        """Note that a dataset has been read to its end, which is how its size becomes known if it is streamed."""
        if self.sizes[i] is None:
            self.sizes[i] = self.taken[i]
            self._end(i)

    def _end(self, i: int) -> None:
        if self.taken[i] != self.sizes[i]:
            return
        if all(map(self._is_read, range(len(self.weights)))):
            self.rounds += 1
            self.taken = [0] * len(self.weights)
        elif self.repeats[i]:
            return
        self.given = [0] * len(self.weights)
        self._share()
