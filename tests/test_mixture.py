"""A job file with a list of datasets, from the command line to the report: files, an S3 bucket, and weights."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.s3 import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Gateway
from tests.servers.tools import Missing

pytest.importorskip("torch")
pytest.importorskip("boto3")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JOB = """
name: mixed
backend: local
model: ./model
dataset:
  - uri: s3://{bucket}/tickets
    provider: s3
    endpoint_url: {url}
    region: {region}
    access_key_id: {{env: TICKETS_KEY}}
    secret_access_key: {{env: TICKETS_SECRET}}
    weight: 2
    name: tickets
    data: {{columns: {{prompt: question, completion: answer}}}}
  - uri: ./manuals
    weight: 1
    repeat: false
    data: {{text_unit: paragraph}}
trainer:
  provider: hf
  lora_config: {{r: 2}}
  training_parameters: {{per_device_train_batch_size: 3, num_train_epochs: 2, logging_steps: 1, learning_rate: 1.0e-2}}
  data: {{format: auto, eval_fraction: 0.1}}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    try:
        with Gateway(tmp_path_factory.mktemp("s3")) as gateway:
            rows = [{"question": f"What is {n} and {n}?", "answer": f" {n + n}."} for n in range(40)]
            gateway.put("tickets/data.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
            yield gateway
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def job_file(tmp_path: Path, store: Gateway, monkeypatch: pytest.MonkeyPatch) -> Path:
    from examples.quickstart import make_model

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TUNEWRIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TICKETS_KEY", ACCESS_KEY)
    monkeypatch.setenv("TICKETS_SECRET", SECRET_KEY)
    make_model(tmp_path / "model", [(f"What is {n} and {n}?", f" {n + n}.") for n in range(60)])
    (tmp_path / "manuals").mkdir()
    for number in range(3):
        paragraphs = (f"Manual {number}, part {part}: turn it off and on again." for part in range(5))
        (tmp_path / "manuals" / f"{number}.md").write_text("\n\n".join(paragraphs), "utf-8")
    file = tmp_path / "job.yaml"
    file.write_text(JOB.format(bucket=BUCKET, url=store.url, region=REGION), "utf-8")
    return file


def tunewright(*words: object) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("tunewright"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def test_a_list_of_datasets_is_fetched_mixed_and_reported(job_file: Path) -> None:
    done = tunewright("train", job_file, "--json")
    assert done.returncode == 0, done.stderr
    assert SECRET_KEY not in done.stdout + done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    fetched = {e["slot"]: e["files"] for e in events if e["event"] == "fetched"}
    assert fetched == {"model": fetched["model"], "dataset_1": 1, "dataset_2": 3}
    steps = [e for e in events if e["event"] == "step"]
    # Of 40 and 15 rows, 4 and 1 or so are held out. The manuals are read once an epoch, and the tickets at least once.
    assert all(set(step["sources"]) == {"tickets", "manuals"} for step in steps)
    evaluations = [e for e in events if e["event"] == "eval"]
    assert len(evaluations) == 2
    assert evaluations[-1]["sources"]["tickets"]["loss"] > 0
    report = json.loads(tunewright("report", "mixed", "--json").stdout)
    assert list(report["request"]) >= ["dataset_1", "dataset_2"]
    assert report["request"]["dataset_1"]["provider"] == "s3"
    assert [part["name"] for part in report["request"]["mixture"]] == ["tickets", "manuals"]
    tickets, manuals = (report["sources"][name] for name in ("tickets", "manuals"))
    assert manuals["samples"] % 2 == 0, "each once in each of two epochs"
    assert 10 <= manuals["samples"] / 2 <= 15
    assert tickets["samples"] / 2 >= 30
    assert tickets["share_of_samples"] == pytest.approx(2 / 3, abs=0.1)
    assert tickets["share_of_samples"] + manuals["share_of_samples"] == pytest.approx(1)
    assert tickets["last_loss"] < tickets["first_loss"]
    shown = tunewright("report", "mixed").stdout
    assert "tickets" in shown
    assert "% of the samples" in shown


def test_a_preview_needs_all_of_a_list_on_this_machine(job_file: Path) -> None:
    refused = tunewright("preview", job_file)
    assert refused.returncode
    assert "dataset[0]" in refused.stderr
    words = refused.stderr.split("tunewright fetch ")[1].split(";")[0].split()
    assert words[:2] == ["--kind", "dataset"]
    sets = ("--set", "dataset.0=./manuals", "--set", "dataset.1.name=again", "--set", "dataset.1.weight=null")
    done = tunewright("preview", job_file, *sets)
    assert done.returncode == 0, done.stderr
    assert "again: format text" in done.stdout


def test_a_dry_run_for_a_cluster_shows_a_step_for_each_dataset(job_file: Path) -> None:
    sets = ["--set", "model=hf://org/model", "--set", "dataset.1=hf://datasets/org/manuals"]
    done = tunewright("train", job_file, "--backend", "kubernetes", "--dry-run", *sets)
    assert done.returncode, "one has a weight, and the other has none any more"
    assert "dataset[1].weight: is missing, but tickets has one" in done.stderr
    done = tunewright(
        "train", job_file, "--backend", "kubernetes", "--dry-run", *sets, "--set", "dataset.0.weight=null"
    )
    assert done.returncode == 0, done.stderr
    assert "name: fetch-dataset-1" in done.stdout
    assert "name: fetch-dataset-2" in done.stdout
    assert SECRET_KEY not in done.stdout
