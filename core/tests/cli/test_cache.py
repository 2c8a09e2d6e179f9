"""`tunewright cache`: what it lists, and what it removes."""

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from tunewright import environment
from tunewright.cli.commands import cli

DAY = 86_400


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(folder))
    return folder


def put(cache: Path, name: str, *, used: float = 0.0) -> Path:
    """Something that was fetched, as the launcher keeps it, and used that many seconds ago."""
    folder = cache / name
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "model.bin").write_bytes(b"x" * 1000)
    marker = {"api": 1, "uri": f"hf://org/{name}", "revision": "v1", "files": {}}
    (folder / "files" / "complete.json").write_text(json.dumps(marker), "utf-8")
    (folder / "used").touch()
    os.utime(folder / "used", (time.time() - used,) * 2)
    return folder


def run(*words: str) -> str:
    done = CliRunner().invoke(cli, ["cache", *words])
    assert done.exit_code == 0, done.output
    return done.output


def found(*words: str) -> dict[str, dict[str, object]]:
    documents = [json.loads(line) for line in run(*words, "--json").splitlines()]
    return {str(document["uri"]): document for document in documents}


def test_an_empty_cache_says_so(cache: Path) -> None:
    assert run("list") == run("prune", "--yes") == "There is nothing.\n"
    assert found("list") == {}


def test_what_it_holds_is_listed_with_the_jobs_that_use_it(cache: Path, tmp_path: Path) -> None:
    put(cache, "old", used=3 * DAY)
    folder = put(cache, "new")
    (tmp_path / "job").hardlink_to(folder / "files" / "model.bin")
    documents = found("list")
    assert list(documents) == ["hf://org/new", "hf://org/old"]
    assert [(d["jobs"], d["revision"]) for d in documents.values()] == [(1, "v1"), (0, "v1")]
    assert "hf://org/old" in run("list")


def test_what_was_not_used_for_long_is_removed_if_that_is_wanted(cache: Path, tmp_path: Path) -> None:
    old = put(cache, "old", used=40 * DAY)
    new = put(cache, "new")
    (tmp_path / "job").hardlink_to(old / "files" / "model.bin")
    assert "would remove 1 input" in run("prune")
    assert old.exists()
    assert list(found("prune", "--older-than", "50d", "--yes")) == []
    assert "Removed 1 input." in run("prune", "--yes")
    assert (old.exists(), new.exists(), (tmp_path / "job").read_bytes()) == (False, True, b"x" * 1000)
    run("prune", "--older-than", "0s", "--yes")
    assert list(cache.iterdir()) == []


def test_what_is_being_fetched_is_left_alone(cache: Path) -> None:
    folder = cache / "busy"
    (folder / ".staging").mkdir(parents=True)
    lease = folder / ".staging" / "files.lease"
    lease.touch()
    assert "(an interrupted download)" in run("list")
    run("prune", "--older-than", "0s", "--yes")
    assert folder.exists()
    os.utime(lease, (time.time() - 600,) * 2)
    run("prune", "--older-than", "0s", "--yes")
    assert not folder.exists()


def test_it_can_be_turned_off(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cache, "old")
    monkeypatch.setenv("TUNEWRIGHT_CACHE", "off")
    assert run("list") == "There is nothing.\n"
    assert environment.caches({}) == {}


def test_steps_learn_of_both_caches(cache: Path) -> None:
    hub = "TUNEWRIGHT_HUB_CACHE"
    assert environment.caches({"HOME": "/h"}) == {"TUNEWRIGHT_CACHE": str(cache), hub: "/h/.cache/huggingface/hub"}
    assert environment.caches({"HOME": "/h", "XDG_CACHE_HOME": "/x"})[hub] == "/x/huggingface/hub"
    assert environment.caches({"HF_HOME": "/hf"})[hub] == "/hf/hub"
    assert environment.caches({"HF_HOME": "/hf", "HF_HUB_CACHE": "/c"})[hub] == "/c"


def test_what_is_fetched_by_hand_is_not_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.txt").write_bytes(b"one")
    monkeypatch.chdir(tmp_path)
    for cache in (str(tmp_path / "cache"), "off"):
        monkeypatch.setenv("TUNEWRIGHT_CACHE", cache)
        done = CliRunner().invoke(cli, ["fetch", "./source", f"./to-{Path(cache).name}"])
        assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "to-cache", "to-off"]


def test_folders_are_the_same_for_a_process_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"TUNEWRIGHT_CACHE": "cache", "HF_HOME": "/hf", "HF_HUB_CACHE": "", "OTHER": "x"}
    found = environment.in_any_folder(given)
    assert found == {**given, "TUNEWRIGHT_CACHE": str(tmp_path / "cache")}
    assert environment.in_any_folder({"TUNEWRIGHT_CACHE": "off"}) == {"TUNEWRIGHT_CACHE": "off"}
