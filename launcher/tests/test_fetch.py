"""`fetch` as an init container runs it: a process, a real server, and what goes wrong between them."""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import psutil
import pytest
from tests.servers.faulty import Fault
from tests.servers.served import FetchStep, IndexedServer

from tunewright.runner import Failure

Step = Callable[..., FetchStep]

SMALL = {f"/weights/part-{i}.bin": random.Random(i).randbytes(3000 + i) for i in range(12)} | {"/empty": b""}
LARGE = {"/large.bin": random.Random(0).randbytes(20 << 20)}


@pytest.fixture
def server() -> Iterator[IndexedServer]:
    with IndexedServer(SMALL) as running:
        yield running


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 24 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def events(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines() if line.startswith('{"event"')]


def assert_failed(step: FetchStep, code: int, *words: str) -> None:
    verdict = step.verdict()
    assert verdict is not None
    assert verdict["code"] == code
    text = f"{verdict['cause']} {verdict['remedy']}"
    assert all(word in text for word in words), text
    assert not (step.slot / "complete.json").exists()
    told = Failure.from_message(step.termination_log.read_text("utf-8"), 1)
    assert (told.to_dict(), told.container) == (verdict, "fetch-model")


def test_a_fetched_slot_is_marked_with_size_digest_and_how_each_file_was_verified(
    server: IndexedServer, fetch_step: Step
) -> None:
    step = fetch_step(server)
    done = step.run()
    assert done.returncode == 0, done.stderr
    assert step.holds_everything()
    assert step.verdict() is None
    marker = json.loads((step.slot / "complete.json").read_text("utf-8"))
    assert marker["files"]["weights/part-3.bin"]["size"] == 3003
    assert {record["verified"] for record in marker["files"].values()} == {"sha256"}
    last = events(done.stdout)[-1]
    assert (last["event"], last["files"], last["cached"]) == ("fetched", len(SMALL), False)
    assert not (step.workspace / ".staging").exists()


def test_a_second_start_sends_no_request(server: IndexedServer, fetch_step: Step) -> None:
    fetch_step(server).run()
    server.log.clear()
    done = fetch_step(server, "pod-1").run()
    assert events(done.stdout)[-1]["cached"] is True
    assert server.log == []


def test_a_file_that_lost_bytes_is_fetched_again(server: IndexedServer, fetch_step: Step) -> None:
    step = fetch_step(server)
    step.run()
    (step.slot / "weights/part-3.bin").write_bytes(b"short")
    step.run()
    assert step.holds_everything()


@pytest.mark.slow
def test_verify_full_finds_other_contents_of_the_same_size(server: IndexedServer, fetch_step: Step) -> None:
    step = fetch_step(server)
    step.run()
    damaged = step.slot / "weights/part-3.bin"
    damaged.write_bytes(bytes(damaged.stat().st_size))
    step.run()
    assert not step.holds_everything(), "by size alone it looks whole"
    step.run(params={"verify": "full"})
    assert step.holds_everything()


@pytest.mark.slow
def test_policy_always_asks_and_fetches_only_what_has_changed_there(server: IndexedServer, fetch_step: Step) -> None:
    step = fetch_step(server)
    step.run()
    server.log.clear()
    step.run(params={"policy": "Always"})
    assert [request.path for request in server.log] == ["/index.json"]
    server.files["/weights/part-3.bin"] = b"new"
    del server.files["/weights/part-4.bin"]
    step.run(params={"policy": "Always"})
    assert step.holds_everything()


def test_foreign_entries_of_a_volume_are_left_alone(server: IndexedServer, fetch_step: Step) -> None:
    step = fetch_step(server)
    kept = step.workspace / "lost+found" / "inode"
    kept.parent.mkdir()
    kept.write_text("mine")
    step.run()
    assert kept.read_text() == "mine"
    assert step.holds_everything()


