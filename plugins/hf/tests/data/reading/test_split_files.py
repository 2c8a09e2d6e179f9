"""Which files make up which split: by the card, by names, by configurations; nothing is left out without a word."""

import logging
import zipfile
from pathlib import Path

import pytest

from tunewright import RequestError
from tunewright_hf import DataParams
from tunewright_hf.data.reading.files import evaluation_split, find_splits, held_out_split, training_split

HASH = "0123456789abcdef"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def splits(folder: Path, **data: object) -> dict[str, list[str]]:
    found = find_splits(folder, DataParams(**data))
    return {name: sorted(f.relative_to(folder).as_posix() for f in split.files) for name, split in found.items()}


def card(folder: Path, configs: str) -> None:
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")


def test_shards_may_end_in_a_hash(tmp_path: Path) -> None:
    touch(tmp_path, *(f"data/{kind}-0000{n}-of-00002-{HASH}.parquet" for kind in ("sft", "gen_train") for n in (0, 1)))
    assert sorted(splits(tmp_path)) == ["gen_train", "sft"]
    split = training_split(tmp_path, DataParams(train_split="sft[:10]"))
    assert [f.name for f in split.files] == [f"sft-0000{n}-of-00002-{HASH}.parquet" for n in (0, 1)]
    assert split.part.slice.stop == 10


def test_a_name_with_points_says_its_split(tmp_path: Path) -> None:
    touch(tmp_path, "squad.train.jsonl", "squad.test.jsonl.gz", "Squad.DEV.json")
    found = splits(tmp_path, train_split="train")
    assert found == {"train": ["squad.train.jsonl"], "test": ["squad.test.jsonl.gz"]}, "the other is beside JSON lines"


def test_the_card_says_what_is_trained_on(tmp_path: Path) -> None:
    touch(tmp_path, "talks.jsonl", "exam.jsonl", "other.jsonl", "train.jsonl")
    card(tmp_path, "- config_name: x\n  data_files: [{split: train, path: 't?lks*'}, {split: dev, path: exam.jsonl}]\n")
    assert splits(tmp_path) == {"train": ["talks.jsonl"], "dev": ["exam.jsonl"]}
    assert [f.name for f in held_out_split(tmp_path, DataParams()).files] == ["exam.jsonl"]


def test_files_that_the_card_names_may_be_elsewhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a.jsonl")
    card(tmp_path, "- config_name: x\n  data_files: {train: a.jsonl, test: gone.jsonl}\n")
    assert splits(tmp_path) == {"train": ["a.jsonl"]}
    assert "names files of the splits test" in caplog.text
    card(tmp_path, "- config_name: x\n  data_files: gone.jsonl\n")
    with pytest.raises(RequestError, match=r"none of the files that its README\.md names for the configuration 'x'"):
        training_split(tmp_path, DataParams())


FOLDERS = ("en/train-0.jsonl", "en/test-0.jsonl", "fr/train-0.jsonl", "fr/test-0.jsonl")


@pytest.mark.parametrize("with_card", [True, False])
def test_several_configurations_are_refused_with_their_names(with_card: bool, tmp_path: Path) -> None:
    touch(tmp_path, *FOLDERS)
    if with_card:
        card(
            tmp_path,
            "".join(f"- config_name: {n}\n  data_files: {{train: {n}/tr*, test: {n}/te*}}\n" for n in ("en", "fr")),
        )
    with pytest.raises(RequestError, match="holds 2 datasets: en, fr") as error:
        training_split(tmp_path, DataParams())
    assert "trainer.data.config: en" in error.value.remedy
    assert "DataParams(config='en')" in error.value.remedy
    assert splits(tmp_path, config="fr") == {"train": ["fr/train-0.jsonl"], "test": ["fr/test-0.jsonl"]}
    with pytest.raises(RequestError, match="is not a configuration") as error:
        training_split(tmp_path, DataParams(config="frr"))
    assert "'fr'" in error.value.remedy
    with pytest.raises(RequestError, match="holds 2 datasets") as error:
        evaluation_split(tmp_path, DataParams())
    assert error.value.field == "eval_dataset"


@pytest.mark.parametrize("form", ["data/{}/train.csv", "data/{}/train/part.csv", "{}/data/train-00000-of-00001.csv"])
def test_folders_of_several_datasets_are_told_at_any_depth(form: str, tmp_path: Path) -> None:
    touch(tmp_path, form.format("easy"), form.format("hard"))
    with pytest.raises(RequestError, match=r"holds 2 datasets: .*easy.*, .*hard"):
        training_split(tmp_path, DataParams())
    assert splits(tmp_path, config="hard") == {"train": [form.format("hard")]}


