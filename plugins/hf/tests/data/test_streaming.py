"""Data that is streamed: the samples of data on disk, each once a pass, on any number of ranks, and after any interruption."""

import collections
import itertools
import json
import operator
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright import RequestError, TrainRun
from tunewright_hf import DataParams, HuggingFaceTrainParams

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
data = pytest.importorskip("tunewright_hf.data.prepare")

from tunewright_hf.data import streaming  # noqa: E402 - they need torch
from tunewright_hf.data.samples import encode  # noqa: E402

STREAMING = {"streaming": True}
GIVEN = {"learning_rate": 1e-2, "logging_steps": 1, "activation_checkpointing": False, "lora_config": {"r": 4}}


@pytest.fixture
def prepare(tmp_path: Path, model_folder: Path) -> Callable[..., object]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)

    def call(folder: Path, **given):
        run = TrainRun(dataset=folder, output=tmp_path / "out", emit=lambda _: None)
        return data.prepare(run, DataParams(**given), tokenizer, 64).train

    return call


@pytest.fixture
def streamed(prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., streaming.Stream]:
    """A stream in steps of one sample, with windows of 3 rows."""
    monkeypatch.setattr(streaming, "_WINDOW", 3)

    def call(folder: Path, steps: int, *, seed: int | None = 1, given=(), **course) -> streaming.Stream:
        source = prepare(folder, **STREAMING, **dict(given))
        notes = tmp_path / "notes.json"
        return streaming.Stream(
            source, streaming.StreamPlan(step=1, steps=steps, seed=seed, vocabulary=400, ahead=4, notes=notes, **course)
        )

    return call


def texts(count: int) -> list[dict[str, object]]:
    """Texts of different lengths; of every fifth there is nothing to learn."""
    return [{"text": f"What is {n}?" * (n % 3 + 1) if n % 5 else ""} for n in range(count)]


def test_a_stream_has_the_samples_of_data_on_disk_and_begins_again(prepare, streamed, dataset_of) -> None:
    folder = dataset_of(texts(23))
    on_disk = prepare(folder).to_list()
    assert list(streamed(folder, 2 * len(on_disk), seed=None)) == [*on_disk, *on_disk]


def test_packed_rows_of_a_stream_have_the_samples_of_data_on_disk(prepare, streamed, dataset_of) -> None:
    folder = dataset_of(texts(23))
    on_disk = [{name: row[name] for name in encode.IDS} for row in prepare(folder)]
    rows = streamed(folder, 99, seed=None, given={"packing": True})
    found: list[dict[str, object]] = []
    for row in rows:
        assert row["length"] == len(row["input_ids"]) == sum(row["segments"]) <= 64
        parts = [torch.tensor(row[name]).split(row["segments"]) for name in encode.IDS]
        found += [{n: t.tolist() for n, t in zip(encode.IDS, both, strict=True)} for both in zip(*parts, strict=True)]
        if len(found) == len(on_disk):
            break
    by_ids = operator.itemgetter("input_ids")
    assert sorted(found, key=by_ids) == sorted(on_disk, key=by_ids)


def test_files_and_rows_are_shuffled_anew_in_each_pass(streamed, dataset_of) -> None:
    for n in range(4):
        folder = dataset_of([{"text": f"What {n} {i}"} for i in range(5)], file=f"data-{n}.jsonl")

    def passes(seed: int | None) -> list[list[tuple[int, ...]]]:
        found = [tuple(s["input_ids"]) for s in streamed(folder, 40, seed=seed, given={"shuffle_buffer": 7})]
        return [found[:20], found[20:]]

    in_order = passes(None)[0]
    first, second = passes(1)
    assert first != second
    assert sorted(first) == sorted(second) == sorted(in_order)
    assert passes(1) == [first, second] != passes(2)


