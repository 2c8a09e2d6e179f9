"""`run`: every row of its table of exit codes, with real processes and real signals."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tunewright
from tunewright import runner
from tunewright.runner.source import MODULES, module_source, runner_source

SOURCES = Path(tunewright.__file__).parent.parent
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")

READY_THEN_WAIT = "import time; print('ready', flush=True); time.sleep(300)"
IGNORES_TERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY_THEN_WAIT
# A grandchild in a session of its own, as torchrun's ranks are.
WITH_ORPHAN = (
    "import subprocess, sys, time; p = subprocess.Popen(['sleep', '300'], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL);"
    "print('orphan', p.pid, flush=True); {then}"
)


def shipped(folder: Path) -> Path:
    """The one file that images get which hold nothing of Tunewright."""
    file = folder / "run.py"
    file.write_text(runner_source(), "utf-8")
    return file


class Pod:
    """The folders and the environment of a container, and `run` in it."""

    def __init__(self, folder: Path) -> None:
        self.output, self.run_folder, self.log = folder / "ws" / "output", folder / "run", folder / "termination-log"
        self.output.mkdir(parents=True)
        self.run_folder.mkdir()
        self.file = shipped(folder)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("TUNEWRIGHT", "PET_", "OMP"))} | {
            "TUNEWRIGHT_WORKSPACE": str(folder / "ws"),
            "TUNEWRIGHT_RUN": str(self.run_folder),
            "TUNEWRIGHT_TERMINATION_LOG": str(self.log),
            "TUNEWRIGHT_GRACE": "20",
            "HOSTNAME": "sft-worker-0",
        }
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *command: str, **env: str) -> subprocess.Popen[str]:
        arguments = [sys.executable, str(self.file), "--", *command]
        process = subprocess.Popen(
            arguments, env=self.env | env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        return process

    def python(self, code: str, **env: str) -> subprocess.Popen[str]:
        return self.start(sys.executable, "-c", code, **env)

    def end(self, code: str, **env: str) -> int:
        """The exit code of `run` around Python code; what it printed is in `out` and `err`."""
        process = self.python(code, **env)
        self.out, self.err = process.communicate(timeout=60)
        return process.returncode

    @property
    def message(self) -> str:
        """The termination message, as a reader of our JSON shows it."""
        return str(runner.Failure.from_message(self.log.read_text(), 1)) if self.log.exists() else ""

    @property
    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    def attempts(self, worker: str = "sft-worker-0") -> int | None:
        file = self.output / f".attempts-{worker}.json"
        return json.loads(file.read_text())["attempts"] if file.exists() else None

    def checkpoint(self, step: int, complete: bool = True) -> None:
        folder = self.output / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        if complete:
            runner.mark_checkpoint(folder)


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    found = Pod(tmp_path)
    yield found
    for process in found.processes:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:  # not read to its end: what a failed test leaves behind may hold it open
                stream.close()


def until(condition: Callable[[], object]) -> None:
    """Wait until something is so; a test that waits in vain fails."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it never came to be so")


def ready(process: subprocess.Popen[str], word: str = "ready") -> str:
    assert process.stdout
    for line in process.stdout:
        if line.startswith(word):
            return line
    pytest.fail(f"the command ended before it said {word!r}")


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_a_command_that_succeeds_is_0_and_leaves_no_record(pod: Pod) -> None:
    assert pod.end("print('hello')") == 0
    assert "hello" in pod.out
    assert pod.events == [{"event": "attempt", "attempt": 1, "limit": 4}]
    assert list(pod.output.iterdir()) == []
    assert pod.message == ""


def test_arguments_arrive_to_the_letter(pod: Pod) -> None:
    odd = ["$HOME", "`id`", "a b", "--", "-x", "", "\\", "ü\n"]
    process = pod.start(sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))", *odd)
    assert json.loads(process.communicate(timeout=60)[0].splitlines()[-1]) == odd


