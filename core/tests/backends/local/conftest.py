"""The tests of the local backend share small plans with the real runner, and a look at what they leave over."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tunewright._client.job import Job
from tunewright.backends.base import BackendOptions
from tunewright.backends.local.backend import LocalBackend
from tunewright.plan.plan import ContainerSpec, JobPlan
from tunewright.request.request import with_policies
from tunewright.runner.source import runner_source
from tunewright.status.state import JobState
from tunewright.status.status import JobStatus

RUN = ("python3", "$(TUNEWRIGHT_CONFIG)/run.py", "--")

# Every script begins so: `out` is the output folder, `wait("x")` waits for the file x in it.
PRELUDE = """
import json, os, pathlib, signal, subprocess, sys, time
out = pathlib.Path(os.environ["TUNEWRIGHT_WORKSPACE"], "output")
run = pathlib.Path(os.environ["TUNEWRIGHT_RUN"])
me = os.environ["TUNEWRIGHT_WORKER"][-1]
def wait(name):
    while not (out / name).exists():
        time.sleep(0.02)
def first_time():
    try:
        (out / ("begun" + me)).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
"""


class Machine:
    """This machine as a user has it: a backend, and a look at its jobs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.backend = LocalBackend.connect(BackendOptions())

    @staticmethod
    def plan(script: str = "", *, steps: Sequence[tuple[str, str]] = (), **fields: Any) -> JobPlan:
        """A job whose main container is the runner with a script, after steps that are scripts: (name, text)."""
        scripts = {f"{name}.py": PRELUDE + text for name, text in (*steps, ("train", script))}
        main = ContainerSpec(name="train", image="none", command=(*RUN, *_python("train")), env=fields.pop("env", {}))
        env = fields.pop("init_env", {})
        init = [ContainerSpec(name=name, image="none", command=_python(name), env=env) for name, _ in steps]
        files = {**scripts, "run.py": runner_source()}
        return JobPlan(
            **{"name": "job", "init_containers": init, "main": main, "files": files, **with_policies(fields)}
        )

    @staticmethod
    def until(condition: Callable[[], object]) -> None:
        """Wait until something is so."""
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, "it did not come to be"
            time.sleep(0.02)

    def submit(self, plan: JobPlan) -> Job:
        self.backend.submit(plan)
        return Job(plan.name, self.backend)

    def run(self, plan: JobPlan) -> JobStatus:
        """Submit, and wait until the job is at rest."""
        return self.rest(self.submit(plan))

    def rest(self, job: Job) -> JobStatus:
        return job.wait([state for state in JobState if state.at_rest], timeout=60)

    def folder(self, name: str = "job") -> Path:
        return self.home.resolve() / "jobs" / name

    def output(self, name: str = "job") -> Path:
        return self.folder(name) / "workspace" / "output"

    def processes(self, name: str = "job") -> list[psutil.Process]:
        """Everything that runs for a job: its supervisor, and what has its workspace in the environment."""
        return [*self.supervisors(name), *self.workers(name)]

    def supervisors(self, name: str = "job") -> list[psutil.Process]:
        return [p for p in _mine() if _cmdline(p)[-1:] == [str(self.folder(name))]]

    def workers(self, name: str = "job", containing: str = "") -> list[psutil.Process]:
        """Those of a job's processes whose command line contains a text."""
        workspace = str(self.folder(name) / "workspace")
        found = [p for p in _mine() if _environ(p).get("TUNEWRIGHT_WORKSPACE") == workspace]
        return [p for p in found if containing in " ".join(_cmdline(p))]

    def commands(self, script: str = "train.py") -> list[psutil.Process]:
        """The processes that run a script themselves, without `run` in front of them."""
        return [p for p in self.workers(containing=script) if "run.py" not in " ".join(_cmdline(p))]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine without jobs; at the end none of its processes may be left over."""
    monkeypatch.setenv("TUNEWRIGHT_HOME", str(tmp_path / "home"))
    machine = Machine(tmp_path / "home")
    yield machine
    names = [status.name for status in machine.backend.list()]
    for name in names:
        machine.backend.delete(name)
    assert [p.cmdline() for name in names for p in machine.processes(name)] == []


def _python(name: str) -> tuple[str, str]:
    return "python", f"$(TUNEWRIGHT_CONFIG)/{name}.py"


def _mine() -> list[psutil.Process]:
    return [p for p in psutil.process_iter() if p.pid != os.getpid() and _runs(p)]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}