def test_files_in_the_slot_that_nobody_fetched_are_not_overwritten(server: IndexedServer, fetch_step: Step) -> None:
    step = fetch_step(server)
    step.slot.mkdir()
    (step.slot / "thesis.txt").write_text("mine")
    step.run()
    assert_failed(step, 64, "not overwritten")
    assert (step.slot / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(path="part-3", end_after=1000), marks=pytest.mark.slow),
        Fault(path="part-3", cut_after=1000),
        pytest.param(Fault(path="part-3", stall_after=1000), marks=pytest.mark.slow),
        Fault(path="part-3", flip=7),
        pytest.param(Fault(path="part-3", status=503, times=3), marks=pytest.mark.slow),
        pytest.param(Fault(path="part-3", rate=100_000, delay=0.5), marks=pytest.mark.slow),
    ],
    ids=["ended", "cut", "stalled", "bit-flipped", "503", "slow"],
)
def test_what_passes_is_overcome(server: IndexedServer, fetch_step: Step, fault: Fault) -> None:
    server.faults.append(fault)
    step = fetch_step(server)
    done = step.run()
    assert step.holds_everything(), done.stderr
    assert fault.times == 0


@pytest.mark.slow
def test_a_server_that_asks_for_a_pause_gets_it(server: IndexedServer, fetch_step: Step) -> None:
    server.faults.append(Fault(path="part-3", status=429, headers={"Retry-After": "2"}))
    step = fetch_step(server)
    began = time.monotonic()
    step.run()
    assert time.monotonic() - began > 2
    assert step.holds_everything()


def test_data_that_stays_damaged_is_refused(server: IndexedServer, fetch_step: Step) -> None:
    server.faults.append(Fault(path="part-3", flip=7, times=-1))
    step = fetch_step(server)
    assert step.run().returncode == 0, "the verdict is for `run`: an init container that fails starts again for ever"
    assert_failed(step, 65, "weights/part-3.bin", "sha256")


@pytest.mark.slow
def test_a_large_file_that_stays_damaged_is_refused(fetch_step: Step) -> None:
    with IndexedServer(LARGE) as server:
        server.faults.append(Fault(path="large", flip=7, times=-1))
        step = fetch_step(server)
        step.run()
        assert_failed(step, 65, "large.bin", "sha256")


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault(end_after=1 << 20, times=30), Fault(cut_after=1 << 20, times=6)])
def test_connections_that_are_cut_after_each_megabyte_still_bring_the_file(fetch_step: Step, fault: Fault) -> None:
    with IndexedServer(LARGE) as server:
        server.faults.append(attrs.evolve(fault, path="large"))
        step = fetch_step(server)
        step.run()
        assert step.holds_everything()


def test_a_wrong_token_is_no_permission(server: IndexedServer, fetch_step: Step) -> None:
    server.faults.append(Fault(path="part", status=401, times=-1))
    step = fetch_step(server)
    step.run()
    assert_failed(step, 77, "401")


def test_a_missing_file_is_not_found(server: IndexedServer, fetch_step: Step) -> None:
    server.faults.append(Fault(path="part-3", status=404, times=-1))
    step = fetch_step(server)
    step.run()
    assert_failed(step, 66, "part-3", "404")


def test_nothing_to_fetch_is_not_found(fetch_step: Step) -> None:
    with IndexedServer({}) as server:
        step = fetch_step(server)
        step.run()
        assert_failed(step, 66, "nothing to download")


@pytest.mark.slow
def test_a_server_that_stays_down_is_unavailable_once_the_time_is_up(server: IndexedServer, fetch_step: Step) -> None:
    server.faults.append(Fault(path="part-3", status=503, times=-1))
    step = fetch_step(server)
    step.run({"TUNEWRIGHT_RETRY_FOR": "1"})
    assert_failed(step, 69, "503")


@pytest.mark.parametrize(
    "names",
    [["../x"], ["/x"], ["complete.json"]]
    + [
        pytest.param(names, marks=pytest.mark.slow)
        for names in (["a/../../x"], ["a//x"], ["a/./x"], ["x\0y"], ["a", "a/x"], ["n" * 300])
    ],
    ids=lambda names: repr(names[-1])[:20],
)
def test_hostile_names_are_refused(fetch_step: Step, names: list[str]) -> None:
    with IndexedServer({f"/{name}": b"x" for name in names}) as server:
        step = fetch_step(server)
        step.run()
        assert_failed(step, 65, "source's file")
        # Of two names that cannot both be there, one may be.
        assert not [path for path in step.folder.parent.glob("**/x") if path.parts[-3:] != ("files", "a", "x")]


