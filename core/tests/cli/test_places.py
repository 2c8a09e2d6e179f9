"""Errors about what a job file says: the line, the column, and the field by the file's own keys."""

import re
from pathlib import Path

import pytest

from tunewright import RequestError
from tunewright.cli import jobfile

TEXT = """\
name: sft
model: acme://m
dataset: {uri: acme://d, token: x}
trainer:
  provider: acme
  lora_config: {r: 0, bias: no}
  training_parameters:
    learning_rate: -1
    report_to: [no]
  data: {format: x, names: [a, b]}
tolerations:
  - key: name
num_workers: 1_000
"""


def place(tmp_path: Path, field: str, *assignments: str, **error: object) -> str:
    (tmp_path / "job.yaml").write_text(TEXT, "utf-8")
    argument = error.pop("argument", "")
    with pytest.raises(RequestError) as caught, jobfile.read(tmp_path / "job.yaml", assignments).located(str(argument)):
        raise RequestError("is wrong", field=field, remedy="Change it.", **error)  # type: ignore[arg-type]
    return str(caught.value).removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("field", "error", "says"),
    [
        ("name", {"value": "sft"}, "job.yaml:1:7: name='sft': is wrong. Change it."),
        ("name", {}, "job.yaml:1:1: name: is wrong. Change it."),
        ("tolerations[0]['key']", {"value": "name"}, "job.yaml:12:10: tolerations[0]['key']='name'"),
        ("tolerations[0].effect", {}, "job.yaml:12:5: tolerations[0].effect"),
        ("trainer.lora", {}, "job.yaml:4:1: trainer.lora"),
        ("dataset.region", {"argument": "dataset"}, "job.yaml:3:1: dataset.region"),
        ("LoraConfig.r", {"value": 0, "argument": "trainer"}, "job.yaml:6:20: trainer.lora_config.r=0"),
        ("LoraConfig.r", {"value": 0}, "job.yaml:6:20: trainer.lora_config.r=0"),
        ("LoraConfig.rank", {"argument": "trainer"}, "job.yaml:4:1: LoraConfig.rank"),
        ("TrainingArguments.learning_rate", {"value": -1}, "job.yaml:8:20: trainer.training_parameters.learning_rate=-1"),
        ("learning_rate", {"value": -1}, "job.yaml:8:20: trainer.training_parameters.learning_rate=-1"),
        ("DataParams.format", {"value": "x"}, "job.yaml:10:18: trainer.data.format='x'"),
        ("DataParams.names", {"value": ("a", "b")}, "job.yaml:10:28: trainer.data.names=('a', 'b')"),
        ("AcmeData.token", {"argument": "dataset"}, "job.yaml:3:26: dataset.token"),
        ("AcmeData.uri", {"argument": "model"}, "job.yaml:2:1: AcmeData.uri"),
        ("num_workers", {"value": "1_000"}, "job.yaml:13:14: num_workers='1_000': is wrong. Change it. In a job file, 1_000 is text: write 1000."),
        ("LoraConfig.bias", {"value": "no"}, "job.yaml:6:29: trainer.lora_config.bias='no': is wrong. Change it. In a job file, no is text: the"),
        # Not written in the file.
        ("key", {}, "key: is wrong"),
        ("dry_run", {}, "dry_run: is wrong"),
        ("merge", {"value": True}, "merge=True: is wrong"),
    ],
)  # fmt: skip
def test_an_error_says_where_its_field_is_written(
    tmp_path: Path, field: str, error: dict[str, object], says: str
) -> None:
    assert place(tmp_path, field, **error).startswith(says)


def test_what_set_gives_is_not_said_to_be_in_the_file(tmp_path: Path) -> None:
    assert place(tmp_path, "name", "name=x", value="x") == "name='x': is wrong. Change it."
    found = place(tmp_path, "LoraConfig.r", "trainer.lora_config.r=8", value=8)
    assert found == "trainer.lora_config.r=8: is wrong. Change it."


def test_a_secret_that_is_not_set_has_its_place(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("model: x\ndataset:\n  token: {env: NOT_SET_HERE}\n")
    with pytest.raises(
        RequestError, match=re.escape("job.yaml:3:3: dataset.token: refers to the environment variable")
    ):
        jobfile.read(tmp_path / "job.yaml")