@pytest.mark.slow
@pytest.mark.parametrize("packing", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_any_place_of_a_stream_is_found_again(packing: bool, streamed, dataset_of) -> None:
    for n, count in enumerate((7, 1, 12)):
        folder = dataset_of(texts(count)[1:] or texts(2)[1:], file=f"data-{n}.jsonl")
    given = {"packing": packing, "shuffle_buffer": 5}
    whole = list(streamed(folder, 40, given=given))
    at_the_end = streamed(folder, 40).window_at(40)
    for step in (1, 3, 14, 29):
        cut = streamed(folder, 40, given=given)
        assert list(itertools.islice(cut, step + 2)) == whole[: step + 2], "two are read ahead"
        window, skipped = cut.window_at(step)
        window = streaming.Window.of(json.loads(json.dumps(streaming.attrs.asdict(window))))
        resumed = streamed(folder, 40, given=given, passed=step, window=window, skipped=skipped)
        assert list(resumed)[step:] == whole[step:]
        assert resumed.window_at(40) == at_the_end


def test_a_window_is_not_tokenised_before_its_turn(streamed, dataset_of, monkeypatch) -> None:
    folder = dataset_of(texts(30)[1:])
    seen = []
    tokenise = encode.tokenise_batch
    monkeypatch.setattr(
        streaming, "tokenise_batch", lambda rows, *given: seen.append(len(rows["text"])) or tokenise(rows, *given)
    )
    whole = list(streamed(folder, 20))
    before = len(seen)
    window, skipped = streamed(folder, 20).window_at(18)
    del seen[:]
    resumed = streamed(folder, 20, passed=18, window=window, skipped=skipped)
    assert list(resumed)[18:] == whole[18:]
    assert len(seen) <= 2 < before


def test_what_leaves_nothing_to_learn_is_refused_and_does_not_go_on_for_ever(streamed, dataset_of) -> None:
    with pytest.raises(RequestError, match="none of its 4 rows leaves anything to learn"):
        list(streamed(dataset_of([{"text": ""}] * 4), 10))


def test_tokens_that_the_model_does_not_have_are_refused(streamed, dataset_of) -> None:
    whole = streamed(dataset_of(texts(5)), 10)
    whole.plan = streaming.attrs.evolve(whole.plan, vocabulary=20)
    with pytest.raises(RequestError, match="embeddings for only 20"):
        list(whole)


def test_a_file_that_breaks_off_later_is_refused(streamed, dataset_of) -> None:
    folder = dataset_of(texts(3))
    dataset_of(texts(3), file="later.jsonl")
    with (folder / "later.jsonl").open("a") as file:
        file.write('{"text": "tw')
    with pytest.raises(RequestError, match="cannot be read as json"):
        list(streamed(folder, 10))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "max_steps=None: must be a positive number"),
        ({"max_steps": -1}, "max_steps=-1: must be a positive number"),
        ({"max_steps": 5, "dataloader_num_workers": 2}, "dataloader_num_workers=2: must be 0 or 1"),
        ({"max_steps": 5, "train_sampling_strategy": "group_by_length"}, "must be random or sequential"),
        ({"max_steps": 5, "auto_find_batch_size": True}, "auto_find_batch_size=True: does not work"),
        ({"max_steps": 5, "accelerator_config": {"dispatch_batches": True}}, "dispatch_batches=True: does not work"),
        (
            {"max_steps": 5, "transformer_type": "AutoModelForSequenceClassification"},
            "transformer_type=.*does not work",
        ),
    ],
)
def test_what_does_not_go_with_a_stream_is_refused_at_once(given: dict[str, object], problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        HuggingFaceTrainParams(data=STREAMING, **given)


def test_preference_pairs_are_not_streamed() -> None:
    with pytest.raises(RequestError, match="streaming=True: does not work with preference pairs"):
        HuggingFaceTrainParams(
            data={**STREAMING, "format": "preference"}, transformer_class="trl:DPOTrainer", max_steps=5
        )


@pytest.mark.parametrize("given", [{"shuffle_buffer": 0, "streaming": True}, {"shuffle_buffer": 50}])
def test_a_shuffle_buffer_has_rows_of_a_stream(given: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="shuffle_buffer"):
        DataParams(**given)


def test_a_streamed_training_is_that_of_data_on_disk(train, qa: Path, tmp_path: Path) -> None:
    given = {**GIVEN, "max_steps": 5, "per_device_train_batch_size": 8, "train_sampling_strategy": "sequential"}
    on_disk = train(tmp_path / "on_disk", qa, **given)
    streamed = train(tmp_path / "streamed", qa, **given, data=STREAMING)
    assert streamed.losses == on_disk.losses
    assert [e["eval_loss"] for e in streamed.of("eval")] == [e["eval_loss"] for e in on_disk.of("eval")] != []
    (start,) = streamed.of("start")
    assert (start["total_steps"], start["epochs"]) == (5, 1)
    assert all(e["tokens_per_second"] > 0 and 0 <= e["data_wait"] <= 1 for e in streamed.of("step"))
    card = (streamed.result / "README.md").read_text()
    assert '"streaming": true' in card
    assert '"rows": 41' in card
    assert not (streamed.output / "tokenised").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "workers"),
    [(STREAMING, 0), ({**STREAMING, "packing": True, "max_length": 50}, 1)],
    ids=["unpacked", "packed-read-ahead"],
)
def test_a_streamed_training_goes_on_where_it_was_to_the_same_bits(
    data, workers: int, train, qa: Path, tmp_path: Path
) -> None:
    given = {**GIVEN, "max_steps": 13, "save_steps": 4, "gradient_accumulation_steps": 2, "data": data}
    given |= {"per_device_train_batch_size": 3, "lora_config": {"r": 4, "lora_dropout": 0.1}}
    given |= {"dataloader_num_workers": workers}
    whole = train(tmp_path / "whole", qa, **given)
    assert json.loads((whole.output / "checkpoints" / "checkpoint-12" / "record.json").read_text())["streaming"]
    train(tmp_path / "cut", qa, **given, cut_at=("step", 10))
    again = train(tmp_path / "cut", qa, **given)
    assert [e["resumed_from"] for e in again.of("start")] == [8]
    assert again.losses == {step: loss for step, loss in whole.losses.items() if step > 8}
    weights = [safe(t.result / "adapter_model.safetensors") for t in (again, whole)]
    assert all(torch.equal(weights[0][name], w) for name, w in weights[1].items())


