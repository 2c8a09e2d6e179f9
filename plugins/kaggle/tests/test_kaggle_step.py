"""`fetch` of `kaggle://` as an init container runs it: kills, full disks, restarts, and what must not be seen."""

import base64
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.servers.faulty import Fault
from tests.servers.kaggle import KEY, TOKEN, USER, Archive, FakeKaggle, Thing

DATASET = "kaggle://datasets/owner/name"
MODEL = "kaggle://models/owner/model/pyTorch/2b"
FILES = {f"part/{i}.csv": random.Random(i).randbytes(300_000 + i) for i in range(40)} | {"empty": b""}
SIZE = sum(map(len, FILES.values()))
# What is on its way in the kernel's buffers counts as sent, and there is more of it over more connections.
FEW = {"TUNEWRIGHT_FETCH_CONNECTIONS": "4"}
# Random bytes with a long tail of one letter: quick to send, and slow enough to unpack to be killed while it is done.
LONG = {f"{i}.txt": random.Random(i).randbytes(64 << 10) + b"a" * (12 << 20) for i in range(8)}


@pytest.fixture(scope="module")
def zipped() -> Archive:
    return Archive.zipped(FILES)


@pytest.fixture(scope="module")
def tarred() -> Archive:
    return Archive.tarred(FILES)


@pytest.fixture
def filled(kaggle: FakeKaggle, zipped: Archive, tarred: Archive) -> FakeKaggle:
    kaggle.things["datasets/owner/name"] = Thing(archives={4: zipped})
    kaggle.things["models/owner/model/pytorch/2b"] = Thing(archives={7: tarred})
    return kaggle


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 20 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    (folder := tmp_path / "small").mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", folder], check=False, capture_output=True)
    if made.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that within a minute"
        time.sleep(0.005)


@pytest.mark.parametrize("uri", [DATASET, pytest.param(MODEL, marks=pytest.mark.slow)])
def test_a_second_start_sends_no_request(filled: FakeKaggle, step, uri: str) -> None:
    step(uri).run()
    assert step(uri).files == FILES
    filled.log.clear()
    filled.store.log.clear()
    done = step(uri, "pod-1").run({"KAGGLE_API_TOKEN": ""})
    assert '"cached": true' in done.stdout
    assert filled.log == filled.store.log == []


