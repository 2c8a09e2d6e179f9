"""The front matter of a dataset's README.md is read as `datasets` reads it."""

import fnmatch
from pathlib import Path, PurePosixPath

import pytest

from tunewright_hf.data.reading.bad_data import BadFileError
from tunewright_hf.data.reading.card import Configuration, read_card

PATHS = [
    "a.jsonl", "train.csv", "data/train-0.jsonl", "data/train-1.jsonl", "data/test-0.jsonl", "data/deep/train-2.jsonl", "en/x.json",
]  # fmt: skip


def card(folder: Path, configs: str, *, before: str = "license: mit\n") -> list[Configuration]:
    (folder / "README.md").write_text(f"---\n{before}configs:\n{configs}---\n# About\n")
    return read_card(folder)


def found(config: Configuration) -> dict[str, list[str]]:
    return {split: [str(p) for p in paths] for split, paths in config.files([PurePosixPath(p) for p in PATHS]).items()}


@pytest.mark.parametrize(
    ("data_files", "expected"),
    [
        ("a.jsonl", {"train": ["a.jsonl"]}),
        ("./a.jsonl", {"train": ["a.jsonl"]}),
        ("'*.jsonl'", {"train": ["a.jsonl"]}),
        ("['a.jsonl', train.csv]", {"train": ["a.jsonl", "train.csv"]}),
        (
            "[{split: train, path: data/train-*}, {split: test, path: 'data/test-*'}]",
            {"train": ["data/train-0.jsonl", "data/train-1.jsonl"], "test": ["data/test-0.jsonl"]},
        ),
        ("[{split: sft, path: [a.jsonl, 'e?/*']}]", {"sft": ["a.jsonl", "en/x.json"]}),
        ("{train: 'data/**/train-[0-2]*', dev: [a.jsonl]}", {"train": [*PATHS[2:4], PATHS[5]], "dev": ["a.jsonl"]}),
        ("'data/train-[!1]*'", {"train": ["data/train-0.jsonl"]}),
        ("'**.jsonl'", {"train": [p for p in PATHS if fnmatch.fnmatch(p, "*.jsonl")]}),
    ],
)
def test_data_files_are_paths_by_split(data_files: str, expected: dict[str, list[str]], tmp_path: Path) -> None:
    (config,) = card(tmp_path, f"- config_name: main\n  data_files: {data_files}\n")
    assert config.name == "main"
    assert found(config) == expected


def test_a_folder_and_a_default_are_read(tmp_path: Path) -> None:
    main, other, default = card(
        tmp_path,
        "- {config_name: main, default: true, data_dir: data}\n"
        "- {config_name: other, data_dir: data, data_files: 'test-*'}\n"
        "- {config_name: default, data_files: a.jsonl}\n",
    )
    assert (main.is_default, other.is_default, default.is_default) == (True, False, True)
    assert main.patterns is None
    assert [p for p in PATHS if main.holds(PurePosixPath(p))] == PATHS[2:6]
    assert found(other) == {"train": ["data/test-0.jsonl"]}


@pytest.mark.parametrize(
    "text", ["", "# About", "---\nlicense: mit\n---\n", "---\nconfigs:\n---\n", "text\n---\nconfigs: []\n---\n"]
)
def test_a_card_without_configurations_has_none(text: str, tmp_path: Path) -> None:
    assert read_card(tmp_path) == []
    (tmp_path / "README.md").write_text(text)
    assert read_card(tmp_path) == []


@pytest.mark.parametrize(
    ("configs", "words"),
    [
        ("- {data_files: a.jsonl}\n", "has no config_name"),
        ("- {config_name: x, data_files: [{split: train}]}\n", "data_files of the configuration 'x'"),
        ("- {config_name: x, data_files: 7}\n", "data_files of the configuration 'x'"),
        ("  main: a.jsonl\n", "not a list of configurations"),
        ("- {config_name: x\n", "front matter is not YAML"),
    ],
)
def test_a_card_that_datasets_would_not_read_is_refused(configs: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=words) as error:
        card(tmp_path, configs)
    assert "README.md" in str(error.value)