def test_folders_of_parts_are_one_dataset(tmp_path: Path) -> None:
    touch(tmp_path, "2023/a.jsonl", "2024/a.jsonl", "train/x/b.jsonl")
    (tmp_path / "train/x/b.jsonl").unlink()
    assert splits(tmp_path) == {"train": ["2023/a.jsonl", "2024/a.jsonl"]}


def test_a_default_configuration_is_taken(tmp_path: Path) -> None:
    touch(tmp_path, *FOLDERS)
    card(tmp_path, "- {config_name: en, data_dir: en}\n- {config_name: fr, data_dir: fr, default: true}\n")
    assert splits(tmp_path)["train"] == ["fr/train-0.jsonl"]
    assert splits(tmp_path, config="en")["train"] == ["en/train-0.jsonl"]


def test_of_several_configurations_the_one_that_was_fetched_is_taken(tmp_path: Path) -> None:
    touch(tmp_path, *FOLDERS[:2])
    card(tmp_path, "".join(f"- config_name: {n}\n  data_files: {n}/train*\n" for n in ("en", "fr")))
    assert splits(tmp_path) == {"train": ["en/train-0.jsonl"]}


def test_the_evaluation_dataset_needs_no_such_configuration(tmp_path: Path) -> None:
    touch(tmp_path, "a.jsonl")
    assert evaluation_split(tmp_path, DataParams(config="en")).files == (tmp_path / "a.jsonl",)
    with pytest.raises(RequestError, match="is not a configuration"):
        training_split(tmp_path, DataParams(config="en"))


def test_splits_may_be_of_different_kinds(tmp_path: Path) -> None:
    touch(
        tmp_path, "train.jsonl", "validation.csv", "test.txt", "LICENSE.txt", "README.md", "notes.txt", "eval_notes.txt"
    )
    found = find_splits(tmp_path, DataParams())
    assert {name: split.format for name, split in found.items()} == {
        "train": "json",
        "validation": "csv",
        "test": "text",
    }
    assert [len(split.files) for split in found.values()] == [1, 1, 1]


@pytest.mark.parametrize(
    "names",
    [("train.jsonl", "train.csv"), ("a.jsonl", "b.csv"), ("a.parquet", "b.jsonl"), ("train.json", "train.jsonl"),
     ("train/a.csv", "train/b.parquet"), ("train.csv", "train.txt"), ("a.zip", "b.csv")],
)  # fmt: skip
def test_several_kinds_in_a_split_are_refused_by_name(names: tuple[str, str], tmp_path: Path) -> None:
    touch(tmp_path, *names)
    if "a.zip" in names:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("a.jsonl", "{}")
    with pytest.raises(RequestError, match="of the same split, 'train', is") as error:
        find_splits(tmp_path, DataParams())
    for name in names:
        assert Path(name).name.replace("a.zip", "a.jsonl") in str(error.value)


def test_a_file_and_its_compressed_copy_are_not_read_twice(tmp_path: Path) -> None:
    touch(tmp_path, "train.jsonl", "train.jsonl.gz")
    with pytest.raises(RequestError, match=r"the same rows as train\.jsonl"):
        find_splits(tmp_path, DataParams())


def test_members_of_an_archive_are_told_apart(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("x/train.jsonl", "x/test.jsonl", "LICENSE.txt"):
            archive.writestr(name, "{}")
    assert splits(tmp_path) == {"train": ["all.zip/x/train.jsonl"], "test": ["all.zip/x/test.jsonl"]}
    assert [f.name for f in training_split(tmp_path / "all.zip", DataParams()).files] == ["train.jsonl"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("rows.xlsx", "as CSV"), ("train.tar.gz", "Unpack it"), ("a.pdf", "Markdown or plain text"), ("a.parquet.gz", "Unpack it"),
     ("a.pkl", "parquet or JSONL"), ("a.yaml", "as JSONL")],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_what_to_do(name: str, words: str, tmp_path: Path) -> None:
    touch(tmp_path, name)
    with pytest.raises(RequestError, match="rows cannot be read from") as error:
        training_split(tmp_path, DataParams())
    assert words in error.value.remedy
    assert name in str(error.value)


def test_a_split_that_cannot_be_read_is_not_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "train.jsonl", "codebook.xlsx")
    with caplog.at_level(logging.WARNING):
        assert list(splits(tmp_path)) == ["train"]
    assert "codebook.xlsx" in caplog.text
    touch(tmp_path, "validation.xlsx")
    with pytest.raises(RequestError, match=r"validation\.xlsx"):
        splits(tmp_path)


