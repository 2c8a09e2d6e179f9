"""torchrun whose ranks are forks of it, with a trainer that says what it sees: everything else is as torchrun does it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest

pytest.importorskip("torch")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process that has loaded libraries is not forked"),
]

TRAINER = """
import atexit, json, os, signal, sys, time
from pathlib import Path

import attrs
from tunewright import TrainerProvider, hookimpl
from tunewright.events import CustomEvent

IMPORTED = []


@attrs.frozen(kw_only=True)
class Sees(TrainerProvider):
    does: str = ""

    def import_libraries(self):
        if self.does == "exit in import":
            os._exit(7)
        if self.does == "no library":
            import a_library_that_is_not_there
        IMPORTED.append(os.getpid())

    def check(self, run): ...

    def train(self, run):
        about = {name: os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID")}
        about |= {"pid": os.getpid(), "session": os.getsid(0), "imported": IMPORTED, "argv": sys.argv}
        about |= {"name": Path("/proc/self/comm").read_text().strip(), "term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL}
        os.write(1, f"SEEN {json.dumps(about)}\\n".encode())  # in one piece
        atexit.register(lambda: print("BYE", flush=True))
        if self.does.startswith("rank 1") and run.rank == 1:
            how = self.does.removeprefix("rank 1 ")
            if how == "raises":
                raise ValueError("of its own")
            if how == "leaves":
                sys.exit(0)
            os._exit(int(how)) if how.isdecimal() else os.kill(os.getpid(), getattr(signal, how))
        if self.does and self.does != "rank 1 0":
            time.sleep(300)
        if run.rank == 0:
            run.result.mkdir(parents=True)
            (run.result / "model.bin").write_text("trained")


@hookimpl
def tunewright_trainer_provider():
    return Sees
"""


@attrs.frozen
class Worker:
    """A worker of a local job."""

    folder: Path

    def start(self, does: str = "") -> subprocess.Popen[str]:
        for name in ("config", "run", "workspace/output", "site/tunewright_sees-1.0.dist-info"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        info = self.folder / "site" / "tunewright_sees-1.0.dist-info"
        (self.folder / "site" / "tunewright_sees.py").write_text(TRAINER)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tunewright-sees\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[tunewright.v1]\nsees = tunewright_sees\n")
        document = {
            "api": 1,
            "kind": "trainer",
            "provider": "sees",
            "distribution": "tunewright-sees",
            "version": "1.0",
        }
        (self.folder / "config" / "trainer.json").write_text(json.dumps({**document, "params": {"does": does}}))
        names = {"WORKSPACE": "workspace", "CONFIG": "config", "RUN": "run", "TERMINATION_LOG": "termination"}
        paths = {f"TUNEWRIGHT_{name}": str(self.folder / path) for name, path in names.items()}
        set_too = {"TUNEWRIGHT_CHECK_BY_RANK": "1", "TUNEWRIGHT_MAX_RESTARTS": "0", "TUNEWRIGHT_GRACE": "20"}
        env = {**os.environ, **paths, **set_too, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(self.folder / "site")}
        torchrun = ["-m", "tunewright_launcher.forked_ranks", "--standalone", "--nproc-per-node=2", "--max-restarts=0"]
        ranks = [sys.executable, *torchrun, "-m", "tunewright_launcher", "train"]
        command = [sys.executable, "-m", "tunewright_launcher", "run", "--", *ranks]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, does: str = "") -> tuple[int, str, str]:
        process = self.start(does)
        out, err = process.communicate(timeout=240)
        return process.returncode, out, err

    def failure(self) -> str:
        return (self.folder / "termination").read_text("utf-8")


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(tmp_path)


def seen(out: str) -> list[dict]:
    return [json.loads(line.partition("SEEN ")[2]) for line in out.splitlines() if "SEEN " in line]


def test_a_rank_is_what_torchrun_would_have_started(worker: Worker) -> None:
    code, out, err = worker.run()
    assert code == 0, err
    ranks = sorted(seen(out), key=lambda rank: rank["RANK"])
    assert [(r["RANK"], r["LOCAL_RANK"], r["WORLD_SIZE"], r["name"]) for r in ranks] == [
        ("0", "0", "2", "rank 0"),
        ("1", "1", "2", "rank 1"),
    ]
    assert all(r["session"] == r["pid"] and r["TORCHELASTIC_RUN_ID"] for r in ranks)
    assert all(r["term"] for r in ranks), "torchrun's own handler is not theirs"
    assert all(r["argv"][1:] == ["train"] for r in ranks)
    assert out.count("BYE") == 2
    assert out.count('"name": "import"') == 1
    assert len({r["imported"][0] for r in ranks} - {r["pid"] for r in ranks}) == 1, "once, before they were forked"


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("SIGKILL", "rank 1"),
        ("raises", "ValueError: of its own"),
        ("9", "exit code"),
        ("0", "The process of rank 1 ended with exit code 0, in the middle of"),
    ],
)
def test_a_rank_that_ends_ends_the_others_and_is_told(worker: Worker, how: str, told: str) -> None:
    code, _, err = worker.run(f"rank 1 {how}")
    assert code == (70 if how == "0" else 1), err
    assert told in worker.failure()


def test_sigterm_ends_all_of_them(worker: Worker) -> None:
    process = worker.start("wait")
    assert process.stdout
    pids = [seen(next(line for line in process.stdout if "SEEN" in line))[0]["pid"] for _ in range(2)]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    end = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_library_that_is_missing_is_told_by_the_rank(worker: Worker) -> None:
    code, _, err = worker.run("no library")
    assert code == 64, err
    assert "needs the module a_library_that_is_not_there" in worker.failure()


def test_a_library_that_ends_the_process_is_told_with_the_plugin(worker: Worker) -> None:
    code, _, err = worker.run("exit in import")
    assert code == 1, err
    assert "in the middle of the code of the trainer plugin 'sees' (tunewright-sees)" in worker.failure()
