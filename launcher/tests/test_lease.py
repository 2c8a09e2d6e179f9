"""The lease: one holder at a time, and none of the dead for long."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tunewright_launcher import lease as lease_module
from tunewright_launcher.lease import Lease, Owner

HOLD = """
import sys, time
from pathlib import Path
from tunewright_launcher.lease import Lease
with Lease(Path(sys.argv[1]), lambda: False):
    print("held", flush=True)
    time.sleep(60)
"""


def never() -> bool:
    return False


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "staging" / "model.lease"


def hold_in_another_process(file: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, file], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lease_is_given_back(file: Path) -> None:
    with Lease(file, never) as lease:
        assert lease.held
        assert file.exists()
    assert not file.exists()


def test_a_second_worker_waits_until_the_first_gives_it_back(file: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with Lease(file, never):
            order.append("second")

    with Lease(file, never):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.7)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_worker_stops_waiting_when_there_is_nothing_to_do_any_more(file: Path) -> None:
    with Lease(file, never), Lease(file, lambda: True) as second:
        assert not second.held
    assert not file.exists()


def test_the_lease_of_a_killed_process_is_taken_over_at_once(file: Path) -> None:
    process = hold_in_another_process(file)
    process.kill()
    process.wait()
    with Lease(file, never, stale_after=1000) as lease:
        assert lease.held


@pytest.mark.slow
def test_a_living_holder_is_not_taken_for_dead_where_the_system_tells_no_start_times(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_started", lambda pid: None)  # macOS has no /proc
    monkeypatch.setattr(lease_module, "_namespace", lambda: "")
    assert not Owner.this_process().is_dead()
    end = threading.Event()
    with Lease(file, never):
        threading.Timer(1, end.set).start()
        with Lease(file, end.is_set) as second:
            assert not second.held


def test_a_holder_without_a_sign_of_life_is_taken_for_dead(file: Path) -> None:
    process = hold_in_another_process(file)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with Lease(file, never, stale_after=1) as lease:
            assert lease.held
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_holder_with_signs_of_life_keeps_it(file: Path) -> None:
    with Lease(file, never, beat_every=0.1):
        end = threading.Event()
        threading.Timer(2.5, end.set).start()
        with Lease(file, end.is_set, stale_after=1) as second:
            assert not second.held


def test_a_lease_that_another_has_taken_over_is_not_given_back_for_it(file: Path) -> None:
    with Lease(file, never):
        file.write_text('{"owner": {"nonce": "another"}}', "utf-8")
    assert "another" in file.read_text("utf-8")


def test_half_a_file_of_a_killed_holder_is_no_lease_for_ever(file: Path) -> None:
    file.parent.mkdir()
    file.write_text('{"own', "utf-8")
    with Lease(file, never, stale_after=0.5) as lease:
        assert lease.held


@pytest.mark.slow
def test_a_folder_that_others_remove_when_it_is_empty(tmp_path: Path) -> None:
    folder, ended = tmp_path / ".staging", threading.Event()

    def clean() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                folder.rmdir()

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        for _ in range(200):
            with Lease(folder / "model.lease", lambda: True) as lease:
                assert lease.held or not (folder / "model.lease").exists()
    finally:
        ended.set()
        cleaner.join()