def test_a_folder_of_manuals_is_text(tmp_path: Path) -> None:
    touch(tmp_path, "README.md", "pumps.md", "valves/one.markdown", "notes.txt")
    assert splits(tmp_path) == {"train": ["notes.txt", "pumps.md", "valves/one.markdown"]}


def test_a_share_is_held_out_of_the_split_that_is_trained_on(tmp_path: Path) -> None:
    touch(tmp_path, "train.jsonl", "test.jsonl")
    data = DataParams(eval_fraction=0.1, train_split="train[:50%]", max_samples=20)
    train, held_out = training_split(tmp_path, data), held_out_split(tmp_path, data)
    assert (train.part.held_out, train.part.is_held_out, train.part.limit) == (0.1, False, 20)
    assert held_out.part.is_held_out
    assert held_out.files == train.files
    with pytest.raises(RequestError, match="stands beside eval_dataset"):
        evaluation_split(tmp_path, data)


def h4(tmp_path: Path, *names: str) -> Path:
    touch(tmp_path, *(f"data/{name}-00000-of-00001-{HASH}.parquet" for name in names))
    return tmp_path


def names(folder: Path, **data: object) -> tuple[str, str | None]:
    params = DataParams(**data)
    held_out = held_out_split(folder, params)
    return training_split(folder, params).chosen, held_out and held_out.chosen


@pytest.mark.parametrize(
    ("splits", "data", "expected"),
    [
        (["train_sft", "test_sft"], {}, ("train_sft", "test_sft")),
        (["train_sft", "test_sft", "train_gen", "test_gen"], {}, ("train_sft", "test_sft")),
        (["train_sft", "test_sft", "train_prefs", "test_prefs"], {}, ("train_sft", "test_sft")),
        (["train_sft", "test_sft", "train_prefs", "test_prefs"], {"format": "preference"}, ("train_prefs", "test_prefs")),
        (["train_prefs", "test_gen"], {}, ("train_prefs", None)),
        (["train_sft", "eval_sft", "test_sft"], {"train_split": "train_sft"}, ("", "eval_sft")),
        (["train_sft", "test_sft"], {"train_split": "train[:10]"}, ("train_sft", "test_sft")),
        (["train_sft", "test"], {}, ("train_sft", "")),
        (["train", "train_sft", "test_sft"], {}, ("", None)),
    ],
    ids=str,
)  # fmt: skip
def test_the_only_split_that_fits_is_trained_on(splits, data, expected, tmp_path: Path) -> None:
    assert names(h4(tmp_path, *splits), **data) == expected


@pytest.mark.parametrize(
    "splits", [["train_a", "train_b"], ["train_gen", "train_prefs"], ["test_sft"], ["sft"]], ids=str
)
def test_which_of_several_splits_is_meant_is_not_guessed(splits: list[str], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has no split 'train'"):
        training_split(h4(tmp_path, *splits), DataParams())


def test_an_evaluation_dataset_may_have_such_a_split_alone(tmp_path: Path) -> None:
    folder = h4(tmp_path, "test_sft", "test_gen", "train_sft")
    assert evaluation_split(folder, DataParams()).chosen == "test_sft"
    with pytest.raises(RequestError, match="has no split 'test'"):
        evaluation_split(folder, DataParams(eval_split="test"))


def test_a_folder_of_save_to_disk_has_no_configurations_to_choose_from(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([{"text": "a"}])
    rows.save_to_disk(tmp_path / "plain")
    rows.info.config_name = "en"
    datasets.DatasetDict(train=rows, test=rows).save_to_disk(tmp_path / "named")
    assert sorted(find_splits(tmp_path / "named", DataParams(config="en"))) == ["test", "train"]
    for folder, remedy in (("named", "Leave it out: the folder says 'en'"), ("plain", "or save that configuration")):
        with pytest.raises(RequestError, match=rf"DataParams.config='fr': cannot be chosen.*{remedy}"):
            training_split(tmp_path / folder, DataParams(config="fr"))
    evaluated = evaluation_split(tmp_path / "named", DataParams(config="fr"))
    assert evaluated.files == (tmp_path / "named" / "test",), "it is the configuration of the other dataset"