def test_a_key_of_a_kaggle_json_comes_from_the_environment_too(filled: FakeKaggle, step) -> None:
    filled.things["datasets/owner/name"].private = True
    pod = step(DATASET)
    pod.run({"KAGGLE_API_TOKEN": "", "KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY})
    assert pod.files == FILES


def test_kaggles_own_sign_in_never_happens_and_a_home_is_not_needed(filled: FakeKaggle, step, tmp_path: Path) -> None:
    """Importing kaggle signs in, or ends the process; it also makes a folder at home."""
    (trap := tmp_path / "trap").mkdir()
    (trap / "kaggle.py").write_text("raise SystemExit('kaggle was imported')\n", "utf-8")
    pod = step(DATASET)
    # A home below a file can be written by nobody, root included.
    done = pod.run({"PYTHONPATH": str(trap), "HOME": "/dev/null/home", "KAGGLE_CONFIG_DIR": "/dev/null/config"})
    assert "kaggle was imported" not in done.stderr
    assert pod.files == FILES


def test_a_kaggle_json_at_home_is_not_used_unasked(filled: FakeKaggle, step) -> None:
    pod = step(DATASET)
    (home := pod.folder / "home" / ".kaggle").mkdir(parents=True)
    (home / "kaggle.json").write_text(json.dumps({"username": USER, "key": KEY}), "utf-8")
    (home / "access_token").write_text(TOKEN, "utf-8")
    pod.run({"KAGGLE_API_TOKEN": ""})
    pod.assert_failed(77, "401", "api_token")
    assert not [request for request in filled.log if "authorization" in request.headers]


def test_importing_the_plugin_imports_nothing_of_kaggle() -> None:
    code = "import sys, tunewright_kaggle, tunewright_kaggle.sources; assert not {'kaggle', 'kagglesdk'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "HOME": "/dev/null/home"})


@pytest.mark.slow
@pytest.mark.parametrize("uri", [DATASET, pytest.param(MODEL, marks=pytest.mark.slow)])
def test_a_kill_in_the_download_does_not_begin_it_anew(filled: FakeKaggle, step, uri: str) -> None:
    filled.store.faults.append(Fault(path="archive", rate=6 << 20, times=-1))
    pod = step(uri)
    process = pod.start(FEW)
    wait_for(lambda: filled.store.sent > 0.7 * SIZE)
    process.kill()
    process.communicate()
    filled.store.faults.clear()
    pod.run()
    assert pod.files == FILES
    assert filled.store.sent < 1.4 * SIZE


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [Archive.zipped, pytest.param(Archive.tarred, marks=pytest.mark.slow)], ids=["zip", "tar"]
)
def test_a_kill_while_it_is_unpacked_downloads_nothing_again(kaggle: FakeKaggle, step, make) -> None:
    archive = make(LONG)
    kaggle.things["datasets/owner/name"] = Thing(archives={1: archive})
    pod = step(DATASET)
    process = pod.start()
    wait_for(lambda: len(list(pod.workspace.glob(".staging/*/files/*.txt"))) > 2)
    process.kill()
    process.communicate()
    [staged] = pod.workspace.glob(".staging/*/files")
    assert (staged / ".kaggle-archive").exists(), "it was killed too late"
    pod.run()
    assert pod.files == LONG
    assert kaggle.store.sent < len(archive.body) + 100


@pytest.mark.slow
def test_kill_9_at_20_random_moments_downloads_less_than_5_percent_twice(
    kaggle: FakeKaggle, step, tmp_path: Path
) -> None:
    moments = random.Random(11)
    # Large beside what is on its way in the kernel's buffers.
    files = {f"part/{i}.csv": moments.randbytes(2 << 20) for i in range(40)}
    size = sum(map(len, files.values()))
    kaggle.things["datasets/owner/name"] = Thing(archives={4: Archive.zipped(files)})
    kaggle.things["models/owner/model/pytorch/2b"] = Thing(archives={7: Archive.tarred(files)})
    for number in range(20):
        pod = step(MODEL if number % 2 else DATASET, f"pod-{number}", tmp_path / f"volume-{number}")
        kaggle.store.faults[:] = [Fault(path="archive", rate=8 << 20, times=-1)]
        before, share = kaggle.store.sent, moments.uniform(0.01, 0.99)
        process = pod.start(FEW)
        wait_for(lambda before=before, share=share: kaggle.store.sent - before > share * size)
        process.kill()
        process.communicate()
        kaggle.store.faults.clear()
        pod.run()
        assert pod.files == files
        assert kaggle.store.sent - before < 1.05 * size
        shutil.rmtree(pod.workspace)


def test_a_volume_that_has_no_room_for_archive_and_contents_is_refused_before_the_download(
    filled: FakeKaggle, step, small_volume: Path
) -> None:
    pod = step(DATASET, volume=small_volume)  # each would fit by itself
    pod.run()
    pod.assert_failed(73, "larger volume")
    assert filled.store.sent < 1 << 20


@pytest.mark.slow
def test_a_volume_that_others_fill_up_while_it_is_unpacked(kaggle: FakeKaggle, step, small_volume: Path) -> None:
    files = {f"{i}.txt": random.Random(i).randbytes(10_000) + b"a" * (1 << 20) for i in range(14)}
    kaggle.things["datasets/owner/name"] = Thing(archives={1: Archive.zipped(files)})
    kaggle.store.faults += [Fault(path="archive", times=1), Fault(path="archive", rate=200_000)]
    pod = step(DATASET, volume=small_volume)
    process = pod.start()
    wait_for(lambda: kaggle.store.sent > 20_000)
    (small_volume / "other").write_bytes(bytes(10 << 20))
    process.communicate(timeout=60)
    pod.assert_failed(73)
    (small_volume / "other").unlink()
    sent = kaggle.store.sent
    pod.run()
    assert pod.files == files
    assert kaggle.store.sent - sent < 100, "the archive was there"


@pytest.mark.slow
@pytest.mark.parametrize("failing", ["archive", pytest.param("List", marks=pytest.mark.slow)])
def test_a_credential_shows_nowhere(filled: FakeKaggle, step, failing: str) -> None:
    for env, secrets in (
        ({}, (TOKEN,)),
        ({"KAGGLE_API_TOKEN": "", "KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY}, (KEY,)),
    ):
        faults = filled.store.faults if failing == "archive" else filled.faults
        faults[:] = (
            [Fault(path=failing, flip=7, times=-1)] if failing == "archive" else [Fault(path=failing, status=401)]
        )
        pod = step(DATASET, f"pod-{len(secrets[0])}")
        process = pod.start(env)
        shown = []
        while process.poll() is None:
            shown.append(Path(f"/proc/{process.pid}/cmdline").read_bytes())
            time.sleep(0.01)
        out, err = process.communicate()
        pod.assert_failed(65 if failing == "archive" else 77)
        basic = base64.b64encode(f"{USER}:{KEY}".encode())
        files = [p.read_bytes() for p in pod.folder.parent.rglob("*") if p.is_file()]
        texts = (*shown, *files, out.encode(), err.encode())
        assert shown
        assert not [text for text in texts for s in (*secrets, basic.decode()) if s.encode() in text]
    assert filled.store.credentials == []


def test_an_address_is_not_said_with_its_signature(filled: FakeKaggle, step) -> None:
    filled.store.faults += [Fault(path="archive"), Fault(path="archive", status=404, times=-1)]
    pod = step(DATASET)
    done = pod.run()
    pod.assert_failed(66, "404")
    assert "X-Goog-Signature" not in done.stderr + done.stdout


@pytest.mark.slow
def test_a_store_that_is_down_for_a_while_is_waited_for(filled: FakeKaggle, step) -> None:
    filled.store.faults.append(Fault(path="archive", status=503, times=-1))
    pod = step(DATASET)
    process = pod.start()
    time.sleep(8)
    filled.store.faults.clear()
    process.communicate(timeout=60)
    assert pod.files == FILES


def test_two_pods_that_share_a_volume_download_once(filled: FakeKaggle, step) -> None:
    pods = [step(DATASET, f"pod-{i}") for i in range(2)]
    for process in [pod.start() for pod in pods]:
        process.communicate(timeout=60)
    assert pods[0].files == FILES
    assert filled.store.sent < 1.05 * SIZE
