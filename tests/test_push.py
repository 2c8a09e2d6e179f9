"""`tunewright push`: results after the fact, to a Hub and to an S3 server, as a job's own output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.servers.hub import Hub
from tests.servers.s3 import BUCKET, Gateway

from tunewright.cli.commands import cli
from tunewright.errors import PluginError, RequestError

TUNEWRIGHT = Path(sys.executable).with_name("tunewright")
TOKEN = "hf-token-of-a-writer"
FILES = {
    "adapter_config.json": b'{"base_model_name_or_path": "/gone"}',
    "adapter_model.safetensors": b"w" * 300_000,
    "README.md": b"---\nlibrary_name: peft\n---\n# It\n",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub")
    with Hub() as running:
        running.tokens = {TOKEN: "write", "hf-token-of-a-reader": "read"}
        yield running


def write(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def push(home: Path, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    nobodys = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HF_"))}
    given = {**nobodys, "TUNEWRIGHT_HOME": str(home / "home"), "HF_HOME": str(home / "hf"), **env}
    command = [str(TUNEWRIGHT), "push", *map(str, arguments)]
    return subprocess.run(command, env=given, cwd=home, capture_output=True, text=True, check=False)


def refused(*arguments: object) -> str:
    done = CliRunner().invoke(cli, ["push", *map(str, arguments)])
    assert isinstance(done.exception, RequestError | PluginError), done.output
    return str(done.exception)


@pytest.mark.slow
def test_a_result_becomes_a_private_repository_once(hub: Hub, tmp_path: Path) -> None:
    folder, target = write(tmp_path / "result"), ("hf://org/mine", "--set", f"endpoint={hub.url}")
    done = push(tmp_path, folder, *target, "--set", "access_token.env=MINE", MINE=TOKEN)
    assert done.returncode == 0, done.stderr
    assert "model: uploaded to hf://org/mine, 3 files, 300.1 kB" in done.stdout
    assert "uploading the model to hf://org/mine" in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    repo = hub.models["org/mine"]
    assert repo.private
    assert FILES.items() <= repo.contents.items()
    assert hub.store.leaked == []

    again = push(tmp_path, folder, *target, "--json", HF_TOKEN=TOKEN)
    assert (again.returncode, json.loads(again.stdout.splitlines()[-1])["event"]) == (0, "uploaded")
    assert len(repo.commits) == 2


@pytest.mark.slow
def test_another_model_is_neither_overwritten_nor_mixed_with(hub: Hub, tmp_path: Path) -> None:
    folder, target = write(tmp_path / "result"), ("hf://org/mine", "--set", f"output.endpoint={hub.url}")
    repo = hub.repo("org/mine", {"data.csv": b"of another", "README.md": b"# Another"})
    mixed = push(tmp_path, folder, *target, "--replace", HF_TOKEN=TOKEN)
    assert (mixed.returncode, "other files than the result's: data.csv." in mixed.stderr) == (64, True)
    repo = hub.repo("org/mine", {"README.md": b"# Another", "LICENSE": b"MIT", ".gitattributes": b""})
    before = len(repo.commits)
    refused = push(tmp_path, folder, *target, HF_TOKEN=TOKEN)
    assert (refused.returncode, "README.md would be overwritten" in refused.stderr) == (64, True)
    assert "--replace" in refused.stderr
    assert len(repo.commits) == before
    assert push(tmp_path, folder, *target, "--replace", HF_TOKEN=TOKEN).returncode == 0
    assert repo.contents.items() >= {**FILES, "LICENSE": b"MIT"}.items()


@pytest.mark.slow
def test_who_may_not_write_is_told_so(hub: Hub, tmp_path: Path) -> None:
    folder, target = write(tmp_path / "result"), ("hf://org/mine", "--set", f"endpoint={hub.url}")
    hub.repo("org/mine")
    for env, words in (({"HF_TOKEN": "hf-token-of-a-reader"}, "access_token="), ({}, "set HF_TOKEN")):
        done = push(tmp_path, folder, *target, **env)
        assert (done.returncode, words in done.stderr) == (77, True), done.stderr


@pytest.mark.slow
def test_a_result_goes_to_a_bucket_with_its_marker_last(gateway: Gateway, tmp_path: Path) -> None:
    pytest.importorskip("botocore")
    folder, target = write(tmp_path / "result"), f"s3://{BUCKET}/pushed/it"
    endpoint = ("--set", f"endpoint_url={gateway.url}")
    done = push(tmp_path, folder, target, *endpoint, **gateway.env)
    assert done.returncode == 0, done.stderr
    assert {key: gateway.get(f"pushed/it/{key}") for key in FILES} == FILES
    assert json.loads(gateway.get("pushed/it/complete.json"))["files"].keys() == FILES.keys()
    (folder / "adapter_model.safetensors").write_bytes(b"v" * 300_000)
    refused = push(tmp_path, folder, target, *endpoint, **gateway.env)
    assert (refused.returncode, "adapter_model.safetensors would be overwritten" in refused.stderr) == (64, True)
    assert push(tmp_path, folder, target, *endpoint, "--replace", **gateway.env).returncode == 0
    assert gateway.get("pushed/it/adapter_model.safetensors") == b"v" * 300_000


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "neither config.json nor adapter_config.json"),
        ({"train.jsonl": b"{}"}, "neither config.json nor adapter_config.json"),
        ({"config.json": b"{}", "tokenizer.json": b"{}"}, "lacks its weights"),
        ({"config.json": b"{}", "training_args.bin": b""}, "lacks its weights"),
        (
            {"config.json": b"{}", "model.safetensors.index.json": b'{"weight_map": {"a": "2.safetensors"}}'},
            "lacks 2.safetensors",
        ),
        ({**FILES, "trainer_state.json": b"{}"}, "is a checkpoint"),
    ],
)
def test_what_is_no_finished_result_is_not_sent(files: dict[str, bytes], problem: str, tmp_path: Path) -> None:
    assert problem in refused(write(tmp_path / "result", files), tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_what_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "result")
    assert "is a volume of a cluster" in refused(folder, "pvc://claim/folder")
    assert "Write hf://org/name" in refused(folder, "org/name")
    assert "nowhere" in refused(folder, "nowhere://x")
    assert "NONE, which is not set" in refused(folder, "hf://org/name", "--set", "access_token.env=NONE")
    secret = ("--set", "access_token.secret=s", "--set", "access_token.key=k")
    assert "is in a Secret of a cluster (s)" in refused(folder, "hf://org/name", *secret)
    nested = write(tmp_path / "fetched" / "model")
    assert f"Give {nested}." in refused(nested.parent, tmp_path / "target")


@pytest.mark.slow
def test_a_job_is_pushed_by_its_name_once_it_has_succeeded(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import os, pathlib, sys, time\n"
        "out = pathlib.Path(os.environ['TUNEWRIGHT_WORKSPACE'], 'output')\n"
        "(out / 'model').mkdir()\n"
        "(out / 'model' / 'weights').write_text('w')\n"
        "while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.05)\n"
    )
    env = {**os.environ, "TUNEWRIGHT_HOME": str(tmp_path / "home")}
    run = [str(TUNEWRIGHT), "run", "--backend", "local", "-d", "--name", "mine", str(script), str(tmp_path / "go")]
    subprocess.run(run, env=env, check=True, capture_output=True)
    weights = next(iter((tmp_path / "home").rglob("jobs")), tmp_path) / "mine"
    for _ in range(600):
        if list(weights.rglob("model/weights")):
            break
        subprocess.run(["sleep", "0.1"], check=True)
    running = push(tmp_path, "mine", "./target")
    assert (running.returncode, "is Running, not Succeeded" in running.stderr) == (64, True), running.stderr
    assert "tunewright follow mine" in running.stderr
    (tmp_path / "go").touch()
    subprocess.run([str(TUNEWRIGHT), "follow", "mine"], env=env, check=True, capture_output=True)
    done = push(tmp_path, "mine", "./target")
    assert (done.returncode, (tmp_path / "target" / "weights").read_text()) == (0, "w"), done.stderr
    assert "nobody" in push(tmp_path, "nobody", "./target").stderr
