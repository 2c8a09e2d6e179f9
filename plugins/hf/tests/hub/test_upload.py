"""`output="hf://org/name"`: what is committed to a Hub on the loopback interface, and what comes back."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.faulty import Fault
from tests.servers.git import Lfs
from tests.servers.hub import Hub

from tunewright import ExitCode, FetchError
from tunewright.providers.limits import FetchLimits
from tunewright.providers.outputs import Store
from tunewright_hf import HuggingFaceModelParams
from tunewright_launcher.engine import fetch_snapshot
from tunewright_launcher.outputs import Output

pytest.importorskip("huggingface_hub")
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own
WRITER, READER = "hf-token-of-a-writer", "hf-token-of-a-reader"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        running.tokens = {WRITER: "write", READER: "read"}
        yield running


def store_of(hub: Hub, uri: str = "hf://org/model", token: str | None = WRITER) -> Store:
    return HuggingFaceModelParams(uri=uri, endpoint=hub.url, access_token=token).store()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    contents = {
        "config.json": b"{}",
        "model.safetensors": b"w" * 300_000,
        "README.md": b"---\nlicense: mit\n---\n# It\n",
        "empty": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in contents}


def contents_of(files: dict[str, Path]) -> dict[str, bytes]:
    return {name: file.read_bytes() for name, file in files.items()}


def test_an_upload_is_one_commit_to_a_repository_that_is_made_private(hub, files):
    store = store_of(hub)
    assert list(store.entries("")) == []
    store.upload(files)
    repo = hub.models["org/model"]
    assert repo.private
    assert len(repo.commits) == 2
    assert contents_of(files).items() <= repo.contents.items()
    assert isinstance(repo.files["model.safetensors"], Lfs)
    assert hub.store.leaked == []
    assert {e.path: e.size for e in store.entries("")}.items() >= {
        n: f.stat().st_size for n, f in files.items()
    }.items()


def test_the_same_again_makes_no_commit_and_sends_nothing(hub, files):
    store_of(hub).upload(files)
    repo, sent = hub.models["org/model"], len(hub.store.log)
    store_of(hub).upload(files)
    assert len(repo.commits) == 2
    assert len(hub.store.log) == sent


def test_a_branch_is_made_where_it_is_named(hub, files):
    hub.repo("org/model", {"a": b"a"})
    store_of(hub, "hf://org/model@new").upload(files)
    repo = hub.models["org/model"]
    assert list(repo.files) == ["a"]
    assert set(files) < set(repo.commits[repo.branches["new"]])
    assert not repo.private


def test_a_folder_is_fetched_back_and_removed(hub, files, tmp_path):
    store = store_of(hub)
    store.upload({f"checkpoints/k/checkpoint-1/{name}": file for name, file in files.items()})
    target = tmp_path / "back"
    target.mkdir()
    records = dict(fetch_snapshot(store.snapshot("checkpoints/k/checkpoint-1"), target))
    assert {path: (target / path).read_bytes() for path in records} == contents_of(files)
    store.remove("checkpoints/k/checkpoint-1")
    store.remove("checkpoints/k/checkpoint-1")
    assert list(store.entries("checkpoints")) == []
    assert len(hub.models["org/model"].commits) == 3


def test_the_launcher_uploads_models_and_checkpoints_and_finds_the_newest(hub, files, tmp_path):
    limits = FetchLimits(retry_for=0)
    output = Output(store=store_of(hub), uri="hf://org/model", key="0" * 16, limits=limits, say=print)
    output.check_writable()
    model = tmp_path / "result"
    model.mkdir()
    for name, file in files.items():
        (model / name).write_bytes(file.read_bytes())
    for step in (1, 2):
        checkpoint = model.rename(tmp_path / f"checkpoint-{step}")
        output.upload_checkpoint(checkpoint)
        model = checkpoint
    output.upload_model(model)
    output.upload_model(model)
    repo = hub.models["org/model"]
    assert set(repo.files) == {".gitattributes", *files, *(f"checkpoints/{'0' * 16}/checkpoint-2/{n}" for n in files)}
    assert len(repo.commits) == 1 + 3 + 1
    back = tmp_path / "back"
    output.fetch_checkpoint(back)
    found = {p.name: p.read_bytes() for p in (back / "checkpoint-2").iterdir() if p.name != "complete.json"}
    assert found == contents_of(files)
    weights = next(name for name in files if name.endswith(".safetensors"))
    (model / weights).rename(model / "model-00001-of-00001.safetensors")
    output.upload_model(model)
    assert weights not in repo.files, "it would be loaded instead of the new ones"
    assert f"checkpoints/{'0' * 16}/checkpoint-2/{weights}" in repo.files
    assert len(repo.commits) == 1 + 3 + 1 + 1, "in the same commit"


def test_by_hand_everything_is_asked_once(hub, files, tmp_path):
    hub.repo("org/model", {".gitattributes": b"*.safetensors filter=lfs\n"}, members={WRITER})
    model = tmp_path / "result"
    model.mkdir()
    for name, file in files.items():
        file.rename(model / name)
    output = Output(store=store_of(hub), uri="hf://org/model", key="0" * 16, limits=FetchLimits(), say=print)
    there = output.refuse_another(model, replace=False)
    output.check_writable()
    output.upload_model(model, there)
    asked = [request.path.partition("?")[0] for request in hub.log]
    assert sum("/revision/" in path for path in asked) == 2, (
        "before the upload, and before it is asked whether it may be"
    )
    assert sum("/tree/" in path for path in asked) == 2, "before and after the upload"
    assert len(asked) == 2 + 2 + 1 + 6, "the probe; and what huggingface_hub asks for a commit and, once, for Xet"


def test_whether_it_may_be_written_to_is_asked_without_a_commit(hub):
    store_of(hub).check_writable()
    repo = hub.models["org/model"]
    store_of(hub).check_writable()
    assert len(repo.commits) == 1


def fails(code: ExitCode, *words: str):
    return pytest.raises(FetchError, check=lambda e: e.code is code and all(w in str(e) for w in words))


def test_who_may_not_write_is_told_so_before_the_training(hub):
    with fails(ExitCode.NO_PERMISSION, "needs a token"):
        store_of(hub, token=None)
    for uri in ("hf://org/model", "hf://org/new"):
        hub.models.pop("org/new", None)
        hub.repo("org/model")
        with fails(ExitCode.NO_PERMISSION, uri, "access_token="):
            store_of(hub, uri, READER).check_writable()
    with fails(ExitCode.NO_PERMISSION, "does not accept the token"):
        store_of(hub, token="wrong").check_writable()
    with fails(ExitCode.USAGE, "names a commit"):
        store_of(hub, f"hf://org/model@{'a' * 40}")


def test_a_file_that_a_gitignore_leaves_out_is_missed(hub, files):
    hub.ignored = {"model.safetensors"}
    with fails(ExitCode.BAD_DATA, "model.safetensors", ".gitignore"):
        store_of(hub).upload(files)


def test_a_commit_with_other_contents_is_noticed(hub, files):
    commit = hub.commit
    hub.commit = lambda repo, found, **at: commit(repo, found | {"config.json": b"[]"}, **at)
    with fails(ExitCode.BAD_DATA, "config.json"):
        store_of(hub).upload(files)


@pytest.mark.parametrize(
    ("status", "code"), [(409, ExitCode.TRY_AGAIN), (412, ExitCode.TRY_AGAIN), (500, ExitCode.UNAVAILABLE)]
)
def test_a_commit_that_fails_may_be_tried_again(status, code, hub, files):
    store = store_of(hub)
    hub.faults.append(Fault(path="/commit/", status=status))
    with fails(code):
        store.upload(files)
    store.upload(files)
    assert contents_of(files).items() <= hub.models["org/model"].contents.items()


def test_a_hub_that_is_gone_is_unavailable(hub, files):
    store = store_of(hub)
    store.check_writable()
    hub.faults.append(Fault(path="/commit/", cut_after=0))
    with fails(ExitCode.UNAVAILABLE, "hf://org/model"):
        store.upload(files)


def test_a_file_that_is_gone_meanwhile(hub, files):
    files["config.json"].unlink()
    with pytest.raises(FileNotFoundError):
        store_of(hub).upload(files)


def test_offline_mode_is_named(hub, files):
    script = f"""
