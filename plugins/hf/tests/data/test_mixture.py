"""Mixtures, prepared: each dataset read in its own way, and an order that depends on the position alone."""

import collections
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright import RequestError, TrainRun
from tunewright.providers import MixturePart
from tunewright_hf import DataParams, HuggingFaceTrainParams
from tunewright_hf.config.mixture import part_params

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
data = pytest.importorskip("tunewright_hf.data.mixture")

from tunewright_hf.data import streaming  # noqa: E402 - they need torch
from tunewright_hf.data.mixing.mixture_order import Mixture, Order  # noqa: E402
from tunewright_hf.data.mixing.sampler import MixtureSampler  # noqa: E402
from tunewright_hf.data.mixing.turns import as_integers  # noqa: E402

SIZES = {"sums": 30, "chats": 12, "texts": 7}


@pytest.fixture
def prepare(tmp_path: Path, model_folder: Path) -> Callable[..., object]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)

    def call(parts: tuple[MixturePart, ...], *, eval_dataset: Path | None = None, **given):
        run = TrainRun(mixture=parts, eval_dataset=eval_dataset, output=tmp_path / "out", emit=lambda _: None)
        return data.prepare_all(run, DataParams(**given), tokenizer, 64)

    return call


def order_of(weights, sizes, *, once=(), costs=None, seed=1) -> Order:
    names = tuple(f"d{i}" for i in range(len(sizes)))
    found = costs or [np.ones(size, np.int64) for size in sizes]
    repeats = tuple(i not in once for i in range(len(sizes)))
    return Order(Mixture(names=names, weights=as_integers(weights), repeats=repeats, costs=tuple(found)), seed)


def source_of(indices: list[int], sizes: list[int]) -> list[int]:
    return np.searchsorted(np.cumsum(sizes), indices, side="right").tolist()


SHAPES = st.lists(st.tuples(st.floats(0.1, 9).map(lambda w: round(w, 2)), st.integers(1, 30)), min_size=1, max_size=5)


@settings(max_examples=30)
@given(SHAPES)
def test_shares_are_exact_over_any_1000_samples_of_several_epochs(shape) -> None:
    weights, sizes = (list(column) for column in zip(*shape, strict=True))
    order = order_of(weights, sizes)
    epochs = (order.epoch(n) for n in itertools.count())
    taken = source_of(list(itertools.islice(itertools.chain.from_iterable(epochs), 1200)), sizes)
    rounds = 1 + 1000 // order.epoch_length  # at most so many end in a window, and each begins the shares anew
    counts = np.array([[source == i for i in range(len(sizes))] for source in taken]).cumsum(0)
    shares = 1000 * np.array(weights) / sum(weights)
    window = counts[1000:] - counts[:-1000]
    assert (abs(window - shares) < 2 * (rounds + 1)).all()


def test_a_long_mixture_holds_its_shares_within_a_thousandth() -> None:
    sizes = [70_000, 20_000, 3_000]
    order = order_of([2, 1, 0.5], sizes)
    taken = np.array(source_of(list(itertools.islice(order.epoch(0), 20_000)), sizes))
    for start in range(0, 19_000, 501):
        window = np.bincount(taken[start : start + 1000], minlength=3) / 1000
        assert abs(window - np.array([4, 2, 1]) / 7).max() < 0.002


def test_each_dataset_is_read_whole_before_any_of_its_samples_comes_again() -> None:
    order = order_of([3, 1], [10, 20])
    indices = [i for epoch in range(3) for i in order.epoch(epoch)]
    small = [i for i in indices if i < 10]
    passes = [small[at : at + 10] for at in range(0, len(small) - 9, 10)]
    assert len(passes) > 2
    assert all(sorted(p) == list(range(10)) for p in passes)
    assert passes[0] != passes[1] != passes[2], "shuffled anew each time"
    other = [i for i in order_of([3, 1], [10, 20], seed=2).epoch(0) if i < 10]
    assert other[:10] != passes[0]
    in_order = [i for i in order_of([3, 1], [10, 20], seed=None).epoch(0) if i < 10]
    assert in_order[:20] == [*range(10), *range(10)]