def test_the_command_may_come_without_dashes(pod: Pod) -> None:
    done = subprocess.run([sys.executable, str(pod.file), "true"], env=pod.env, capture_output=True, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("code", [1, 64, 73, 127])
def test_a_verdict_ends_the_job_with_its_code_and_message_and_the_command_never_starts(pod: Pod, code: int) -> None:
    runner.write_verdict(pod.run_folder, runner.Failure(code, "The volume is full.", "Make room."))
    assert pod.end("print('started')") == code
    assert "started" not in pod.out
    assert pod.message == "The volume is full. Make room."
    assert pod.events == [{"event": "failed", "code": code, "cause": "The volume is full.", "remedy": "Make room."}]


def test_a_rank_that_leaves_a_verdict_ends_the_job_with_it(pod: Pod) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCES)!r}); from tunewright import runner; from pathlib import Path; "
    )
    code += f"runner.write_verdict(Path({str(pod.run_folder)!r}), runner.Failure(65, 'Bad data.', 'Repair it.')); sys.exit(3)"
    assert pod.end(code) == 65
    assert pod.message == "Bad data. Repair it."
    assert pod.attempts() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"code": "x"}', '{"code": 65}', "null"])
def test_a_damaged_verdict_is_final_too(pod: Pod, text: str) -> None:
    (pod.run_folder / runner.VERDICT_FILE).write_text(text)
    assert pod.end("print('started')") == 70
    assert "The verdict of an earlier step is damaged" in pod.message


@pytest.mark.parametrize("code", [0, 128, 143, -1])
def test_a_verdict_is_always_final(pod: Pod, code: int) -> None:
    runner.write_verdict(pod.run_folder, runner.Failure(code, "c", "r"))
    assert pod.end("print('started')") == 70


def test_the_first_verdict_stays(pod: Pod) -> None:
    runner.write_verdict(pod.run_folder, runner.Failure(66, "first", "r"))
    runner.write_verdict(pod.run_folder, runner.Failure(73, "second", "r"))
    assert runner.read_verdict(pod.run_folder) == runner.Failure(66, "first", "r")
    assert runner.read_verdict(pod.output) is None


def test_a_crash_is_started_again_until_the_attempts_are_used_up(pod: Pod) -> None:
    codes = [pod.end("import sys; sys.exit(7)", TUNEWRIGHT_MAX_RESTARTS="2") for _ in range(3)]
    assert codes == [129, 129, 1]
    assert [e["event"] for e in pod.events] == ["attempt", "failed"]
    after = "The training command ended with exit code 7."
    assert pod.events[0] == {"event": "attempt", "attempt": 3, "limit": 3, "after": after}, "its log may be gone"
    assert pod.message.startswith(
        "The training command ended with exit code 7; 3 of 3 attempts since the last checkpoint."
    )
    assert "max_restarts=" in pod.message
    assert pod.attempts() is None, "a job that is submitted again counts anew"


def test_without_restarts_the_first_crash_is_final(pod: Pod) -> None:
    assert pod.end("raise SystemExit(7)", TUNEWRIGHT_MAX_RESTARTS="0") == 1


@pytest.mark.slow
def test_three_restarts_are_the_default(pod: Pod) -> None:
    assert [pod.end("raise SystemExit(7)") for _ in range(4)] == [129, 129, 129, 1]


def test_a_crash_by_a_signal_is_named(pod: Pod) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert pod.end(code, TUNEWRIGHT_MAX_RESTARTS="1") == 129
    assert "ended with signal SIGKILL" in pod.err
    assert pod.end(code, TUNEWRIGHT_MAX_RESTARTS="1") == 1
    assert "ended with signal SIGKILL; 2 of 2 attempts" in pod.message


