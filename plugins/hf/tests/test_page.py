"""The trainer's pages: their rows are rows of the format that they say, and their Python runs."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright_hf import DataParams, HuggingFaceTrainParams
from tunewright_hf.data.rows.formats import check_dataset

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
PAGE = "\n".join((REFERENCE / name).read_text("utf-8") for name in ("hf-trainer.md", "data-formats.md"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(("form", "rows"), zip(["text", "prompt_completion", "chat"], blocks("jsonl"), strict=True))
def test_the_rows_are_of_their_format(
    form: str, rows: str, dataset_of: Callable[..., Path], train, tmp_path: Path
) -> None:
    dataset = dataset_of([json.loads(line) for line in rows.splitlines()])
    assert check_dataset(dataset, DataParams(), "dataset") == form
    assert len(train(tmp_path / "out", dataset, max_steps=1).losses) == 1


def test_the_job_file_and_the_python_say_the_same() -> None:
    from tunewright.cli import yaml_text

    code = blocks("python")[0].partition("TrainingClient(backend")[0]
    spoken: dict[str, object] = {}
    exec(code, spoken)
    written = yaml_text.parse(blocks("yaml")[0], "the page").value["trainer"]
    assert written.pop("provider") == "hf"
    assert HuggingFaceTrainParams(**written) == spoken["trainer"]


def test_every_field_that_the_page_says_is_set_by_tunewright_is_refused() -> None:
    from tunewright_hf import TrainingArguments

    sentence = re.search(r"Tunewright sets (.*?), and refuses them", PAGE, re.DOTALL)[1]
    assert set(re.findall(r"`(\w+)`", sentence)) == set(TrainingArguments.managed)


def test_the_page_names_every_parameter() -> None:
    import attrs

    names = [a.name for cls in (DataParams, HuggingFaceTrainParams) for a in attrs.fields(cls)]
    assert [name for name in names if name not in PAGE] == []
