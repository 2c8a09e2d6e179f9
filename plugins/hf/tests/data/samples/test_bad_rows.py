"""Rows that cannot be used: refused with their file and row wherever they are read, or left out and counted by reason."""

import gzip
import json
import logging
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright import RequestError, TrainRun
from tunewright_hf import DataParams, HuggingFaceTrainParams

datasets = pytest.importorskip("datasets")
transformers = pytest.importorskip("transformers")
data = pytest.importorskip("tunewright_hf.data.prepare")

from tunewright_hf.data import streaming  # noqa: E402 - they need torch
from tunewright_hf.data.reading.files import Split, training_split  # noqa: E402
from tunewright_hf.data.reading.load import load_rows  # noqa: E402
from tunewright_hf.data.samples import encode  # noqa: E402
from tunewright_hf.data.samples.bad_rows import Place, places_of  # noqa: E402

GOOD = {"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "The sum."}]}
UNKNOWN = {"messages": [{"role": "Kunde", "content": "What?"}, {"role": "assistant", "content": "The sum."}]}
NO_ANSWER = {"messages": [{"role": "user", "content": "What?"}, {"role": "user", "content": "What?"}]}
OF_AN_UNKNOWN_ROLE = "column 'messages' holds a message of an unknown role"
WITHOUT_ANSWER = "nothing to learn, because there is no text or no answer"


@pytest.fixture
def tokenizer(model_folder: Path):
    return transformers.AutoTokenizer.from_pretrained(model_folder)


@pytest.fixture
def prepare(tmp_path: Path, tokenizer) -> Callable[..., object]:
    def call(folder: Path, *, max_length: int = 64, eval_dataset: Path | None = None, **fields):
        run = TrainRun(dataset=folder, eval_dataset=eval_dataset, output=tmp_path / "out", emit=lambda _: None)
        return data.prepare(run, DataParams(**fields), tokenizer, max_length)

    return call


@pytest.fixture
def stream(prepare, tmp_path: Path) -> Callable[..., streaming.Stream]:
    def call(folder: Path, steps: int, **fields) -> streaming.Stream:
        source = prepare(folder, streaming=True, **fields).train
        plan = {"step": 1, "steps": steps, "seed": 1, "vocabulary": 400, "ahead": 4}
        return streaming.Stream(source, streaming.StreamPlan(**plan, notes=tmp_path / "notes.json"))

    return call


def write(folder: Path, name: str, rows: Sequence[dict[str, object]]) -> Path:
    """Write rows in the form that the name says."""
    folder.mkdir(exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    file = folder / name
    if name.endswith(".parquet"):
        datasets.Dataset.from_list(list(rows)).to_parquet(file)
    elif name.endswith(".csv"):
        datasets.Dataset.from_list(list(rows)).to_csv(file, index=False)
    elif name.endswith(".gz"):
        file.write_bytes(gzip.compress(lines.encode()))
    elif name.endswith(".zip"):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("rows.jsonl", lines)
    elif name.endswith(".json"):
        file.write_text(json.dumps(list(rows), indent=1))
    else:
        file.write_text(lines)
    return file


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("train.jsonl", r"line 4 of .*/train\.jsonl"),
        ("train.jsonl.gz", r"line 4 of .*/train\.jsonl\.gz"),
        ("train.zip", r"line 4 of .*/train\.zip/rows\.jsonl"),
        ("train.json", r"row 4 \(line 38\) of .*/train\.json"),
        ("train.parquet", r"row 4 of .*/train\.parquet"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_with_its_file_and_row(
    name: str, place: str, prepare, stream, model_folder: Path, tmp_path: Path
) -> None:
    file = write(tmp_path / "dataset", name, [GOOD, GOOD, GOOD, UNKNOWN, GOOD])
    run = TrainRun(model=model_folder, dataset=file.parent, output=tmp_path / "other", emit=lambda _: None)
    ways = {
        "training": lambda: prepare(file.parent),
        "streaming": lambda: list(stream(file.parent, 10)),
        "check": lambda: HuggingFaceTrainParams().check(run),
        "preview": lambda: list(HuggingFaceTrainParams().preview(run)),
    }
    for way, read in ways.items():
        with pytest.raises(RequestError, match=rf"an unknown role: 'Kunde' \({place}\).*on_bad_row: drop") as refused:
            read()
        assert 'trainer.data.roles: {"Kunde": "user"}' in str(refused.value), way


def test_blank_lines_and_lists_do_not_shift_the_line(prepare, tmp_path: Path) -> None:
    file = write(tmp_path / "dataset", "train.jsonl", [GOOD, GOOD])
    file.write_text(file.read_text().replace("\n", "\n\n\n") + json.dumps(UNKNOWN))
    with pytest.raises(RequestError, match=r"row 3 \(line 7\) of"):
        prepare(file.parent)


def test_saved_rows_are_told_by_their_number(prepare, tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": [1]}, {"prompt": "a", "completion": [2]}]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "dataset"))
    with pytest.raises(RequestError, match=r"holds a list where a text is needed: \[1\] \(row 1 of .*/dataset\)"):
        prepare(tmp_path / "dataset")


PARTS = [
    {},
    {"train_split": "train[3:]"},
    {"train_split": "train[-4:]"},
    {"train_split": "train[20%:]"},
    {"max_samples": 8},
    {"eval_fraction": 0.3},
    {"eval_fraction": 0.3, "train_split": "train[2:9]"},
]


@pytest.mark.parametrize("fields", PARTS, ids=str)
@pytest.mark.parametrize("name", ["{}.jsonl", "{}.csv", "{}.parquet", "{}.txt"])
def test_the_place_of_every_row_is_told(name: str, fields: dict[str, object], tmp_path: Path) -> None:
    """Each row says itself where it stands; all of them are asked for at once."""
    folder, cache = tmp_path / "dataset", tmp_path / "cache"
    for part, size in (("a", 4), ("b", 1), ("c", 6)):
        rows = [{"text": f"{part} {row}"} for row in range(1, size + 1)]
        file = write(folder, name.format(part), rows)
        if file.suffix == ".txt":
            file.write_text("".join(f"{row['text']}\n" for row in rows))
    split = training_split(folder, DataParams(**fields))
    for is_streamed in (False, True):
        rows = list(load_rows(split, "dataset", cache, streaming=is_streamed))
        places = places_of(split, range(len(rows)), cache, streaming=is_streamed)
        assert [f"{places[i].file.stem} {places[i].row}" for i in range(len(rows))] == [row["text"] for row in rows]


@given(lines=st.lists(st.integers(1, 3), min_size=1, max_size=8))
@settings(max_examples=20, deadline=None)
def test_the_line_of_a_csv_row_counts_the_lines_of_the_rows_before(tmp_path_factory, lines: list[int]) -> None:
    file = tmp_path_factory.mktemp("rows") / "train.csv"
    file.write_text("text,more\n" + "".join('"' + "\n".join("a" * count) + '",b\n' for count in lines))
    split = Split("csv", (file,))
    expected = [Place(file=file, row=i + 1, line=2 + sum(lines[:i])) for i in range(len(lines))]
    found = places_of(split, range(len(lines)), file.parent)
    assert [found[i] for i in range(len(lines))] == expected


def test_dropped_rows_are_counted_by_reason(prepare, dataset_of, caplog: pytest.LogCaptureFixture) -> None:
    folder = dataset_of([GOOD, UNKNOWN, NO_ANSWER, GOOD, UNKNOWN, GOOD])
    with caplog.at_level(logging.WARNING, "tunewright_hf"):
        prepared = prepare(folder, on_bad_row="drop")
    counts = prepared.counts["train"]
    assert (counts.rows, counts.samples, counts.dropped, len(prepared.train)) == (6, 3, 3, 3)
    assert counts.reasons == {OF_AN_UNKNOWN_ROLE: 2, WITHOUT_ANSWER: 1}
    assert f"3 of 6 rows dropped (2 {OF_AN_UNKNOWN_ROLE}; 1 {WITHOUT_ANSWER})" in caplog.text
    assert f"for example: {OF_AN_UNKNOWN_ROLE}: line 2 of {folder}/data.jsonl" in caplog.text


def test_rows_of_evaluation_data_are_dropped_and_refused_alike(prepare, dataset_of) -> None:
    train, evaluation = dataset_of([GOOD]), dataset_of([GOOD, UNKNOWN], name="evaluation")
    with pytest.raises(RequestError, match=r"line 2 of .*/evaluation/data\.jsonl"):
        prepare(train, eval_dataset=evaluation)
    counts = prepare(train, eval_dataset=evaluation, on_bad_row="drop").counts["evaluation"]
    assert (counts.samples, counts.reasons) == (1, {OF_AN_UNKNOWN_ROLE: 1})


def test_what_does_not_fit_is_a_reason_of_its_own(prepare, dataset_of) -> None:
    folder = dataset_of([{"prompt": "What is 1? " * 40, "completion": " 2."}, {"prompt": "What?", "completion": " 2."}])
    counts = prepare(folder, max_length=32).counts["train"]
    assert counts.reasons == {"nothing to learn within max_length=32": 1}


def test_a_dataset_all_rows_of_which_are_dropped_is_refused_with_the_reasons(prepare, stream, dataset_of) -> None:
    folder = dataset_of([UNKNOWN, UNKNOWN, NO_ANSWER])
    expected = rf"none of its 3 rows.*2 {OF_AN_UNKNOWN_ROLE}; 1 nothing to learn.*on_bad_row: refuse"
    with pytest.raises(RequestError, match=expected):
        prepare(folder, on_bad_row="drop")
    with pytest.raises(RequestError, match=expected):
        list(stream(folder, 2, on_bad_row="drop"))


@pytest.mark.slow  # starts processes
def test_several_processes_count_as_one_does(prepare, dataset_of, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[GOOD, UNKNOWN, NO_ANSWER, GOOD][i % 4] for i in range(50)]
    alone = prepare(dataset_of(rows), on_bad_row="drop")
    monkeypatch.setattr(encode, "_ROWS_PER_PROCESS", 20)
    monkeypatch.setattr(encode.os, "sched_getaffinity", lambda _: range(2))
    folder = dataset_of(rows, name="again")
    together = prepare(folder, on_bad_row="drop")
    assert together.counts == alone.counts
    assert together.counts["train"].reasons == {OF_AN_UNKNOWN_ROLE: 13, WITHOUT_ANSWER: 12}
    with pytest.raises(
        RequestError, match=r"\(line (2|30) of .*/again/data\.jsonl\)"
    ):  # each process begins with its own
        prepare(folder)


def test_packed_rows_have_the_same_counts(prepare, dataset_of) -> None:
    folder = dataset_of([GOOD, UNKNOWN, GOOD, NO_ANSWER, GOOD])
    counts = prepare(folder, on_bad_row="drop", packing=True).counts["train"]
    assert (counts.samples, counts.dropped, counts.packed_rows) == (3, 2, 1)
    assert counts.reasons == {OF_AN_UNKNOWN_ROLE: 1, WITHOUT_ANSWER: 1}


@pytest.mark.parametrize("fields", [{}, {"packing": True}, {"shuffle_buffer": 3}], ids=str)
def test_a_stream_counts_what_it_drops(
    fields: dict[str, object], stream, dataset_of, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(3):
        folder = dataset_of([GOOD, GOOD, UNKNOWN, NO_ANSWER], file=f"data-{n}.jsonl")
    found = stream(folder, 100, on_bad_row="drop", **fields)
    with caplog.at_level(logging.WARNING, "tunewright_hf"):
        samples = iter(found)
        for step in range(1, 101):
            next(samples)
            if (counts := found.counts_at(step)).rows == 24:
                break
    assert counts.reasons == {OF_AN_UNKNOWN_ROLE: 6, WITHOUT_ANSWER: 6}
    assert (counts.samples, counts.dropped) == (12, 12)
    assert caplog.text.count(f"for example: {OF_AN_UNKNOWN_ROLE}: line 3 of {folder}/data-") == 1


def test_a_shuffled_stream_names_the_file_and_row(stream, dataset_of) -> None:
    for n in range(6):
        rows = [GOOD] * (n + 2)
        if n == 4:
            rows[3] = UNKNOWN
        folder = dataset_of(rows, file=f"data-{n}.jsonl")
    for fields in ({}, {"shuffle_buffer": 4}, {"train_split": "train[2:]"}):
        with pytest.raises(RequestError, match=r"line 4 of .*/data-4\.jsonl"):
            list(stream(folder, 40, **fields))


def test_a_row_of_a_stream_may_lack_a_column(stream, dataset_of) -> None:
    folder = dataset_of([{"prompt": "What?", "completion": " A sum."}], file="a.jsonl")
    dataset_of([{"prompt": "What?"}, {"prompt": "What?", "completion": " A sum."}], file="b.jsonl")
    found = stream(folder, 2)
    assert len(list(found)) == 2


def test_preference_pairs_are_dropped_and_refused_alike(prepare, dataset_of) -> None:
    pair = {"prompt": "What?", "chosen": "One.", "rejected": "Two."}
    folder = dataset_of([pair])
    datasets.Dataset.from_list([pair, {**pair, "rejected": "One."}]).to_parquet(folder / "train.parquet")
    (folder / "data.jsonl").unlink()
    assert prepare(folder).counts["train"].reasons == {
        "nothing to learn, because there are no two different answers, or no prompt": 1
    }
    messages = [{"role": "user", "content": "What?"}]
    ends = {"prompt": messages, "chosen": GOOD["messages"][1:], "rejected": [{"role": "assistant", "content": "No."}]}
    wrong = {**ends, "chosen": messages}
    folder = dataset_of([ends, wrong], name="messages")
    with pytest.raises(RequestError, match=r"does not end with the assistant's message \(line 2 of"):
        prepare(folder)
    counts = prepare(folder, on_bad_row="drop").counts["train"]
    assert (counts.samples, list(counts.reasons.values())) == (1, [1])


def test_check_says_what_would_be_dropped(
    model_folder: Path, dataset_of, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = dataset_of([GOOD, UNKNOWN])
    run = TrainRun(model=model_folder, dataset=folder, output=tmp_path, emit=lambda _: None)
    with caplog.at_level(logging.WARNING, "tunewright_hf"):
        HuggingFaceTrainParams(data={"on_bad_row": "drop"}).check(run)
    assert f"1 of the first 2 rows would be dropped ({OF_AN_UNKNOWN_ROLE})" in caplog.text
    assert f"line 2 of {folder}" in caplog.text
    dataset_of([UNKNOWN, UNKNOWN])
    with pytest.raises(RequestError, match=r"none of its 2 rows"):
        HuggingFaceTrainParams(data={"on_bad_row": "drop"}).check(run)


def test_check_looks_at_the_rows_that_are_meant(model_folder: Path, dataset_of, tmp_path: Path) -> None:
    run = TrainRun(model=model_folder, dataset=dataset_of([UNKNOWN, GOOD]), output=tmp_path, emit=lambda _: None)
    HuggingFaceTrainParams(data={"train_split": "train[1:]"}).check(run)
    HuggingFaceTrainParams(data={"train_split": "train[50%:]"}).check(run)
    with pytest.raises(RequestError, match="line 1 of"):
        HuggingFaceTrainParams(data={"max_samples": 1}).check(run)


def test_check_looks_at_evaluation_data_too(model_folder: Path, dataset_of, tmp_path: Path) -> None:
    dataset_of([GOOD], file="train.jsonl")
    folder = dataset_of([GOOD, UNKNOWN], file="validation.jsonl")
    run = TrainRun(model=model_folder, dataset=folder, output=tmp_path, emit=lambda _: None)
    with pytest.raises(RequestError, match=r"line 2 of .*/validation\.jsonl"):
        HuggingFaceTrainParams().check(run)


def test_a_preview_says_what_is_dropped(model_folder: Path, dataset_of, tmp_path: Path) -> None:
    folder = dataset_of([GOOD, UNKNOWN, NO_ANSWER, GOOD])
    run = TrainRun(model=model_folder, dataset=folder, output=tmp_path, emit=lambda _: None)
    first, second = HuggingFaceTrainParams(data={"on_bad_row": "drop"}).preview(run)
    assert "dropped" not in first.about
    assert second.about.splitlines() == [
        f"dropped so far: 1 {OF_AN_UNKNOWN_ROLE}; 1 {WITHOUT_ANSWER}",
        f"{OF_AN_UNKNOWN_ROLE}: line 2 of {folder}/data.jsonl",
    ]
    dataset_of([NO_ANSWER])
    with pytest.raises(RequestError, match="its only row leaves nothing to learn"):
        list(HuggingFaceTrainParams().preview(run))


def test_a_broken_file_is_refused_whatever_is_dropped(prepare, dataset_of) -> None:
    folder = dataset_of([GOOD])
    with (folder / "data.jsonl").open("a") as file:
        file.write('{"messages": [{"role"')
    with pytest.raises(RequestError, match=r"line 2: the file ends in the middle of a row"):
        prepare(folder, on_bad_row="drop")


@pytest.mark.parametrize("fields", [{"streaming": True}, pytest.param({}, marks=pytest.mark.slow)], ids=str)
def test_a_training_reports_what_it_dropped(fields: dict[str, object], train, dataset_of, tmp_path: Path) -> None:
    folder = dataset_of([GOOD, UNKNOWN, GOOD, GOOD])
    done = train(tmp_path / "out", folder, data={"on_bad_row": "drop", **fields}, max_steps=2)
    event = done.of("data")[-1]
    assert event["split"] == "train"
    assert event["reasons"].keys() == {OF_AN_UNKNOWN_ROLE}
    assert event["rows"] == event["samples"] + event["dropped"]
    assert f'"{OF_AN_UNKNOWN_ROLE}": {event["dropped"]}' in (done.result / "README.md").read_text()


def test_the_choice_is_one_of_two() -> None:
    with pytest.raises(RequestError, match=r"DataParams\.on_bad_row='skip'.*Give refuse or drop"):
        DataParams(on_bad_row="skip")
