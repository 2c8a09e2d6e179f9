"""Whose turn it is in a mixture: shares that hold at any time, whatever the weights, lengths and sizes are."""

import itertools
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright_hf.data.mixing.turns import Turns, as_integers

WEIGHTS = st.lists(st.floats(0.001, 1000).map(lambda w: float(f"{w:.4g}")), min_size=1, max_size=7)
MANY = 10**12


def walk(turns: Turns, lengths: Iterator[int] | None = None) -> Iterator[tuple[int, int]]:
    """Whose turn it is, and the cost, without end."""
    costs = [1 if lengths is None else next(lengths) for _ in turns.weights]
    while True:
        i = turns.choose(costs)
        turns.take(i, costs[i])
        yield i, costs[i]
        costs[i] = 1 if lengths is None else next(lengths)


@given(WEIGHTS)
def test_at_any_time_each_share_is_off_by_less_than_one_sample(weights: list[float]) -> None:
    integers = as_integers(weights)
    total, taken = sum(integers), [0] * len(integers)
    turns = Turns.begin(integers, [True] * len(integers), [MANY] * len(integers))
    for count, (i, _) in enumerate(itertools.islice(walk(turns), 400), start=1):
        taken[i] += 1
        assert all(abs(n * total - w * count) < total for n, w in zip(taken, integers, strict=True))


@given(WEIGHTS, st.data())
def test_shares_of_tokens_are_off_by_less_than_the_longest_sample(weights: list[float], data) -> None:
    integers = as_integers(weights)
    lengths = data.draw(st.lists(st.integers(1, 1000), min_size=1, max_size=30))
    total, given_, longest = sum(integers), [0] * len(integers), max(lengths)
    turns = Turns.begin(integers, [True] * len(integers), [MANY] * len(integers))
    for i, cost in itertools.islice(walk(turns, itertools.cycle(lengths)), 300):
        given_[i] += cost
        tokens = sum(given_)
        assert all(abs(n - w * tokens / total) <= longest for n, w in zip(given_, integers, strict=True))


@given(
    st.lists(st.tuples(st.integers(1, 20), st.booleans(), st.integers(1, 9)), min_size=1, max_size=5),
)
def test_a_round_reads_each_dataset_to_its_end_and_those_without_repeat_once(parts) -> None:
    sizes, repeats, weights = (list(column) for column in zip(*parts, strict=True))
    turns, rounds = Turns.begin(weights, repeats, sizes), []
    for number in (1, 2):
        taken: list[int] = []
        while turns.rounds < number:
            taken.append(turns.choose([1] * len(sizes)))
            turns.take(taken[-1], 1)
        rounds.append(taken)
    counts = [rounds[0].count(i) for i in range(len(sizes))]
    assert all(n >= size for n, size in zip(counts, sizes, strict=True))
    assert all(n == size for n, size, again in zip(counts, sizes, repeats, strict=True) if not again)
    assert counts[rounds[0][-1]] == sizes[rounds[0][-1]], "a round ends with the last sample that was missing"
    assert rounds[0] == rounds[1], "each round has the same order"


def test_sizes_that_become_known_give_the_order_of_those_that_were() -> None:
    known, found = (Turns.begin([3, 1, 2], [True, False, True], sizes) for sizes in ([5, 2, 9], [None] * 3))
    read = [0, 0, 0]
    for _ in range(60):
        i = known.choose([1, 1, 1])
        assert found.choose([1, 1, 1]) == i
        known.take(i, 1)
        found.take(i, 1)
        read[i] += 1
        if read[i] == (5, 2, 9)[i]:
            found.found_end(i)
        assert found.rounds == known.rounds
    assert known.rounds > 1
    assert found.sizes == [5, 2, 9]


@given(st.integers(0, 50))
def test_a_state_that_is_saved_goes_on_where_it_was(count: int) -> None:
    turns = Turns.begin([3, 1, 2], [True, False, True], [5, 2, None])
    list(itertools.islice(walk(turns), count))
    saved = Turns.of(json.loads(json.dumps(turns.state())))
    assert saved == turns
    assert list(itertools.islice(walk(saved), 30)) == list(itertools.islice(walk(turns), 30))


@pytest.mark.parametrize(
    ("weights", "integers"),
    [
        ([2, 1, 0.5], (4, 2, 1)),
        ([0.1, 0.2], (1, 2)),
        ([1e-3, 1e3], (1, 1_000_000)),
        ([0.7], (7,)),
        ([30, 12], (30, 12)),
    ],
)
def test_weights_become_integers_in_the_same_proportions(weights, integers) -> None:
    found = as_integers(weights)
    assert [f * integers[0] for f in found] == [i * found[0] for i in integers]
