"""Inputs that cannot be trained on are refused early; every format of a dataset folder is read."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright import RequestError, TrainRun
from tunewright_hf import DataParams, HuggingFaceTrainParams
from tunewright_hf.data.reading.files import evaluation_split, find_splits, held_out_split, training_split
from tunewright_hf.data.rows.formats import check_dataset

ROWS = [{"text": "one"}, {"text": "two"}, {"text": "three"}]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)


def check(
    model: Path | None = None, dataset: Path | None = None, eval_dataset: Path | None = None, **data: object
) -> None:
    HuggingFaceTrainParams(data=data).check_inputs(model=model, dataset=dataset, eval_dataset=eval_dataset)


def write_jsonl(folder: Path) -> None:
    (folder / "data.jsonl").write_text(JSONL)


def write_jsonl_gz(folder: Path) -> None:
    with gzip.open(folder / "data.jsonl.gz", "wt") as file:
        file.write(JSONL)


def write_json(folder: Path) -> None:
    (folder / "data.json").write_text(json.dumps(ROWS, indent=2))


def write_csv(folder: Path) -> None:
    (folder / "data.csv").write_text("text,extra\n" + "".join(f"{r['text']},007\n" for r in ROWS))


def write_tsv(folder: Path) -> None:
    (folder / "data.tsv").write_text("text\textra\n" + "".join(f"{r['text']}\tNA\n" for r in ROWS))


def write_text(folder: Path) -> None:
    (folder / "data.txt").write_text("one\n\ntwo\nthree\n")


def write_parquet(folder: Path) -> None:
    import datasets

    datasets.Dataset.from_list(ROWS).to_parquet(folder / "data.parquet")


def write_saved(folder: Path) -> None:
    import datasets

    datasets.Dataset.from_list(ROWS).save_to_disk(folder)


def write_saved_splits(folder: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict(train=rows, test=rows.select([0])).save_to_disk(folder)


WRITERS = [
    write_jsonl, write_jsonl_gz, write_json, write_csv, write_tsv, write_text, write_parquet, write_saved, write_saved_splits
]  # fmt: skip


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_is_accepted_and_read(write: Callable[[Path], None], tmp_path: Path, model_folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from tunewright_hf.data.prepare import prepare

    folder = tmp_path / "dataset"
    folder.mkdir()
    write(folder)
    (folder / "complete.json").write_text('{"files": []}')
    (folder / ".hidden.jsonl").write_text("not a row")
    (folder / "README.md").write_text("about")
    check(dataset=folder)
    folder.chmod(0o555)  # slots are mounted read-only
    run = TrainRun(model=model_folder, dataset=folder, output=tmp_path / "output", emit=lambda _: None)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    prepared = prepare(run, DataParams(), tokenizer, 64)
    assert [tokenizer.decode(ids[:-1]) for ids in prepared.train["input_ids"]] == ["one", "two", "three"]
    assert (prepared.evaluation is not None) == (write is write_saved_splits)


def test_a_single_file_is_a_dataset_too(tmp_path: Path) -> None:
    write_jsonl(tmp_path)
    check(dataset=tmp_path / "data.jsonl")


def test_a_model_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"has no config\.json") as error:
        check(model=tmp_path)
    assert error.value.field == "model"
    assert str(tmp_path) in str(error.value)
    assert "save_pretrained" in error.value.remedy
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(RequestError, match="contains an adapter"):
        check(model=tmp_path)


@pytest.mark.parametrize("slot", ["dataset", "eval_dataset"])
@pytest.mark.parametrize(
    "files",
    [
        {},
        {"complete.json": "{}"},
        {".data.jsonl": '{"text": "a"}'},
        {"data.jsonl": "\n \n"},
        {"data.jsonl": ""},
        {"data.json": "[]"},
        {"data.json": " [ ]\n"},
        {"data.csv": "text\n"},
        {"data.csv": ""},
        {"data.txt": " \n\n"},
        {"README.md": "about"},
    ],
)
def test_an_empty_dataset_is_refused(slot: str, files: dict[str, str], tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(RequestError, match="is empty") as error:
        check(**{slot: tmp_path})
    assert error.value.field == slot
    assert str(tmp_path) in str(error.value)


def test_an_empty_saved_dataset_is_refused(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"text": []}).save_to_disk(tmp_path / "saved")
    datasets.Dataset.from_dict({"text": []}).to_parquet(tmp_path / "parquet" / "data.parquet")
    for name in ("saved", "parquet"):
        with pytest.raises(RequestError, match="is empty"):
            check(dataset=tmp_path / name)


@pytest.mark.parametrize("write", WRITERS)
def test_a_missing_column_is_told_with_those_that_there_are(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(RequestError, match="has no column 'body'") as error:
        check(dataset=tmp_path, format="text", text_column="body")
    assert error.value.field == "dataset"
    assert "Its columns are: text" in error.value.remedy


def test_without_a_known_column_all_that_are_looked_for_are_named(dataset_of: Callable[..., Path]) -> None:
    folder = dataset_of([{"betreff": "a", "loesung": "b"}])
    with pytest.raises(RequestError, match=r"'messages' or 'prompt' and 'completion' or 'text'") as error:
        check(dataset=folder)
    assert "betreff, loesung" in error.value.remedy
    check(dataset=folder, prompt_column="betreff", completion_column="loesung")


@pytest.mark.parametrize("content", ["nonsense", '{"text": ', "[1, 2]", '"word"'])
def test_a_file_that_is_no_json_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text(content)
    with pytest.raises(RequestError, match="cannot be read as json") as error:
        check(dataset=tmp_path)
    assert str(tmp_path / "data.jsonl") in str(error.value)


@pytest.mark.parametrize("form", ["lines", "list"])
def test_a_first_row_longer_than_the_peek_is_read(form: str, tmp_path: Path) -> None:
    row = json.dumps({"text": "x" * 300_000})
    (tmp_path / "data.json").write_text(row if form == "lines" else f"[{row}, {row}]")
    check(dataset=tmp_path)


def names(folder: Path, **data: str) -> dict[str, list[str]]:
    return {name: [f.name for f in split.files] for name, split in find_splits(folder, DataParams(**data)).items()}


def test_splits_are_told_by_file_names_and_folders(tmp_path: Path) -> None:
    for name in (
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
        "validation.parquet",
        "test/a.parquet",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == {
        "test": ["a.parquet"],
        "train": ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
        "validation": ["validation.parquet"],
    }
    assert held_out_split(tmp_path, DataParams()).files[0].name == "validation.parquet"
    assert held_out_split(tmp_path, DataParams(eval_split="test")).files[0].name == "a.parquet"


def test_shards_of_two_kinds_of_training_data_do_not_mix(tmp_path: Path) -> None:
    for kind in ("train_sft", "train_gen", "test_sft"):
        (tmp_path / f"{kind}-00000-of-00001.parquet").touch()
    assert sorted(names(tmp_path)) == ["test_sft", "train_gen", "train_sft"]
    assert [f.name for f in training_split(tmp_path, DataParams()).files] == ["train_sft-00000-of-00001.parquet"]
    (tmp_path / "train_dpo-00000-of-00001.parquet").touch()
    (tmp_path / "train_sft-00000-of-00001.parquet").rename(tmp_path / "train_own-00000-of-00001.parquet")
    with pytest.raises(RequestError, match="has no split 'train'") as error:
        training_split(tmp_path, DataParams())
    assert "train_own" in error.value.remedy
    (tmp_path / "train_own-00000-of-00001.parquet").rename(tmp_path / "train_sft-00000-of-00001.parquet")
    assert training_split(tmp_path, DataParams(train_split="train_sft")).files[0].name.startswith("train_sft")


def test_files_that_name_no_split_are_for_training(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl", "b_test.jsonl", "LICENSE.txt"):
        (tmp_path / name).touch()
    assert names(tmp_path) == {"train": ["a.jsonl", "b.jsonl"], "test": ["b_test.jsonl"]}


def test_an_evaluation_folder_is_taken_whole_or_by_its_held_out_split(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").touch()
    assert evaluation_split(tmp_path, DataParams()).files[0].name == "train.jsonl"
    (tmp_path / "test.jsonl").touch()
    assert evaluation_split(tmp_path, DataParams()).files[0].name == "test.jsonl"


def test_the_client_half_passes_over_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data.parquet").write_bytes(b"no parquet")
    with pytest.raises(RequestError, match="cannot be read as parquet"):
        check(dataset=tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check(dataset=tmp_path)


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "arrow", "saved"])
def test_a_column_that_repeats_others_is_accounted_for_by_its_values(form: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    row = {"instruction": "Name a prime.", "input": "", "output": "Seven.", "text": "### Name a prime. ### Seven."}
    rows, folder = datasets.Dataset.from_list([row, row]), tmp_path / "dataset"
    folder.mkdir()
    if form == "saved":
        rows.save_to_disk(str(folder))
    elif form == "arrow":
        rows.save_to_disk(str(tmp_path / "saved"))
        next((tmp_path / "saved").glob("*.arrow")).rename(folder / "train.arrow")
    else:
        write = {"jsonl": rows.to_json, "csv": rows.to_csv, "parquet": rows.to_parquet}[form]
        write(folder / f"train.{form}")
    assert check_dataset(folder, DataParams(), "dataset") == "prompt_completion"
    other = {**row, "text": "Quite another text."}
    datasets.Dataset.from_list([other, other]).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(RequestError, match=r"ignore_columns: \[text\]"):
        check_dataset(tmp_path / "other.parquet", DataParams(), "dataset")