def test_a_volume_that_is_too_small_is_refused_before_it_is_full(small_volume: Path, fetch_step: Step) -> None:
    with IndexedServer({**LARGE, "/second.bin": bytes(20 << 20)}) as server:
        step = fetch_step(server, volume=small_volume)
        step.run()
        assert_failed(step, 73, "larger volume")
        assert server.sent < 5 << 20


@pytest.mark.slow
def test_a_volume_that_others_fill_up_fails_and_goes_on_once_there_is_room(
    small_volume: Path, fetch_step: Step
) -> None:
    with IndexedServer({f"/part-{number}": bytes(1 << 18) for number in range(80)}) as server:
        server.faults.append(Fault(path="part", rate=1 << 20, times=-1))
        step = fetch_step(server, volume=small_volume)
        process = step.start()
        wait_for(lambda: server.sent > 4 << 20)
        (small_volume / "other").write_bytes(bytes(12 << 20))
        process.communicate(timeout=60)
        assert_failed(step, 73, "full")
        (small_volume / "other").unlink()
        (step.run_folder / "verdict.json").unlink()
        server.faults.clear()
        before = server.sent
        step.run()
        assert step.holds_everything()
        assert server.sent - before < 18 << 20


@pytest.mark.slow
def test_a_large_file_has_its_space_from_the_beginning_and_needs_no_more_after_a_kill(
    small_volume: Path, fetch_step: Step
) -> None:
    with IndexedServer(LARGE) as server:
        server.faults.append(Fault(path="large", rate=8 << 20, times=-1))
        step = fetch_step(server, volume=small_volume)
        process = step.start()
        wait_for(lambda: server.sent > 9 << 20)
        with pytest.raises(OSError, match="No space left"):
            (small_volume / "other").write_bytes(bytes(12 << 20))
        (small_volume / "other").unlink()
        process.kill()
        process.communicate(timeout=60)
        server.faults.clear()
        before = server.sent
        step.run()
        assert step.holds_everything()
        assert server.sent - before < 18 << 20


@pytest.mark.slow
def test_a_read_only_volume_is_checked_and_never_written(small_volume: Path, fetch_step: Step) -> None:
    with IndexedServer(SMALL) as server:
        step = fetch_step(server, volume=small_volume)
        step.run()
        subprocess.run(["mount", "-o", "remount,ro", small_volume], check=True)
        again = fetch_step(server, "pod-1", volume=small_volume)
        assert events(again.run().stdout)[-1]["cached"] is True
        other = fetch_step(server, "pod-2", volume=small_volume)
        other.run(params={"uri": "served://another"})
        verdict = other.verdict()
        assert verdict
        assert verdict["code"] == 66
        assert "read-only" in str(verdict["cause"])


@pytest.mark.slow
def test_what_was_prepared_on_a_read_only_volume_is_looked_for_where_the_plan_says(
    small_volume: Path, fetch_step: Step
) -> None:
    with IndexedServer(SMALL) as server:
        step = fetch_step(server, volume=small_volume)
        step.run()
        (small_volume / "key").mkdir()
        (small_volume / "model").rename(small_volume / "key" / "model")
        subprocess.run(["mount", "-o", "remount,ro", small_volume], check=True)
        for name, code in (("key", None), ("no-such-key", 66)):
            pod = fetch_step(server, f"pod-{name}", volume=small_volume)
            pod.run(env={"TUNEWRIGHT_SLOT_MODEL": str(small_volume / name / "model")})
            verdict = pod.verdict()
            assert (verdict and verdict["code"]) == code
        assert "no-such-key/model does not hold what is requested" in str(verdict["cause"])


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that within 30 seconds"
        time.sleep(0.02)


