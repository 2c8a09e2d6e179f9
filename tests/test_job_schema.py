"""The JSON schema of job files: what a dry run accepts is valid, and what it refuses by name, type or choice is not."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft7Validator

from tunewright.cli import yaml_text
from tunewright.cli.commands import cli

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(file for file in (ROOT / "examples").rglob("*.yaml"))

JOB = "model: hf://org/name\ndataset: ./data\n"
TRAIN = f"{JOB}trainer: hf\n"


@pytest.fixture(scope="module")
def schema() -> Draft7Validator:
    done = CliRunner().invoke(cli, ["schema"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    Draft7Validator.check_schema(found)
    return Draft7Validator(found)


def problems(schema: Draft7Validator, text: str) -> list[jsonschema.ValidationError]:
    return list(schema.iter_errors(yaml_text.parse(text, "job.yaml").value))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_every_example_is_valid(schema: Draft7Validator, file: Path) -> None:
    assert problems(schema, file.read_text("utf-8")) == []


GOOD = [
    TRAIN,
    f"{TRAIN}namespace:\nttl: 60\n",
    f"{JOB}trainer: {{provider: hf, lora_config: {{r: 8, target_modules: all-linear}}, training_parameters: {{learning_rate: 2e-4, eval_strategy: steps}}}}\n",
    f"{JOB}trainer: {{learning_rate: 1e-4, peft_config: {{}}, data: {{format: chat, columns: {{messages: m}}, ignore_columns: id}}}}\n",
    "model: {provider: s3, uri: s3://bucket/p, region: eu, secret_access_key: {secret: a, key: b}, access_key_id: {secret: a, key: id}}\ndataset: ~/x\ntrainer: hf\n",
    "model: {uri: hf://org/name, revision: v1, allow_patterns: '*.json'}\ndataset: {uri: ./data}\ntrainer: hf\noutput: pvc://claim/x\n",
    "model: {uri: az://models/m, account: name}\ndataset: {uri: az://data/d, account: name, account_key: {secret: a, key: b}}\ntrainer: hf\n",
    "model: gs://bucket/m\ndataset: {uri: gs://bucket/d, anonymous: true}\ntrainer: hf\noutput: gs://bucket/o\n",
    "model: https://host/model.gguf\ndataset: {uri: https://host/data/, token: {secret: a, key: b}}\ntrainer: hf\n",
    "model: gitlfs+https://host/a/b\ndataset: kaggle://datasets/a/b\ntrainer: hf\nqueue_name: q\n",
    f"{TRAIN}resources_per_worker: {{gpu: 1, cpu: 8, memory: 16Gi, rdma/hca: 1}}\nnum_procs_per_worker: auto\nelastic: [1, 3]\noutput: s3://bucket/o\n",
    f"{TRAIN}storage: {{size: 5Gi, access_modes: ReadWriteMany}}\nenv: {{A: b, C: {{env: D}}, E: {{secret: s, key: k}}}}\n",
    f"{TRAIN}tolerations: [{{key: gpu, operator: Exists}}]\nimage_pull_secrets: [login]\npod_overrides: {{spec: {{}}}}\n",
    "script: train.py\nargs: [--lr, 1e-3]\nnum_procs_per_worker: 2\n",
    "base_image: busybox:1\ncommand: [sh]\n",
    "manifest: job.yaml\n",
]  # fmt: skip

BAD = [
    "model: hf://org/name\n",
    f"{TRAIN}nmae: x\n",
    f"{TRAIN}num_workers: 0\n",
    f"{TRAIN}num_workers: two\n",
    f"{TRAIN}host_network: yes\n",
    f"{TRAIN}backend: kubernets\n",
    f"{TRAIN}labels: [a]\n",
    f"{TRAIN}image_pull_secrets: login\n",
    f"{TRAIN}elastic: [1]\n",
    f"{TRAIN}storage: {{sice: 5Gi}}\n",
    f"{TRAIN}max_restarts: -1\n",
    f"{TRAIN}env: {{A: {{secret: s}}}}\n",
    "model: org/name\ndataset: ./data\ntrainer: hf\n",
    "model: nope://x\ndataset: ./data\ntrainer: hf\n",
    "model: {uri: hf://org/name, revison: v1}\ndataset: ./data\ntrainer: hf\n",
    "model: {uri: hf://org/name, policy: Sometimes}\ndataset: ./data\ntrainer: hf\n",
    f"{JOB}trainer: hff\n",
    f"{JOB}trainer: {{provider: hf, lora_config: {{rank: 8}}}}\n",
    f"{JOB}trainer: {{provider: hf, lora_config: {{r: eight}}}}\n",
    f"{JOB}trainer: {{provider: hf, training_parameters: {{learning_rat: 1e-4}}}}\n",
    f"{JOB}trainer: {{provider: hf, training_parameters: {{eval_strategy: sometimes}}}}\n",
    f"{JOB}trainer: {{provider: hf, training_parameters: {{output_dir: x}}}}\n",
    f"{JOB}trainer: {{provider: hf, data: {{format: chats}}}}\n",
    f"{JOB}trainer: {{provider: hf, callbacks: one}}\n",
]


@pytest.mark.parametrize("text", GOOD)
def test_a_job_that_dry_runs_is_valid(
    schema: Draft7Validator, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D", "secret")
    assert problems(schema, text) == []
    (tmp_path / "train.py").write_text("print()\n")
    manifest = {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": {"name": "a"}}
    manifest["spec"] = {
        "pytorchReplicaSpecs": {"Master": {"template": {"spec": {"containers": [{"name": "pytorch", "image": "a"}]}}}}
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(manifest)) if "manifest" in text else None
    (tmp_path / "test.yaml").write_text(text.replace("./data", "/data").replace("~/x", "/x"))
    done = CliRunner().invoke(cli, ["train", str(tmp_path / "test.yaml"), "--dry-run", "--backend", "kubernetes"])
    assert done.exception is None, done.exception


@pytest.mark.parametrize("text", BAD)
def test_what_a_dry_run_refuses_is_not_valid(schema: Draft7Validator, text: str, tmp_path: Path) -> None:
    assert problems(schema, text) != []
    (tmp_path / "test.yaml").write_text(text.replace("./data", "/data"))
    arguments = [] if "backend:" in text else ["--backend", "kubernetes"]
    done = CliRunner().invoke(cli, ["train", str(tmp_path / "test.yaml"), "--dry-run", *arguments])
    assert done.exception is not None


def test_fields_are_described_and_have_their_defaults(schema: Draft7Validator) -> None:
    keys = schema.schema["properties"]
    assert [
        key for key in ("model", "trainer", "num_workers", "storage", "ttl") if not keys[key].get("description")
    ] == []
    assert keys["num_workers"]["default"] == 1
    hf = next(s for s in keys["trainer"]["anyOf"] if "lora_config" in s.get("properties", {}))
    arguments = hf["properties"]["training_parameters"]["properties"]
    assert arguments["learning_rate"]["default"] == 5e-5
    assert "learning rate" in arguments["learning_rate"]["description"].lower()


def test_plugins_that_are_installed_are_in_the_schema(schema: Draft7Validator) -> None:
    text = json.dumps(schema.schema["properties"]["dataset"])
    assert [
        name
        for name in ("hf", "s3", "kaggle", "gitlfs", "gs", "az", "http", "https", "file", "pvc")
        if f'{{"const": "{name}"}}' not in text
    ] == []
