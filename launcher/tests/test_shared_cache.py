"""The cache that the jobs of one machine share: one download for all, and no job that spoils another's files."""

import errno
import hashlib
import os
import random
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from tests.servers.faulty import Fault
from tests.servers.served import FetchStep, IndexedServer
from tests.servers.step import step_environment

from tunewright import ExitCode, FetchError
from tunewright._canonical import dumps
from tunewright.plugins.registry import Registry
from tunewright.providers import wire
from tunewright.providers.builtin.file import FileModel
from tunewright_launcher import shared_cache
from tunewright_launcher.fetch import _in_cache
from tunewright_launcher.journal import FileRecord
from tunewright_launcher.shared_cache import SMALL, CachedItem, share
from tunewright_launcher.slots import Slot

LARGE = random.Random(8).randbytes(3 * SMALL)
FILES = {"/config.json": b"{}", "/sub/model.bin": LARGE}

Make = Callable[..., FetchStep]


@attrs.frozen
class Machine:
    """Jobs that share a cache: each has a volume of its own, and fetches from one server."""

    server: IndexedServer
    make: Make
    folder: Path

    def job(self, name: str) -> FetchStep:
        return self.make(self.server, name, self.folder / f"{name}-volume")

    @property
    def env(self) -> dict[str, str]:
        return {"TUNEWRIGHT_CACHE": str(self.folder / "cache"), "TUNEWRIGHT_RETRY_FOR": "0"}

    def fetch(self, name: str, **env: str) -> FetchStep:
        job = self.job(name)
        done = job.run({**self.env, **env})
        assert (done.returncode, job.verdict()) == (0, None), done.stderr
        assert job.holds_everything()
        return job

    @property
    def downloads(self) -> int:
        """Requests for files, but for the listing."""
        return len([request for request in self.server.log if request.path != "/index.json"])


@pytest.fixture
def machine(fetch_step: Make, tmp_path: Path):
    with IndexedServer(FILES) as server:
        yield Machine(server, fetch_step, tmp_path)


def same_file(first: Path, second: Path) -> bool:
    return first.samefile(second)


def has_clones(folder: Path) -> bool:
    """Whether the file system clones files, so that there are no hard links to see."""
    one, two = folder / "clone-1", folder / "clone-2"
    one.write_bytes(b"x")
    return shared_cache._clone(one, two)


def test_jobs_download_once_and_share_large_files(machine: Machine, tmp_path: Path) -> None:
    first, second = machine.fetch("one"), machine.fetch("two")
    assert machine.downloads == len(FILES)
    large = "sub/model.bin"
    if not has_clones(tmp_path):
        assert same_file(first.slot / large, second.slot / large)
        assert stat.S_IMODE((first.slot / large).stat().st_mode) == 0o444
    assert not same_file(first.slot / "config.json", second.slot / "config.json")


@pytest.mark.slow
def test_jobs_at_once_download_once(machine: Machine) -> None:
    machine.server.faults.append(Fault(path="model.bin", rate=2 * SMALL, times=-1))
    jobs = [machine.job(name) for name in ("one", "two", "three")]
    for process in [job.start(machine.env) for job in jobs]:
        process.communicate(timeout=120)
    assert all(job.holds_everything() for job in jobs)
    assert machine.downloads == len(FILES)


def test_a_job_that_changes_its_inputs_changes_no_later_one(machine: Machine) -> None:
    first = machine.fetch("one")
    (first.slot / "config.json").write_bytes(b"changed")
    large = first.slot / "sub/model.bin"
    large.chmod(0o644)
    with large.open("r+b") as file:
        file.write(b"changed in place, as only who changes the mode or is root can")
    machine.fetch("two")


@pytest.mark.slow
def test_a_new_version_is_fetched_and_earlier_jobs_keep_theirs(machine: Machine) -> None:
    first = machine.fetch("one")
    machine.server.files["/sub/model.bin"] = LARGE[::-1]
    machine.fetch("two")
    assert (first.slot / "sub/model.bin").read_bytes() == LARGE


@pytest.mark.slow
def test_what_was_fetched_is_used_while_the_source_is_away(machine: Machine) -> None:
    machine.fetch("one")
    machine.server.faults.append(Fault(status=503, times=-1))
    job = machine.job("two")
    done = job.run(machine.env)
    assert job.holds_everything()
    assert "is used" in done.stderr
    job = machine.job("three")  # one that must have the newest says so
    done = job.run(machine.env, {"policy": "Always"})
    assert job.verdict()["code"] == 69


@pytest.mark.slow
def test_files_that_vanish_from_the_cache_are_fetched_again(machine: Machine) -> None:
    machine.fetch("one")
    for file in (machine.folder / "cache").rglob("model.bin"):
        file.unlink()
    machine.fetch("two")