@pytest.mark.parametrize(
    ("weights", "once", "length"),
    [
        ([1, 1], (), 40),  # until the larger has been read: the smaller one four times
        ([3, 1], (), 80),
        ([1, 1], (0, 1), 25),  # each once: a shuffled concatenation
        ([1, 1], (0,), 25),
        ([5, 20], (), 25),  # by their sizes
    ],
)
def test_an_epoch_ends_once_every_dataset_has_been_read(weights, once, length: int) -> None:
    order = order_of(weights, [5, 20], once=once)
    assert order.epoch_length == length
    for epoch in range(3):
        counts = np.bincount(list(order.epoch(epoch)), minlength=25)
        assert counts.sum() == length
        assert counts.min() >= 1
        assert all(counts[:5] == 1) == (0 in once or length == 25)


def test_an_epoch_is_the_same_whichever_was_read_before_it() -> None:
    whole = order_of([2, 1, 1], [7, 9, 4], once=(1,))
    epochs = [list(whole.epoch(n)) for n in range(4)]
    assert len({tuple(epoch) for epoch in epochs}) == 4
    for n in (3, 1, 2, 3, 0):
        assert list(order_of([2, 1, 1], [7, 9, 4], once=(1,)).epoch(n)) == epochs[n]
        assert list(whole.epoch(n)) == epochs[n]


