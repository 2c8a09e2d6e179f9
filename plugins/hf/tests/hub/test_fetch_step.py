"""The init container's step as a process: no secret anywhere, exit codes, and what a kill leaves is used."""

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from tests.servers.faulty import Fault
from tests.servers.git import Lfs
from tests.servers.hub import Hub, tokens_in
from tests.servers.step import step_environment

from tunewright import SecretRef
from tunewright._planning.assemble import document_of
from tunewright.plugins.registry import Registry
from tunewright_hf import HuggingFaceDatasetParams, HuggingFaceModelParams

TOKEN = "hf-token-that-must-not-show"
FILES = {"config.json": b"{}", "a.bin": Lfs(random.Random(1).randbytes(20 << 20)), "b.bin": Lfs(b"second" * 5000)}


def contents_of(files):
    return {path: file.content if isinstance(file, Lfs) else file for path, file in files.items()}


CONTENTS = contents_of(FILES)


@attrs.frozen
class Step:
    """`python -m tunewright_launcher fetch …` in a pod's folder."""

    hub: Hub
    folder: Path
    name: str = "model"

    @property
    def slot(self) -> Path:
        return self.folder / "volume" / self.name

    def start(self, *, env: dict[str, str] | None = None, **params: object) -> subprocess.Popen[str]:
        for name in ("config", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        given = {"uri": "hf://org/name", "endpoint": self.hub.url, **params}
        cls = HuggingFaceModelParams if self.name == "model" else HuggingFaceDatasetParams
        document = document_of(self.name, Registry().get("hf"), cls(**given))
        (self.folder / "config" / f"{self.name}.json").write_text(document.dumps(), "utf-8")
        environment = {
            **step_environment(self.folder, self.folder / "volume"),
            "HOME": str(self.folder / "tmp"),
            "TMPDIR": str(self.folder / "tmp"),
            "TUNEWRIGHT_FETCH_CONNECTIONS": "4",
            **(env or {}),
        }
        command = [sys.executable, "-m", "tunewright_launcher", "fetch", self.name]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)

    def run(self, **given: object) -> str:
        process = self.start(**given)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return out + err

    def files(self) -> dict[str, bytes]:
        found = {p.relative_to(self.slot).as_posix(): p.read_bytes() for p in self.slot.rglob("*") if p.is_file()}
        return {path: content for path, content in found.items() if path != "complete.json"}

    def verdict(self) -> dict[str, object]:
        return json.loads((self.folder / "run" / "verdict.json").read_text("utf-8"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        running.tokens = {TOKEN: "read"}
        yield running


@pytest.fixture
def step(hub: Hub, tmp_path: Path) -> Step:
    return Step(hub, tmp_path / "pod")


def command_lines(session: int) -> bytes:
    """The arguments of every process of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                found.append((folder / "cmdline").read_bytes())
        except (OSError, ValueError):
            continue
    return b"\n".join(found)


def watch(process: subprocess.Popen[str], folder: Path) -> tuple[bytes, dict[Path, bytes]]:
    """All arguments, and all small files with their last contents, that were seen until the process ended."""
    arguments, files = b"", {}
    while process.poll() is None:
        arguments += command_lines(process.pid)
        # `os.walk` passes over a folder that goes away meanwhile, where `Path.rglob` fails.
        for path in (Path(parent, name) for parent, _, names in os.walk(folder) for name in names):
            try:
                if path.is_file() and path.stat().st_size < 1 << 16:
                    files[path] = path.read_bytes()
            except OSError:
                continue
        time.sleep(0.02)
    return arguments, files


@pytest.mark.parametrize("known", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["right", "wrong"])
def test_a_token_shows_nowhere(known, hub, step):
    hub.repo("org/name", FILES, private=True, members={TOKEN})
    hub.tokens = {TOKEN: "read"} if known else {}
    said = {} if known else {"X-Error-Message": f"{TOKEN} is expired"}
    hub.faults.append(Fault(path="revision", delay=0.5, status=None if known else 401, headers=said))
    process = step.start(access_token=SecretRef(name="hf", key="token"), env={"HF_TOKEN": TOKEN})
    arguments, seen = watch(process, step.folder)
    out, err = process.communicate()
    if known:
        assert step.files() == CONTENTS, err
        assert tokens_in(hub.log) == {f"Bearer {TOKEN}"}
    else:
        assert step.verdict()["code"] == 77
        assert "is expired" in str(step.verdict()["cause"])
    assert b"tunewright_launcher" in arguments
    assert any(path.name == "model.json" for path in seen)
    left = [p.read_bytes() for p in step.folder.rglob("*") if p.is_file()]
    assert not [
        text for text in (arguments, out.encode(), err.encode(), *seen.values(), *left) if TOKEN.encode() in text
    ]
    assert not list((step.folder / "tmp").iterdir())


def test_a_second_start_sends_no_request(hub, step):
    commit = hub.repo("org/name", FILES).branches["main"]
    step.run()
    assert step.files() == CONTENTS
    assert json.loads((step.slot / "complete.json").read_text())["revision"] == commit
    hub.log.clear()
    assert '"cached": true' in step.run()
    assert hub.log == []


def test_what_is_damaged_at_its_source_is_never_marked(hub, step):
    hub.repo("org/name", FILES).served["config.json"] = b"[]"
    step.run()
    assert step.verdict()["code"] == 65
    assert "config.json" in str(step.verdict()["cause"])
    assert not step.slot.exists()


def test_a_repository_that_is_not_there(hub, step):
    step.run(access_token=SecretRef(name="hf", key="token"), env={"HF_TOKEN": TOKEN})
    assert step.verdict()["code"] == 66
    assert "access_token=" in str(step.verdict()["remedy"])


@pytest.mark.slow
def test_a_hub_that_is_unavailable_for_a_while(hub, step):
    hub.repo("org/name", FILES)
    everything = Fault(status=503, times=-1)
    hub.faults.append(everything)
    threading.Timer(4, lambda: setattr(everything, "times", 0)).start()
    log = step.run()
    assert step.files() == CONTENTS
    assert "failed with 503" in log
    assert "Trying again" in log


# What is on its way in the kernel's buffers counts as sent: up to some megabytes. Beside 80 MB that is next to nothing.
@pytest.mark.parametrize(
    ("mib", "moments", "most"),
    [(20, [0.7], 1.4), pytest.param(80, [i / 21 for i in range(1, 21)], 1.05, marks=pytest.mark.slow)],
    ids=["once", "20 times"],
)
def test_kill_9_and_resume_downloads_next_to_nothing_twice(mib, moments, most, hub, step):
    files = {**FILES, "a.bin": Lfs(random.Random(1).randbytes(mib << 20))}
    contents = contents_of(files)
    size = sum(map(len, contents.values()))
    hub.repo("org/name", files)
    for moment in moments:
        pod, before = attrs.evolve(step, folder=step.folder / str(moment)), hub.store.sent
        hub.store.faults.append(Fault(rate=8 << 20, times=-1))
        process = pod.start()
        deadline = time.monotonic() + 30
        while hub.store.sent - before < moment * size:
            assert time.monotonic() < deadline, "it did not come so far within 30 seconds"
            time.sleep(0.02)
        process.kill()
        process.communicate()
        hub.store.faults.clear()
        said = pod.run()
        assert pod.files() == contents, said
        assert hub.store.sent - before < most * size
        shutil.rmtree(pod.folder)


def test_a_dataset_in_its_slot(hub, step):
    files = {"train.jsonl": b'{"text": "a"}\n', "test.jsonl": b'{"text": "b"}\n'}
    hub.repo("org/name", files, kind="datasets")
    dataset = attrs.evolve(step, name="dataset")
    dataset.run(split="train")
    assert dataset.files() == {"train.jsonl": files["train.jsonl"]}


@pytest.mark.slow
def test_the_model_that_was_fetched_is_loaded_by_transformers(hub, step, model_folder):
    transformers = pytest.importorskip("transformers")
    contents = {p.name: p.read_bytes() for p in model_folder.iterdir() if p.is_file()}
    hub.repo("org/name", {n: Lfs(c) if n.endswith("safetensors") else c for n, c in contents.items()})
    step.run()
    model = transformers.AutoModelForCausalLM.from_pretrained(step.slot, local_files_only=True)
    assert model.config.hidden_size == 64
    assert transformers.AutoTokenizer.from_pretrained(step.slot, local_files_only=True)("What is 1?")["input_ids"]