@pytest.mark.slow
def test_without_a_cache_each_job_fetches(machine: Machine) -> None:
    machine.fetch("one", TUNEWRIGHT_CACHE="")
    machine.fetch("two", TUNEWRIGHT_CACHE="")
    assert machine.downloads == 2 * len(FILES)


@pytest.mark.parametrize("change", ["replaced", "written to", "removed"])
def test_files_that_change_while_they_are_linked_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    item = CachedItem(tmp_path / "cache" / "key")
    files = item.slot.folder
    records = {name: FileRecord(size=3, sha256=hashlib.sha256(b"one").hexdigest()) for name in ("a", "b")}
    marker = {"api": 1, "provider": "p", "uri": "u", "request": "r", "revision": None, "fetched_at": ""}

    def fill(folder: Path) -> None:
        folder.mkdir(parents=True)
        for name in records:
            (folder / name).write_bytes(b"one")
        known = {name: attrs.asdict(record) for name, record in records.items()}
        (folder / "complete.json").write_text(dumps({**marker, "files": known}), "utf-8")

    def share_and_change(source: Path, target: Path) -> None:
        share(source, target)
        if source.name == "a" and change == "written to":
            source.write_bytes(b"two")
        elif source.name == "a":
            files.rename(tmp_path / "old")
            if change == "replaced":
                fill(files)

    fill(files)
    item.protect()
    place = Slot(tmp_path / "volume", "model")
    monkeypatch.setattr(shared_cache, "share", share_and_change)
    with pytest.raises(FetchError) as caught:
        item.give_to(place, "r")
    assert (caught.value.code, place.folder.exists()) == (ExitCode.TRY_AGAIN, False)


def fetch_folder(source: Path, pod: Path, cache: Path) -> Path:
    """Fetch a folder of this machine as a job; where it is then."""
    (pod / "config").mkdir(parents=True)
    provider, plugin = FileModel(uri=source.as_uri()), Registry().get("file")
    params = wire.unstructure(provider, "model")
    about = {"api": 1, "kind": "model", "provider": "file", "distribution": plugin.dist, "version": plugin.version}
    (pod / "config" / "model.json").write_text(dumps({**about, "params": params}), "utf-8")
    env = {**step_environment(pod, pod / "volume"), "TUNEWRIGHT_CACHE": str(cache)}
    command = [sys.executable, "-m", "tunewright_launcher", "fetch", "model"]
    done = subprocess.run(command, env=env, text=True, capture_output=True, check=False, cwd=pod)
    assert done.returncode == 0, done.stderr
    return pod / "volume" / "model"


@pytest.mark.slow
def test_a_folder_of_this_machine_is_copied_once_for_all_jobs(tmp_path: Path) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    source.mkdir()
    (source / "model.bin").write_bytes(LARGE)
    first, second = (fetch_folder(source, tmp_path / name, cache) for name in ("one", "two"))
    assert len(list(cache.glob("*/files/model.bin"))) == 1
    assert has_clones(tmp_path) or same_file(first / "model.bin", second / "model.bin")
    assert not same_file(first / "model.bin", source / "model.bin")
    (source / "model.bin").write_bytes(LARGE[::-1])
    assert (fetch_folder(source, tmp_path / "three", cache) / "model.bin").read_bytes() == LARGE[::-1]
    assert (first / "model.bin").read_bytes() == LARGE


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_where_no_links_are_possible_files_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    (tmp_path / "a").write_bytes(LARGE)
    share(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == LARGE


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no second file system to copy to")
def test_files_of_another_file_system_are_copied(tmp_path: Path) -> None:
    other = Path("/dev/shm", f"tunewright-{os.getpid()}")
    (tmp_path / "a").write_bytes(LARGE)
    try:
        share(tmp_path / "a", other)
        assert other.read_bytes() == LARGE
    finally:
        other.unlink(missing_ok=True)


def test_a_cache_that_cannot_be_written_to_is_not_used(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    job = machine.job("a")
    done = job.run({**machine.env, "TUNEWRIGHT_CACHE": str(tmp_path / "taken")})
    assert (done.returncode, job.verdict()) == (0, None), done.stderr
    assert job.holds_everything()
    assert f"The cache {tmp_path / 'taken'} is not used, as it cannot be written to (File exists)." in done.stderr


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), FetchError("It is full.", remedy="-", code=ExitCode.NO_SPACE)],
)
def test_a_full_cache_is_named(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(FetchError, match="the cache that jobs share") as caught, _in_cache(CachedItem(tmp_path / "x")):
        raise error
    assert caught.value.code is ExitCode.NO_SPACE
    assert str(tmp_path) in caught.value.cause
    assert "tunewright cache prune" in caught.value.remedy
