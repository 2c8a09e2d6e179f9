"""What people get wrong in their first commands and job files: each message names what, where, and what to write instead."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright.cli import main

Refusal = Callable[..., str]
JOB = ("train", "--model", "hf://org/name", "--dataset", "./tickets.csv", "--dry-run")
FILES = {
    "tickets.csv": "question,answer\nHow do I reset it?,Use the link.\nWhere is it?,In your account.\n",
    "open.csv": 'question,answer\n"a,b\n',
    "broken.jsonl": '{"prompt": "a", "completion": "b"}\n{"prompt": "a" "completion": "b"}\n',
    "odd.jsonl": '{"foo": 1, "bar": "x"}\n',
    "mail.csv": "id,subject,answer,created_at\n1,How do I reset it?,Use the link.,2026-01-02\n2,Where is it?,Look there.,2026-01-03\n",
    "sheet.xlsx": "x",
    "empty/.keep": "",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNEWRIGHT_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refusal:
    def call(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["tunewright", *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code in (1, 64)
        out, err = capsys.readouterr()
        assert out == ""
        return err

    return call


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("train",), "--model and --dataset are missing. Example: tunewright train --model"),
        (("train", "jobs.yaml"), "error: job file='jobs.yaml': cannot be read: No such file or directory. Pass a YAML file."),
        (("status", "sft"), "There is no job 'sft' on this machine. List the jobs: tunewright list"),
        (("chat", "sft"), "There is no job 'sft' on this machine. List the jobs: tunewright list"),
        (("folow", "sft"), "No such command 'folow'. Did you mean 'follow'?"),
        (("train", "--model", "hf://a/b", "--dataset", "tickets.csv"), "Write ./tickets.csv: it is in "),
        (("train", "--model", "gpt2", "--dataset", "./tickets.csv"), "such as hf://org/name"),
        (("train", "--model", "org/name", "--dataset", "./tickets.csv"), "hf://org/name"),
        (("train", "--model", "hf:/org/name", "--dataset", "./tickets.csv"), "Write it as hf://org/name[@revision]."),
        (("train", "--model", "hf://a/b", "--dataset", "./ticket.csv"), "ticket.csv': does not exist."),
        (("train", "--model", "./model", "--dataset", "./tickets.csv"), "model': does not exist."),
        (("train", "--model", "./tickets.csv", "--dataset", "./tickets.csv"), "has no config.json. Give a folder as save_pretrained()"),
        (("train", "--model", "hf://a/b", "--dataset", "C:\\data\\x.csv"), "is a path of Windows, and this is another system."),
        ((*JOB, "--num-workers", "2"), "it is a key of the job. Write --set num_workers=…"),
        ((*JOB, "--bogus", "2"), "No such option '--bogus'."),
        ((*JOB, "--trainer", "axolotl"), "No installed trainer is named 'axolotl'."),
        ((*JOB, "--trainer", "axolotl"), "Installed trainers: hf."),
        ((*JOB, "--backend", "k8s"), "Installed backends: job, kubernetes, local, pytorchjob, trainjob."),
        ((*JOB, "--name", "My_Job"), "name='My_Job': is not a valid Kubernetes name. Use at most 50 lower-case letters"),
    ],
)  # fmt: skip
def test_a_command(refusal: Refusal, words: tuple[str, ...], says: str) -> None:
    assert says in refusal(*words)


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("learning_rate=2e-4", "error: learning_rate: is not an argument. Did you mean 'trainer.learning_rate'?"),
        ("batch_size=4", "error: batch_size: is not an argument. Did you mean 'trainer.per_device_train_batch_size'?"),
        ("bogus=4", "What the trainer takes stands below trainer, as in trainer.learning_rate."),
        ("num_worker=2", "error: num_worker: is not an argument. Did you mean 'num_workers'?"),
        ("num_workers=0", "error: num_workers=0: must be at least 1."),
        ("num_workers=two", "error: num_workers='two': must be a whole number."),
        ("deadline=1 hour", "error: deadline='1 hour': must be a whole number. Give seconds, or a number with a unit: 30m"),
        ("resources_per_worker.gpus=2", "Did you mean 'gpu'?"),
        ("resources_per_worker.gpu=a100", "error: resources_per_worker['gpu']='a100': is not a whole number."),
        ("storage.size=100GB", "error: storage.size='100GB': is not a quantity."),
        ("output=s3:/bucket/x", "error: output='s3:/bucket/x': is not a URI with the scheme s3. Write it as s3://"),
        ("env.A=1", "error: env['A']=1: must be a string. Write \"1\"."),
        ("trainer.lr=2e-4", "error: trainer.lr: is not a field. Did you mean 'learning_rate'?"),
        ("trainer.lora=true", "error: trainer.lora: is not a field. Did you mean 'lora_config'?"),
        ("trainer.lora_config.rank=8", "error: trainer.lora_config.rank: is not a field in peft"),
        ("trainer.lora_config.rank=8", "Did you mean 'r'?"),
        ("trainer.load_in_4bit=true", "error: trainer.load_in_4bit: is not a field. Did you mean 'quantization_config'?"),
        ("trainer.bf16=yes", "error: trainer.bf16='yes': must be bool, not str. Write true or false, without quotes."),
        ("trainer.num_train_epochs=three", "error: trainer.num_train_epochs='three': must be float, not str. Write a number."),
        ("trainer.num_train_epochs='3'", "error: trainer.num_train_epochs='3': must be float, not str. Write it without quotes."),
        ("trainer.data.format=alpaka", "error: trainer.data.format='alpaka': is not a format. There are: auto, chat,"),
        ("trainer.data.max_seq_length=512", "error: trainer.data.max_seq_length: is not a field. Did you mean 'max_length'?"),
    ],
)  # fmt: skip
def test_a_value(refusal: Refusal, assignment: str, says: str) -> None:
    assert says in refusal(*JOB, "--set", assignment)


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        ("open.csv", "open.csv': cannot be read as csv: line 2: the quote that opens in this row is never closed."),
        ("broken.jsonl", "broken.jsonl': cannot be read as json: line 2: expecting ',' delimiter, column 16."),
        ("odd.jsonl", "Its columns are: foo, bar."),
        ("mail.csv", 'trainer.data.prompt_template: "{subject}"\ntrainer.data.completion_template: "{answer}"'),
        ("sheet.xlsx", "rows cannot be read from .xlsx files. Save the sheet as CSV (UTF-8), and give that file."),
        ("empty", "empty': is empty. Give a folder with rows in parquet, JSONL"),
    ],
)
def test_a_dataset(refusal: Refusal, dataset: str, says: str) -> None:
    assert says in refusal("train", "--model", "hf://org/name", "--dataset", f"./{dataset}", "--dry-run")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model: hf://a/b\nmodel: hf://a/c\n", "error: job.yaml:2:1: model: is given twice: it is also in line 1."),
        ("model: hf://a/b\n dataset: x\n", "error: job.yaml:2:9: syntax: is wrong: mapping values are not allowed here."),
        ("- model: hf://a/b\n", "error: job file='job.yaml': is not a mapping."),
        ("model: hf://a/b\ndatasets: ./tickets.csv\ntrainer: hf\n", "error: job.yaml:2:1: datasets: is not an argument. Did you mean 'dataset'?"),
        ("model: hf://a/b\ndataset: ./tickets.csv\n", "is missing. Give a name such as trainer=\"hf\""),
        ("model: hf://a/b\ndataset: [./tickets.csv, ./b.csv]\ntrainer: hf\n", "error: job.yaml:2:26: dataset[1]="),
        (
            "model: hf://a/b\ndataset: {uri: s3://b/x, access_token: {env: NOPE}}\ntrainer: hf\n",
            "error: job.yaml:2:26: dataset.access_token: refers to the environment variable NOPE, which is not set.",
        ),
        (
            "model: hf://a/b\ndataset: ./tickets.csv\ntrainer: {provider: hf, lora_config: {rank: 4}}\n",
            "error: job.yaml:3:39: trainer.lora_config.rank: is not a field in peft",
        ),
    ],
)  # fmt: skip
def test_a_job_file(refusal: Refusal, text: str, says: str, folder: Path) -> None:
    (folder / "job.yaml").write_text(text)
    assert says in refusal("train", "job.yaml", "--dry-run")