def test_a_token_shows_nowhere(server: IndexedServer, fetch_step: Step) -> None:
    secret = "a-token-that-must-not-show"
    server.token = secret
    server.faults += [Fault(path="part-3", flip=7, times=-1), Fault(path="part", rate=2000, times=-1)]
    step = fetch_step(server)
    process = step.start({"SERVED_TOKEN": secret})
    shown = []
    while process.poll() is None:
        shown.append(Path(f"/proc/{process.pid}/cmdline").read_bytes())
        time.sleep(0.01)
    out, err = process.communicate()
    assert shown
    assert_failed(step, 65)
    files = [p.read_bytes() for p in step.folder.parent.rglob("*") if p.is_file()]
    assert not [text for text in (*shown, *files, out.encode(), err.encode()) if secret.encode() in text]


def test_a_job_that_is_terminated_in_a_fetch_goes_on_with_what_it_has(fetch_step: Step) -> None:
    with IndexedServer(LARGE) as server:
        server.faults.append(Fault(path="large", rate=8 << 20, times=-1))
        step = fetch_step(server)
        process = step.start()
        wait_for(lambda: server.sent > 8 << 20)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 143
        server.faults.clear()
        before = server.sent
        step.run()
        assert step.holds_everything()
        assert server.sent - before < 15 << 20


@pytest.mark.slow
def test_kill_9_at_20_random_moments_downloads_less_than_5_percent_twice(tmp_path: Path, fetch_step: Step) -> None:
    moments = random.Random(7)
    # Large beside what is on its way in the kernel's buffers, which counts as sent.
    files = {"/large.bin": moments.randbytes(80 << 20), **SMALL}
    total = sum(map(len, files.values()))
    for number in range(20):
        with IndexedServer(files) as server:
            server.faults.append(Fault(path="large|part", rate=32 << 20, times=-1))
            volume = tmp_path / f"volume-{number}"
            step = fetch_step(server, f"pod-{number}", volume=volume)
            process = step.start({"TUNEWRIGHT_FETCH_CONNECTIONS": "4"})
            wait_for(lambda: server.sent > moments.uniform(0.01, 0.95) * total)
            process.kill()
            process.communicate()
            server.faults.clear()
            done = step.run()
            assert step.holds_everything(), done.stderr
            assert server.sent - len(server.files["/index.json"]) * 2 < 1.05 * total


@pytest.mark.slow
@pytest.mark.parametrize("pods", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_pods_that_share_a_volume_fetch_once(server: IndexedServer, fetch_step: Step, pods: int) -> None:
    server.faults.append(Fault(path="part", delay=0.3, times=-1))
    steps = [fetch_step(server, f"pod-{i}") for i in range(pods)]
    processes = [step.start() for step in steps]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert steps[0].holds_everything(), outputs
    assert sorted(events(out)[-1].get("cached", 0) for out, _ in outputs) == [False] + [True] * (pods - 1), outputs
    fetched = Counter(request.path for request in server.log if request.path != "/index.json")
    assert set(fetched.values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize("pods", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_a_pod_that_is_killed_with_the_lease_is_succeeded_by_another(fetch_step: Step, pods: int) -> None:
    with IndexedServer({**LARGE, **SMALL}) as server:
        server.faults.append(Fault(path="large|part", rate=8 << 20, times=-1))
        steps = [fetch_step(server, f"pod-{i}") for i in range(pods)]
        processes = {step.start() for step in steps}
        lease = steps[0].workspace / ".staging" / "model.lease"
        wait_for(lambda: server.sent > 8 << 20)
        holder = psutil.Process(json.loads(lease.read_text("utf-8"))["owner"]["pid"])
        # The step itself is a fork of the pod's first process, and ends with it.
        killed = next(process for process in processes if process.pid in (holder.pid, holder.ppid()))
        killed.kill()
        outputs = [process.communicate(timeout=120) for process in processes - {killed}]
        assert steps[0].holds_everything(), outputs
        assert server.sent < 1.25 * sum(map(len, server.files.values()))
        assert not lease.exists()