from pathlib import Path
from tunewright_hf import HuggingFaceModelParams
store = HuggingFaceModelParams(uri="hf://org/model", endpoint={hub.url!r}, access_token={WRITER!r}).store()
try:
    store.upload({{"config.json": Path({str(files["config.json"])!r})}})
except Exception as error:
    print(type(error).__name__, error.code, error)
"""
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("FetchError 64 HF_HUB_OFFLINE is set")


def test_nothing_is_kept_on_this_machine(hub, files, tmp_path):
    home = tmp_path / "home"
    script = f"""
import json, sys
from pathlib import Path
from tunewright_hf import HuggingFaceModelParams
store = HuggingFaceModelParams(uri="hf://org/model", endpoint={hub.url!r}, access_token={WRITER!r}).store()
store.check_writable()
store.upload({{name: Path(file) for name, file in json.loads(sys.argv[1]).items()}})
"""
    env = {**os.environ, "HOME": str(home), "HF_HOME": str(home / "hf")}
    arguments = json.dumps({name: str(file) for name, file in files.items()})
    done = subprocess.run(
        [sys.executable, "-c", script, arguments], env=env, capture_output=True, text=True, check=True
    )
    left = [p for p in home.rglob("*") if p.is_file()]
    assert not [p for p in left if WRITER.encode() in p.read_bytes()]
    assert WRITER not in done.stdout + done.stderr