def test_any_number_of_ranks_takes_the_same_steps() -> None:
    """As accelerate shards a sampler."""
    accelerate = pytest.importorskip("accelerate")
    order = order_of([2, 1], [13, 9])
    blanks = -order.epoch_length % 8

    def steps(ranks: int) -> list[set[int]]:
        batches = []
        for rank in range(ranks):
            sampler = MixtureSampler(order, blanks, lambda: 1)
            batch = torch.utils.data.BatchSampler(sampler, 8 // ranks, drop_last=False)
            batches.append(list(accelerate.data_loader.BatchSamplerShard(batch, ranks, rank)))
        return [sorted(i for rank in batches for i in rank[step]) for step in range(len(batches[0]))]

    assert steps(1) == steps(2) == steps(4)
    assert len(steps(1)) == (order.epoch_length + blanks) / 8


def test_shares_of_tokens() -> None:
    rng = np.random.default_rng(1)
    costs = [rng.integers(1, 20, 300), rng.integers(50, 64, 300)]
    order = order_of([1, 1], [300, 300], costs=costs)
    indices = np.array(list(order.epoch(0))[:1000])
    tokens = np.concatenate(costs)[indices]
    share = tokens[indices < 300].sum() / tokens.sum()
    assert abs(share - 0.5) < 0.01
    assert (indices < 300).mean() > 0.8, "more of the short ones"


def test_datasets_are_read_in_their_own_formats_and_know_where_they_come_from(prepare, mixture) -> None:
    found = prepare(mixture(sums=2, chats=1, texts=1))
    assert found.format == "chat"
    assert {name: c["train"].samples for name, c in found.parts.items()} == SIZES
    assert found.counts["train"].samples == len(found.train) == 49
    assert collections.Counter(found.train["source"]) == {0: 30, 1: 12, 2: 7}
    assert collections.Counter(found.evaluation["source"]) == {0: 6, 1: 4}
    assert found.known_samples == 59, "30 sums are half of it, and the last of them comes first"
    supervised = [sum(label != -100 for label in labels) / len(labels) for labels in found.train["labels"]]
    assert min(supervised[42:]) == 1 > max(supervised[:42]), "texts count as a whole, and answers of the others"
    assert dict(found.mixture.shares) == {"sums": 0.5, "chats": 0.25, "texts": 0.25}


def test_without_weights_the_shares_are_those_of_the_sizes(prepare, mixture) -> None:
    parts = mixture(sums=None, chats=None, texts=None)
    found = prepare(parts)
    assert found.mixture.weights == (30, 12, 7)
    assert found.known_samples == 49
    by_tokens = prepare(parts, mix_by="tokens").mixture.weights
    assert by_tokens == tuple(sum(found.train["length"][a:b]) for a, b in ((0, 30), (30, 42), (42, 49)))


def test_packed_rows_count_as_their_samples(prepare, mixture) -> None:
    found = prepare(mixture(sums=1, texts=1), packing=True)
    assert {i: sum(costs) for i, costs in enumerate(found.mixture.costs)} == {0: 30, 1: 7}
    assert len(found.mixture.costs[0]) < 30
    rows = [found.train[i] for i in Order(found.mixture, 1).epoch(0)]
    samples = collections.Counter()
    for row in rows:
        samples[row["source"]] += len(row["segments"])
    assert abs(samples[0] - samples[1]) <= 2 * max(map(max, found.mixture.costs))


def test_weights_may_change_without_tokenising_again(prepare, mixture, tmp_path: Path) -> None:
    first = prepare(mixture(sums=2, chats=1))
    folders = sorted((tmp_path / "out" / "tokenised").iterdir())
    second = prepare(mixture(sums=1, chats=3))
    assert sorted((tmp_path / "out" / "tokenised").iterdir()) == folders
    assert first.digest != second.digest


def test_an_evaluation_dataset_is_read_by_the_options_of_the_job(prepare, mixture, sources) -> None:
    found = prepare(mixture(chats=1, texts=1), eval_dataset=sources["sums"])
    assert found.counts["evaluation"].samples == 6
    assert "source" not in found.evaluation.column_names
    with pytest.raises(RequestError, match=r"dataset\[0\].data.eval_fraction=0.5: stands beside eval_dataset"):
        prepare(
            tuple(attrs.evolve(p, data={"eval_fraction": 0.5}) for p in mixture(chats=1, texts=1)),
            eval_dataset=sources["sums"],
        )


def test_an_error_names_the_dataset_of_the_list(prepare, mixture, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "data.jsonl").write_text('{"text": ""}\n')
    parts = (*mixture(sums=1), MixturePart(slot="dataset_2", name="bad", weight=1, folder=bad))
    with pytest.raises(RequestError, match=r"^dataset\[1\]: its only row leaves nothing to learn"):
        prepare(parts)
    (bad / "data.jsonl").write_text('{"x": "", "z": ""}\n')
    with pytest.raises(RequestError, match=r"^dataset\[1\]: has no column"):
        prepare(parts)
    with pytest.raises(RequestError, match=r"^dataset\[1\]: has no column"):
        HuggingFaceTrainParams().check_mixture(parts)


def test_options_of_a_dataset_go_before_those_of_the_trainer() -> None:
    job = DataParams(
        prompt_column="q", completion_template="{a}", max_length=77, train_split="old", ignore_columns=["x"]
    )
    own = {"prompt_template": "{x}: {y}", "columns": {"completion": "z"}, "train_split": "train"}
    found = part_params(MixturePart(slot="dataset_1", name="a", data=own), job)
    assert found == DataParams(
        prompt_template="{x}: {y}", completion_column="z", max_length=77, train_split="train", ignore_columns=["x"]
    )
    assert part_params(MixturePart(slot="dataset_1", name="a"), job) == job


@pytest.mark.parametrize(
    ("own", "more", "message"),
    [
        (
            {"packing": True},
            {},
            r"dataset\[1\].data.packing=True: is the same for all .* Give it once: trainer.data.packing",
        ),
        ({"max_length": 3}, {}, r"dataset\[1\].data.max_length=3: is the same for all datasets"),
        ({"formt": "text"}, {}, r"dataset\[1\].data.formt: is not a field"),
        ({"format": "preference"}, {}, r"dataset\[1\]: has preference pairs"),
        ({"format": "txt"}, {}, r"dataset\[1\].data.format='txt': is not a format"),
        ({}, {"transformer_type": "AutoModelForSequenceClassification"}, "dataset: is a list of datasets, but class"),
        (
            {},
            {"train_sampling_strategy": "batch_rebalance"},
            "train_sampling_strategy='batch_rebalance': does not work",
        ),
        ({}, {"data": {"mix_by": "rows"}}, "mix_by='rows': is not something to share by. Give one of: samples, tokens"),
        ({}, {"data": {"streaming": True}, "max_steps": 3}, r"dataset\[0\].weight: is missing: shares by size need"),
    ],
)
def test_what_a_mixture_cannot_do_is_refused_on_the_client(own, more, message: str) -> None:
    parts = [MixturePart(slot="dataset_1", name="a"), MixturePart(slot="dataset_2", name="b", data=own)]
    with pytest.raises(RequestError, match=message):
        HuggingFaceTrainParams(**more).check_mixture(parts)


def test_preference_pairs_are_refused_by_their_columns(mixture, dataset_of) -> None:
    pairs = dataset_of([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    parts = (*mixture(sums=1), MixturePart(slot="dataset_2", name="pairs", weight=1, folder=pairs))
    with pytest.raises(RequestError, match=r"dataset\[1\]: has preference pairs, which cannot be mixed"):
        HuggingFaceTrainParams(transformer_class="trl:DPOTrainer").check_mixture(parts)


def test_a_preview_shows_each_dataset_in_its_own_format(mixture, model_folder: Path, tmp_path: Path) -> None:
    run = TrainRun(model=model_folder, mixture=mixture(sums=2, texts=1), output=tmp_path, emit=lambda _: None)
    shown = list(itertools.islice(HuggingFaceTrainParams().preview(run), 4))
    assert [s.about.partition(";")[0] for s in shown] == ["sums: format chat", "texts: format text", "", ""]
    assert [s.supervised == s.tokens - 1 for s in shown] == [False, True, False, True]


def test_the_check_encodes_the_first_rows_of_each_dataset(
    mixture, dataset_of, model_folder: Path, tmp_path: Path
) -> None:
    bad = dataset_of([{"messages": [{"role": "user", "content": "a"}]}, {"messages": [{"role": "x", "content": "a"}]}])
    parts = (*mixture(sums=1), MixturePart(slot="dataset_2", name="bad", weight=1, folder=bad))
    run = TrainRun(model=model_folder, mixture=parts, output=tmp_path / "out", emit=lambda _: None)
    with pytest.raises(RequestError, match=r"^dataset\[1\].*line 2 of .*data.jsonl"):
        HuggingFaceTrainParams().check(run)
    HuggingFaceTrainParams(eval_strategy="epoch").check(attrs.evolve(run, mixture=mixture(sums=1, texts=1)))


@pytest.fixture
def streamed(prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., streaming.Stream]:
    """A streamed mixture in steps of one sample, with windows of 5 rows."""
    monkeypatch.setattr(streaming, "_WINDOW", 5)

    def call(parts, steps: int, *, seed: int | None = 1, given=(), state=None) -> streaming.Stream:
        source = prepare(parts, streaming=True, **dict(given)).train
        notes = tmp_path / "notes.json"
        plan = streaming.StreamPlan(
            step=1, steps=steps, seed=seed, vocabulary=400, ahead=4, notes=notes, window=source.begin()
        )
        if state is not None:
            passed, window, skipped = state
            plan = attrs.evolve(plan, passed=passed, window=source.window_of(window), skipped=skipped)
        return source.stream(plan)

    return call


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "once"),
    [
        pytest.param({}, (), marks=pytest.mark.slow),
        pytest.param({}, ("chats",), marks=pytest.mark.slow),
        pytest.param({"mix_by": "tokens"}, (), marks=pytest.mark.slow),
        ({"mix_by": "tokens"}, ("texts",)),  # what is more than the others have
    ],
)
def test_a_streamed_mixture_has_the_samples_and_the_order_of_one_on_disk(
    given, once, prepare, streamed, mixture
) -> None:
    parts = mixture(sums=2, chats=1.5, texts=1, once=once)
    found = prepare(parts, **given)
    order = Order(found.mixture, None)
    on_disk = [found.train[i] for epoch in range(2) for i in order.epoch(epoch)]
    assert list(streamed(parts, len(on_disk), seed=None, given=given)) == on_disk


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        {},
        pytest.param({"mix_by": "tokens", "shuffle_buffer": 11}, marks=pytest.mark.slow),
        pytest.param({"packing": True}, marks=pytest.mark.slow),
    ],
)
def test_any_place_of_a_streamed_mixture_is_found_again(given, streamed, mixture) -> None:
    parts = mixture(sums=2, chats=1, texts=1, once=("texts",))
    whole = list(streamed(parts, 90, given=given))
    assert {s["source"] for s in whole} == {0, 1, 2}
    for step in (1, 70):
        cut = streamed(parts, 90, given=given)
        assert list(itertools.islice(cut, step + 2)) == whole[: step + 2], "two are read ahead"
        window, skipped = cut.window_at(step)
        saved = json.loads(json.dumps(attrs.asdict(window)))
        resumed = streamed(parts, 90, given=given, state=(step, saved, skipped))
        assert list(resumed)[step:] == whole[step:]


def test_shares_of_a_streamed_mixture_are_exact(streamed, mixture) -> None:
    parts = mixture(sums=2, chats=1)
    taken = [s["source"] for s in streamed(parts, 90)]
    assert [taken.count(i) for i in range(2)] == pytest.approx([60, 30], abs=2), "two rounds"