def test_a_ranks_error_is_in_the_message_and_an_old_one_is_not(pod: Pod) -> None:
    write = f"from pathlib import Path; Path({str(pod.run_folder / runner.ERROR_FILE)!r}).write_text('ValueError: ' + 'x' * 9000); "
    assert pod.end(write + "raise SystemExit(1)", TUNEWRIGHT_MAX_RESTARTS="1") == 129
    assert pod.end("raise SystemExit(1)", TUNEWRIGHT_MAX_RESTARTS="1") == 1
    assert "ValueError" not in pod.message
    assert pod.end(write + "raise SystemExit(1)", TUNEWRIGHT_MAX_RESTARTS="0") == 1
    assert "Its error: ValueError: xxx" in pod.message
    assert len(pod.log.read_bytes()) <= 4096
    assert pod.message.endswith("max_restarts= allows more attempts.")


@pytest.mark.slow
def test_a_killed_run_has_counted_its_start(pod: Pod) -> None:
    for _ in range(2):
        process = pod.python(READY_THEN_WAIT, TUNEWRIGHT_MAX_RESTARTS="1")
        ready(process)
        process.kill()
        process.wait(60)
    assert pod.attempts() == 2
    assert pod.end("print('started')", TUNEWRIGHT_MAX_RESTARTS="1") == 1
    assert "started\n" not in pod.out
    assert "was started 2 times and never reached a new checkpoint" in pod.message


@pytest.mark.slow
def test_a_new_complete_checkpoint_resets_the_count(pod: Pod) -> None:
    crash = "raise SystemExit(7)"
    assert [pod.end(crash, TUNEWRIGHT_MAX_RESTARTS="1")] == [129]
    pod.checkpoint(5)
    assert pod.end(crash, TUNEWRIGHT_MAX_RESTARTS="1") == 129
    assert pod.events[0]["attempt"] == 1
    pod.checkpoint(10, complete=False)
    assert pod.end(crash, TUNEWRIGHT_MAX_RESTARTS="1") == 1


@pytest.mark.slow
def test_an_attempt_that_got_to_a_checkpoint_is_not_the_last(pod: Pod) -> None:
    mark = (
        f"import sys; sys.path.insert(0, {str(SOURCES)!r}); from pathlib import Path; from tunewright import runner;"
        f"folder = Path({str(pod.output)!r}, 'checkpoints', 'checkpoint-' + sys.argv[1]); folder.mkdir(parents=True);"
        "runner.mark_checkpoint(folder); sys.exit(7)"
    )
    for step in ("1", "2", "3", "4"):
        process = pod.start(sys.executable, "-c", mark, step, TUNEWRIGHT_MAX_RESTARTS="1")
        process.communicate(timeout=60)
        assert process.returncode == 129
    pod.checkpoint(9)
    assert pod.end("raise SystemExit(7)", TUNEWRIGHT_MAX_RESTARTS="0") == 1, (
        "without restarts, whatever the checkpoints"
    )


@pytest.mark.slow
def test_each_worker_counts_for_itself(pod: Pod) -> None:
    crash = "raise SystemExit(7)"
    assert pod.end(crash, TUNEWRIGHT_MAX_RESTARTS="1") == 129
    assert pod.end(crash, TUNEWRIGHT_MAX_RESTARTS="1", HOSTNAME="sft-worker-1") == 129
    assert pod.end(crash, TUNEWRIGHT_MAX_RESTARTS="1", TUNEWRIGHT_WORKER="a/b") == 129
    assert (pod.attempts(), pod.attempts("sft-worker-1"), pod.attempts("a_b")) == (1, 1, 1)


def test_a_damaged_count_begins_anew(pod: Pod) -> None:
    (pod.output / ".attempts-sft-worker-0.json").write_text("{")
    assert pod.end("raise SystemExit(7)") == 129
    assert pod.attempts() == 1