def safe(file: Path) -> dict[str, object]:
    return pytest.importorskip("safetensors.torch").load_file(file)


def test_a_checkpoint_of_other_data_is_not_gone_on_from(train, qa: Path, tmp_path: Path) -> None:
    given = {**GIVEN, "max_steps": 6, "save_steps": 2, "per_device_train_batch_size": 4}
    train(tmp_path / "out", qa, **given, data=STREAMING, cut_at=("step", 3))
    with pytest.raises(RequestError, match="checkpoint-2 was made with other data"):
        train(tmp_path / "out", qa, **given, data={**STREAMING, "shuffle_buffer": 30})


def test_what_a_reading_process_refuses_is_a_bad_request(train, dataset_of, tmp_path: Path) -> None:
    folder = dataset_of([{"text": f"What is {n}?"} for n in range(150)])
    (folder / "later.jsonl").write_text('{"text": "tw')
    given = {**GIVEN, "max_steps": 99, "per_device_train_batch_size": 2, "train_sampling_strategy": "sequential"}
    with pytest.raises(RequestError, match=r"^dataset=.*: cannot be read as json") as refused:
        train(tmp_path / "out", folder, **given, dataloader_num_workers=1, data=STREAMING)
    assert refused.value.field == "dataset"
    assert "later.jsonl" in str(refused.value)
    assert refused.value.remedy


@pytest.mark.slow
def test_an_encoder_decoder_model_is_streamed_to(train, qa: Path, base_of, tmp_path: Path) -> None:
    given = {"max_steps": 4, "per_device_train_batch_size": 8, "train_sampling_strategy": "sequential"}
    given |= {"logging_steps": 1, "transformer_type": "AutoModelForSeq2SeqLM", "model": base_of("t5")}
    on_disk = train(tmp_path / "on_disk", qa, **given)
    assert train(tmp_path / "streamed", qa, **given, data=STREAMING).losses == on_disk.losses


# Two passes of the 41 rows of `qa`, and 14 more.
ON_RANKS = {**GIVEN, "max_steps": 12, "save_strategy": "no", "data": {**STREAMING, "shuffle_buffer": 15}}


def losses(events: list[dict[str, object]]) -> list[float]:
    return [float(e["loss"]) for e in events if e["event"] == "step"]


@pytest.mark.slow
@pytest.mark.parametrize("packing", [False, True])
def test_any_number_of_ranks_streams_the_same_training(packing: bool, job, train, qa: Path, tmp_path: Path) -> None:
    given = {**ON_RANKS, "data": {**ON_RANKS["data"], "packing": packing, "max_length": 50}, "learning_rate": 1e-3}
    alone = train(tmp_path / "alone", qa, **given, per_device_train_batch_size=8)
    several = job("several", 2, **given, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    events = several.finish()
    assert losses(events) == pytest.approx(list(alone.losses.values()), abs=1e-5)
    evaluations = [e["eval_loss"] for e in events if e["event"] == "eval"]
    assert evaluations == pytest.approx([e["eval_loss"] for e in alone.of("eval")], abs=1e-5)
    if not packing:
        tokenizer = transformers.AutoTokenizer.from_pretrained(several.workspace / "model")
        rows = [json.loads(line) for line in (qa / "train.jsonl").read_text().splitlines()]
        ids = [[*tokenizer(r["prompt"])["input_ids"], *tokenizer(r["completion"])["input_ids"], 1] for r in rows]
        seen = [tuple(s) for r in range(2) for s in json.loads((several.workspace / f"seen-{r}").read_text())]
        times = collections.Counter(seen)
        assert sorted(times[tuple(i)] for i in ids) == [2] * 27 + [3] * 14, "once a pass"


@pytest.mark.slow
def test_ranks_that_are_told_to_end_go_on_in_the_stream_where_they_were(job) -> None:
    given = {**ON_RANKS, "max_steps": 40, "per_device_train_batch_size": 3, "dataloader_num_workers": 1}
    whole = job("whole", 2, **given)
    expected = losses(whole.finish())
    cut = job("cut", 2, **given)
    last = cut.be_told_to_end()
    assert losses(cut.finish()) == expected[last:]
    assert all(torch.equal(cut.weights[name], w) for name, w in whole.weights.items())
