"""Slices of splits mean what they mean to `datasets`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright import RequestError
from tunewright_hf.config.slices import RowSlice, parse_split

rows = st.none() | st.integers(-40, 40)
percent = st.none() | st.integers(-100, 100)


@given(st.tuples(rows, rows, st.just("")) | st.tuples(percent, percent, st.just("%")), st.integers(0, 250))
def test_a_slice_is_that_of_datasets(ends: tuple[int | None, int | None, str], total: int) -> None:
    datasets = pytest.importorskip("datasets")
    start, stop = ("" if end is None else f"{end}{ends[2]}" for end in ends[:2])
    text = f"train_sft[{start}:{stop}]"
    name, part = parse_split(text, "DataParams.train_split")
    (expected,) = datasets.ReadInstruction.from_spec(text).to_absolute({"train_sft": total})
    found = part.bounds(total)
    assert name == "train_sft"
    assert range(*found) == range(expected.from_, expected.to)
    if not part.needs_total:
        assert (
            found == tuple(min(end, total) for end in (part.start or 0, max(part.stop or 0, part.start or 0)))
            or part.stop is None
        )


@given(st.integers(0, 100), st.integers(100, 1000))
def test_whole_percents_are_those_of_datasets(stop: int, total: int) -> None:
    datasets = pytest.importorskip("datasets")
    text = f"train[:{stop}%](pct1_dropremainder)"
    (expected,) = datasets.ReadInstruction.from_spec(text).to_absolute({"train": total})
    assert parse_split(text, "x")[1].bounds(total) == (expected.from_, expected.to)


def test_a_name_is_all_of_its_rows() -> None:
    assert parse_split("train", "x") == ("train", None)
    assert parse_split("my-split.v2", "x") == ("my-split.v2", None)
    assert parse_split("train[:1_000]", "x") == ("train", RowSlice(stop=1000))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train[3000]", "is not a split or a slice"),
        ("train[:x]", "is not a split or a slice"),
        ("train[:10", "is not a split or a slice"),
        ("", "is not a split or a slice"),
        ("[:10]", "is not a split or a slice"),
        ("train[:110%]", "more than 100 percent"),
        ("train[10:50%]", "in rows and in percent"),
        ("train[:10]+test[:10]", "several slices"),
        ("train[:10](pct1_dropremainder)", "has none"),
    ],
)
def test_what_is_not_a_slice_is_refused_with_what_to_write(text: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as error:
        parse_split(text, "DataParams.train_split")
    assert error.value.remedy
    assert repr(text) in str(error.value)