def test_a_crash_that_cannot_be_counted_is_final(pod: Pod) -> None:
    shutil.rmtree(pod.output)
    assert pod.end("raise SystemExit(7)") == 1
    assert "attempts cannot be counted" in pod.err


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_passed_on_and_not_counted(pod: Pod, signum: signal.Signals, code: int) -> None:
    waiting = "import signal, sys, time\nfor s in (signal.SIGTERM, signal.SIGINT):\n    signal.signal(s, lambda n, _: (print('got', n, flush=True), sys.exit(5)))\n"
    process = pod.python(waiting + READY_THEN_WAIT)
    ready(process)
    assert pod.attempts() == 1
    process.send_signal(signum)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"got {int(signum)}" in out
    assert pod.attempts() == 0
    assert pod.message == ""


def test_a_terminated_run_stays_so_when_its_command_ends_well(pod: Pod) -> None:
    process = pod.python(
        "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n" + READY_THEN_WAIT
    )
    ready(process)
    process.terminate()
    assert process.wait(60) == 143


def test_a_command_that_does_not_heed_the_signal_is_killed_after_the_grace(pod: Pod) -> None:
    process = pod.python(IGNORES_TERM, TUNEWRIGHT_GRACE="0.2")
    ready(process)
    process.terminate()
    assert process.wait(60) == 143


def test_the_deadline_ends_the_job(pod: Pod) -> None:
    assert pod.end(READY_THEN_WAIT, TUNEWRIGHT_DEADLINE="1") == 1
    assert (
        pod.message
        == "The job did not end within its deadline of 1 seconds. Give it more time with deadline=; its checkpoints are kept."
    )
    assert list(pod.output.iterdir()) == []


@pytest.mark.slow
def test_the_deadline_counts_the_seconds_that_the_job_ran_and_none_between_two_starts(pod: Pod) -> None:
    used = pod.output / ".used"
    for _ in range(2):
        before = float(used.read_text()) if used.exists() else 0.0
        process = pod.python(READY_THEN_WAIT, TUNEWRIGHT_DEADLINE="1000")
        ready(process)
        process.terminate()
        assert process.wait(60) == 143
        assert before < float(used.read_text()) < 100
    # However long ago that was: a suspended job goes on, and a deleted one whose claim was kept.
    os.utime(used, (0, 0))
    assert pod.end("raise SystemExit(7)", TUNEWRIGHT_DEADLINE="1000") == 129
    used.write_text("1000.5")
    assert pod.end("print('started')", TUNEWRIGHT_DEADLINE="1000") == 1
    assert "started" not in pod.out
    assert "deadline of 1000 seconds" in pod.message
    assert not used.exists()


def test_a_worker_that_is_ended_after_the_job_leaves_no_record_of_the_seconds_used(pod: Pod) -> None:
    process = pod.python(READY_THEN_WAIT, TUNEWRIGHT_DEADLINE="1000")
    ready(process)
    (pod.output / ".used").unlink()  # as another worker does whose end is final
    process.terminate()
    assert process.wait(60) == 143
    assert not (pod.output / ".used").exists()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["no-such-program-anywhere"], "No such file or directory"),
        (["./not-executable"], "Permission denied"),
        (["/"], "Permission denied"),
    ],
)
def test_a_command_that_cannot_be_started_is_64(
    pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    process = pod.start(*command)
    process.communicate(timeout=60)
    assert process.returncode == 64
    assert f"The command {command[0]!r} could not be started: {says}." in pod.message
    assert "on PATH and executable" in pod.message
    assert pod.attempts() is None


def test_no_command_is_64(pod: Pod) -> None:
    process = pod.start()
    process.communicate(timeout=60)
    assert process.returncode == 64
    assert "There is no command to run" in pod.message


@pytest.mark.parametrize(
    "name", ["TUNEWRIGHT_MAX_RESTARTS", "TUNEWRIGHT_DEADLINE", "TUNEWRIGHT_GRACE", "TUNEWRIGHT_PARENT"]
)
def test_a_setting_that_is_no_number_is_64(pod: Pod, name: str) -> None:
    assert pod.end("print('started')", **{name: "soon"}) == 64
    assert f"{name}='soon' is not a number" in pod.err


def test_settings_may_be_missing_altogether(tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith("TUNEWRIGHT")}
    done = subprocess.run(
        [sys.executable, str(shipped(tmp_path)), "--", "false"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "attempts cannot be counted" in done.stderr


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")


@LINUX
@pytest.mark.parametrize(("then", "code"), [("sys.exit(0)", 0), ("sys.exit(7)", 129), ("time.sleep(300)", 143)])
def test_what_the_command_leaves_behind_is_ended(pod: Pod, then: str, code: int) -> None:
    process = pod.python(WITH_ORPHAN.format(then=then))
    orphan = int(ready(process, "orphan").split()[1])
    if code == 143:
        process.terminate()
    assert process.wait(60) == code
    assert not alive(orphan)


@LINUX
def test_a_killed_run_takes_its_command_with_it(pod: Pod) -> None:
    process = pod.python("import os; print('pid', os.getpid(), flush=True); import time; time.sleep(300)")
    pid = int(ready(process, "pid").split()[1])
    assert alive(pid)
    process.kill()
    process.wait(60)
    until(lambda: not alive(pid))


@LINUX
def test_run_does_not_outlive_the_parent_that_it_is_told_of(pod: Pod) -> None:
    code = (
        "import os, subprocess, sys; p = subprocess.Popen(sys.argv[1:], env={**os.environ, 'TUNEWRIGHT_PARENT': str(os.getpid())});"
        "print('run', p.pid, flush=True); p.wait()"
    )
    command = [sys.executable, "-c", code, sys.executable, str(pod.file), "--", "sleep", "300"]
    parent = subprocess.Popen(command, env=pod.env, stdout=subprocess.PIPE, text=True)
    pod.processes.append(parent)
    pid = int(ready(parent, "run").split()[1])
    until(lambda: pod.attempts() == 1)
    parent.kill()
    until(lambda: not alive(pid))
    assert pod.attempts() == 0


def test_the_command_does_not_see_what_is_meant_for_run_alone(pod: Pod) -> None:
    assert pod.end("import os; assert 'TUNEWRIGHT_PARENT' not in os.environ", TUNEWRIGHT_PARENT=str(os.getpid())) == 0


@pytest.mark.slow
def test_the_ranks_get_their_share_of_the_threads_unless_the_user_says_otherwise(pod: Pod) -> None:
    show = "import os; print('threads', os.environ['OMP_NUM_THREADS'])"
    cpus = runner.usable_cpus()
    for env, expected in [
        ({}, cpus),
        ({"PET_NPROC_PER_NODE": "2"}, max(1, cpus // 2)),
        ({"OMP_NUM_THREADS": "7"}, 7),
        ({"PET_NPROC_PER_NODE": "auto"}, 1),
    ]:
        assert pod.end(show, **env) == 0
        assert f"threads {expected}\n" in pod.out


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1), ({"cpu.max": "50000 100000\n"}, 1), ({"cpu.max": "200000 100000"}, 2), ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": ""}, 64), ({"cpu.max": "garbage"}, 64), ({}, 64), ({"cpu.max": "0 0"}, 64), ({"cpu.max": "-1 100000"}, 64),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "300000\n"}, 64),
    ],
)  # fmt: skip
def test_cpus_are_those_of_the_cgroups_quota_rounded_down(
    tmp_path: Path, monkeypatch, files: dict[str, str], quota: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert runner.usable_cpus(tmp_path) == quota


def test_cpus_are_no_more_than_the_process_may_use(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    (tmp_path / "cpu.max").write_text("800000 100000")
    assert runner.usable_cpus(tmp_path) == 2


def test_the_newest_checkpoint_is_the_complete_one_with_the_highest_step(pod: Pod) -> None:
    assert runner.newest_checkpoint(pod.output / "checkpoints") is None
    for step in (9, 10, 100):
        pod.checkpoint(step)
    pod.checkpoint(200, complete=False)
    for odd in ("checkpoint-x", "checkpoint-", "tmp-checkpoint-300", "checkpoint-300-old"):
        (pod.output / "checkpoints" / odd).mkdir()
        (pod.output / "checkpoints" / odd / runner.MARKER).write_text("{}")
    assert runner.newest_checkpoint(pod.output / "checkpoints") == pod.output / "checkpoints" / "checkpoint-100"


@pytest.mark.parametrize("harm", ["cut", "removed", "damaged marker", "empty marker"])
def test_a_checkpoint_that_is_not_whole_any_more_is_passed_over(pod: Pod, harm: str) -> None:
    pod.checkpoint(10)
    newest = pod.output / "checkpoints" / "checkpoint-20"
    (newest / "shards").mkdir(parents=True)
    file = newest / "shards" / "weights"
    file.write_bytes(b"weights")
    runner.mark_checkpoint(newest)
    assert runner.newest_checkpoint(pod.output / "checkpoints") == newest
    if harm == "removed":
        file.unlink()
    elif harm == "cut":
        file.write_bytes(b"weight")
    else:
        (newest / runner.MARKER).write_text("{" if harm == "damaged marker" else "")
    assert runner.newest_checkpoint(pod.output / "checkpoints") == pod.output / "checkpoints" / "checkpoint-10"


def test_a_marker_of_an_older_release_is_believed(pod: Pod) -> None:
    pod.checkpoint(10, complete=False)
    (pod.output / "checkpoints" / "checkpoint-10" / runner.MARKER).write_text('{"step": 10}')
    assert runner.newest_checkpoint(pod.output / "checkpoints").name == "checkpoint-10"


def test_a_checkpoint_under_another_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Name it checkpoint-<step>"):
        runner.mark_checkpoint(tmp_path)


def test_a_file_is_replaced_whole_and_nothing_is_left_over(tmp_path: Path) -> None:
    for text in ("first", "second ü"):
        runner.write_atomically(tmp_path / "file", text)
        assert (tmp_path / "file").read_text("utf-8") == text
    with pytest.raises(OSError, match="directory"):
        runner.write_atomically(tmp_path, "text")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_message_fits_and_keeps_the_remedy(tmp_path: Path) -> None:
    log = tmp_path / "log"
    runner.report(runner.Failure(1, "ü" * 9000, "Do this."), log)
    message = log.read_text()
    assert 4000 < len(message.encode()) <= 4096
    assert message.startswith('{"cause": "üü'), "what `kubectl describe` shows begins with the cause"
    assert len(message.splitlines()) == 1
    assert runner.Failure.from_message(message, 9).remedy == "Do this."
    runner.report(runner.Failure(1, "", "x" * 9000), log)
    assert len(log.read_bytes()) <= 4096
    runner.report(runner.Failure(1, "\udcff", ""), log)
    assert runner.Failure.from_message(log.read_text(), 9) == runner.Failure(1, "?")


def test_a_failure_is_one_value_in_every_form() -> None:
    failure = runner.Failure(66, "No such repository.", "Check the URI.", "fetch-model", 2)
    assert runner.Failure.from_dict(json.loads(json.dumps(failure.to_dict()))) == failure
    assert runner.Failure.from_message(failure.to_message().decode(), 1) == failure
    assert str(failure) == "No such repository. Check the URI."
    assert failure.seen_in("train", 0) == failure, "it names its own origin"
    assert runner.Failure(1, "x").seen_in("train", 0) == runner.Failure(1, "x", "", "train", 0)


@pytest.mark.parametrize(
    "text", ["Killed by a library.", '{"code": 3}', "[]", '"x"', '{"event": "step", "step": 1}', ""]
)
def test_a_message_that_is_not_ours_is_the_cause(text: str) -> None:
    assert runner.Failure.from_message(f"{text}\n", 9) == runner.Failure(9, text)


def test_a_verdict_is_passed_on_with_the_container_that_failed(pod: Pod) -> None:
    failure = runner.Failure(66, "No such repository.", "Check the URI.", "fetch-model")
    runner.write_verdict(pod.run_folder, failure)
    assert pod.end("print('started')") == 66
    assert pod.events == [{"event": "failed", **failure.to_dict()}]
    assert runner.Failure.from_message(pod.log.read_text(), 1) == failure


def test_the_file_imports_the_standard_library_alone_in_the_grammar_of_python_3_9() -> None:
    tree = ast.parse(runner_source(), feature_version=(3, 9))
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= set(sys.stdlib_module_names)


def test_the_file_is_made_of_all_modules_and_no_name_of_one_hides_anothers() -> None:
    there = {path.stem for path in Path(runner.__file__).parent.glob("*.py")}
    assert there - {"__init__", "source", "leases"} == set(MODULES)
    defined = [name for module in MODULES for name in names_in(ast.parse(module_source(module)))]
    assert len(defined) == len(set(defined))


def names_in(module: ast.Module) -> set[str]:
    """What a module defines, less what it imports."""
    found = {node.name for node in module.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    targets = [target for node in module.body if isinstance(node, ast.Assign) for target in node.targets]
    return found | {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


def pythons() -> list[str]:
    """Python interpreters that are older and newer than this one, as far as there are any."""
    homes = [Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")]
    found = {v: p for home in homes for v in ("3.9", "3.10", "3.12", "3.13") for p in home.glob(f"{v}.*/bin/python{v}")}
    found |= {
        v: Path(p) for v in ("3.9", "3.10", "3.12", "3.13") if v not in found and (p := shutil.which(f"python{v}"))
    }
    return [str(p) for p in found.values()]


@pytest.mark.slow
@pytest.mark.parametrize("python", pythons(), ids=lambda path: re.sub(r".*/", "", path))
def test_the_file_runs_alone_under_other_pythons(pod: Pod, python: str) -> None:
    if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"{python} does not run")
    codes = []
    for command in (["true"], ["sh", "-c", "kill -9 $$"], ["no-such-program"]):
        done = subprocess.run(
            [python, "-I", "-S", str(pod.file), "--", *command],
            env=pod.env,
            capture_output=True,
            text=True,
            check=False,
        )
        codes.append(done.returncode)
        assert "Traceback" not in done.stderr
    assert codes == [0, 129, 64]
    process = subprocess.Popen(
        [python, "-I", "-S", str(pod.file), "--", sys.executable, "-c", READY_THEN_WAIT],
        env=pod.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    pod.processes.append(process)
    ready(process)
    process.terminate()
    assert process.wait(60) == 143


@pytest.mark.slow
def test_workers_after_the_first_stay_where_the_first_success_ends_the_job(pod: Pod) -> None:
    began = time.monotonic()
    assert pod.end("pass", TUNEWRIGHT_LINGER="60") == 0, "the first one, which has the log of rank 0"
    assert pod.end("raise SystemExit(3)", TUNEWRIGHT_LINGER="60", HOSTNAME="sft-worker-10") != 0, "nor what has failed"
    assert time.monotonic() - began < 50
    began = time.monotonic()
    assert pod.end("pass", TUNEWRIGHT_LINGER="2", HOSTNAME="sft-worker-1") == 0
    assert time.monotonic() - began >= 2
    staying = pod.python("print('done', flush=True)", TUNEWRIGHT_LINGER="60", HOSTNAME="sft-worker-1")
    ready(staying, "done")
    until(lambda: not Path(f"/proc/{staying.pid}/task/{staying.pid}/children").read_text())
    time.sleep(2)  # it looks ten times a second
    staying.terminate()
    assert staying.wait(30) == 0, "it has succeeded, whatever ends it now"
