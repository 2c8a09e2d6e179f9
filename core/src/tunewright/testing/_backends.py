"""Tests of backends: plans are rendered, and jobs run, for real."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest

from tunewright._client.client import TrainingClient
from tunewright._kit.elsewhere import packed
from tunewright._planning.assemble import assemble
from tunewright.backends.base import Backend, BackendOptions
from tunewright.environment import Paths
from tunewright.errors import JobError
from tunewright.plan.plan import JobPlan
from tunewright.plan.secrets import REDACTED, SecretValue
from tunewright.plugins.registry import Plugin
from tunewright.status.state import JobState
from tunewright.testing._pod import ask_elsewhere
from tunewright.testing._providers import PluginTests

_SECRET = "a-literal-for-the-kit"  # noqa: S105 - it opens nothing
_TELL = "import json, os; print('KIT ' + json.dumps(dict(os.environ)), flush=True)"
_FAIL = "import sys; sys.exit(3)"
# Ends at once if it was started before.
_ONCE = """
import os, pathlib, sys, time
file = pathlib.Path(os.environ["TUNEWRIGHT_WORKSPACE"], "output", "started")
if file.exists():
    print("KIT-AGAIN", flush=True)
    sys.exit(0)
file.touch()
print("KIT-STARTED", flush=True)
time.sleep(3600)
"""
_ADD = """
import os, pathlib, sys
file = pathlib.Path(os.environ["TUNEWRIGHT_WORKSPACE"], "output", "kit")
file.parent.mkdir(parents=True, exist_ok=True)
file.write_text(f"{file.read_text()} {sys.argv[1]}" if file.exists() else sys.argv[1])
"""
_SHOW = """
import os, pathlib
file = pathlib.Path(os.environ["TUNEWRIGHT_WORKSPACE"], "output", "kit")
print("KIT-INITS", file.read_text() if file.exists() else "none", flush=True)
"""
_WORKER_VARIABLES = ("TUNEWRIGHT_WORKER", "PYTHONPATH", "PET_NNODES", "PET_NPROC_PER_NODE")
_POLL = 0.2


class BackendTests(PluginTests):
    """Tests for the class that a plugin returns from `tunewright_backend`.

    Each job runs `python3` for a moment. `options()` says how to connect to the service, real or fake, of the test.

    Class attributes:
        image: image with Python for the jobs.
        runs: whether jobs run, and end, during the tests; False for a backend that only passes manifests on.
        suspends: whether jobs can be suspended.
        literal_secrets: whether the backend takes secrets that are given as literals.
        time_limit: seconds that a job may take.
    """

    image: ClassVar[str] = "docker.io/library/python:3.12-slim"
    runs: ClassVar[bool] = True
    suspends: ClassVar[bool] = True
    literal_secrets: ClassVar[bool] = True
    time_limit: ClassVar[float] = 120

    def options(self) -> BackendOptions:
        """Return how to connect."""
        return BackendOptions()

    @pytest.fixture
    def backend(self, plugin: Plugin) -> Backend:
        """Connect to the backend, as a client does."""
        return plugin.provider("backend").connect(self.options())

    @pytest.fixture
    def submit(self, backend: Backend) -> Iterator[Callable[..., JobPlan]]:
        """Return what submits a job of this code; each is deleted at the end of the test."""
        names: list[str] = []

        def start(code: str, **changes: Any) -> JobPlan:
            plan = self.plan(code, **changes)
            names.append(plan.name)
            backend.submit(plan)
            return plan

        yield start
        for name in names:
            if name in [status.name for status in backend.list()]:
                backend.delete(name)

    def plan(self, code: str, **changes: Any) -> JobPlan:
        """Return a plan whose workers run this Python code, without torchrun."""
        client = TrainingClient(self.name)
        name = f"kit-{uuid.uuid4().hex[:8]}"
        request = client.code_request(
            name, base_image=self.image, command=["python3", "-c", code], labels={"kit": name}, max_restarts=0
        )
        plan = attrs.evolve(assemble(request), self_starting=False)
        secrets = {"KIT_SECRET": SecretValue(_SECRET)} if self.literal_secrets else {}
        main = attrs.evolve(plan.main, env={**plan.main.env, "KIT_PLAIN": "plain", **secrets})
        return attrs.evolve(plan, main=main, **changes)

    def test_import_is_light(self) -> None:
        """The plugin can be loaded without heavy libraries."""
        self.check_import("backend")

    def test_rendering_is_pure(self, plugin: Plugin, backend: Backend, tmp_path: Path) -> None:
        """Equal plans give equal manifests, without secrets, network or files, here and on another day elsewhere."""
        plan = self.plan(_TELL)
        rendered = backend.render(plan).to_yaml()
        assert backend.render(plan).to_yaml() == rendered, "render() gives other manifests for the same plan."
        assert _SECRET not in rendered, "render() shows a secret."
        assert _SECRET not in repr(backend.render(plan)), "The repr of the manifests shows a secret."
        options = attrs.asdict(self.options())
        there = ask_elsewhere(
            "render", limit=self.time_limit, name=plugin.name, options=options, plan=packed(plan), folder=str(tmp_path)
        )
        assert there["rendered"] == rendered, "render() depends on the process, the machine or the day."
        assert not there["told"], (
            f"connect() and render() must not write files, start processes or use the network: {there['told']}."
        )

    def test_unknown_jobs_are_refused(self, backend: Backend) -> None:
        """Every method that takes a name raises JobError if there is no such job."""
        calls: dict[str, Callable[[str], object]] = {
            "get": backend.get,
            "watch": lambda name: next(iter(backend.watch(name))),
            "logs": lambda name: list(backend.logs(name)),
            "updates": lambda name: list(backend.updates(name)),
            "newest_events": lambda name: list(backend.newest_events(name)),
            "events": backend.events,
            "pods": backend.pods,
            "record": backend.record,
            "suspend": backend.suspend,
            "resume": backend.resume,
            "delete": backend.delete,
        }
        wrong = [method for method, call in calls.items() if not _refuses(call, "kit-no-such-job")]
        assert not wrong, f"These methods do not raise JobError for a job that does not exist: {', '.join(wrong)}."

    def test_a_job_lives(self, backend: Backend, submit: Callable[..., JobPlan]) -> None:
        """A job is submitted, found by name and label, runs, says what it printed, and is deleted."""
        plan = submit(_TELL)
        assert backend.get(plan.name).name == plan.name, "get() returns the status of another job."
        assert _refuses(lambda _: backend.submit(self.plan(_FAIL, name=plan.name)), ""), (
            "A name that is taken is not refused."
        )
        listed = [status.name for status in backend.list({"kit": plan.name})]
        assert listed == [plan.name], f"list() with the job's label finds {listed}."
        assert not backend.list({"kit": "no-such-label"}), "list() finds jobs without the label."
        if self.runs:
            self.wait(backend, plan, JobState.SUCCEEDED)
            assert _told(backend, plan), "logs() lacks what the job printed."
            unknown = _refuses(lambda name: list(backend.logs(name, container="no-such-container")), plan.name)
            assert unknown, "logs() of a container that does not exist raises no JobError."
        backend.delete(plan.name)
        assert _refuses(backend.get, plan.name), "A job is still there after delete()."

    def test_workers_get_what_they_need(self, backend: Backend, submit: Callable[..., JobPlan]) -> None:
        """Each of two workers gets its paths, its files, its secrets, and what torchrun reads."""
        self._need_jobs()
        plan = submit(_TELL, num_workers=2)
        self.wait(backend, plan, JobState.SUCCEEDED)
        told = _told(backend, plan)
        assert set(told) == {0, 1}, f"Two workers were asked for, and the log has those of {sorted(told)}."
        for env in told.values():
            _check_worker(env)
            if self.literal_secrets:
                assert env.get("KIT_SECRET") in (_SECRET, REDACTED), "A literal secret does not reach the container."
        names = {env["TUNEWRIGHT_WORKER"] for env in told.values()}
        assert len(names) == len(told), f"The workers share the name {names} in TUNEWRIGHT_WORKER."
        _check_rendezvous(list(told.values()))

    def test_init_containers_run_first(self, backend: Backend, submit: Callable[..., JobPlan]) -> None:
        """The init containers run one after another, and then the main container, with the same volumes."""
        self._need_jobs()
        main = self.plan(_TELL).main
        inits = tuple(
            attrs.evolve(main, name=f"kit-{word}", command=("python3", "-c", _ADD, word), env={})
            for word in ("first", "second")
        )
        plan = submit(_SHOW, init_containers=inits)
        self.wait(backend, plan, JobState.SUCCEEDED)
        shown = [line.text.partition("KIT-INITS ")[2] for line in backend.logs(plan.name) if "KIT-INITS " in line.text]
        assert shown == ["first second"], (
            f"The init containers 'first' and 'second' were to run before the main container, which found {shown} of them: run "
            "plan.init_containers one after another, with the same volumes."
        )

    def test_a_failure_is_reported(self, backend: Backend, submit: Callable[..., JobPlan]) -> None:
        """A job that fails is Failed, and its status says why."""
        self._need_jobs()
        plan = submit(_FAIL)
        self.wait(backend, plan, JobState.FAILED)
        failure = backend.get(plan.name).failure
        assert failure is not None, "A failed job has no failure: read the termination message, or the verdict."
        assert "exit code 3" in failure.cause, f"The failure does not have the cause that `run` reported: {failure}."

    def test_a_job_is_suspended_and_resumed(self, backend: Backend, submit: Callable[..., JobPlan]) -> None:
        """A suspended job stops and keeps its files; a resumed one ends."""
        self._need_jobs()
        if not self.suspends:
            pytest.skip("its jobs cannot be suspended")
        plan = submit(_ONCE)
        self.wait_for(
            lambda: any("KIT-STARTED" in line.text for line in backend.logs(plan.name)), "the job has printed a line"
        )
        backend.suspend(plan.name)
        self.wait(backend, plan, JobState.SUSPENDED)
        backend.resume(plan.name)
        self.wait(backend, plan, JobState.SUCCEEDED)

    def wait(self, backend: Backend, plan: JobPlan, state: JobState) -> None:
        """Wait until a job has a state; fail the test if it comes to another end."""

        def reached() -> bool:
            found = backend.get(plan.name)
            if found.state.final and found.state is not state:
                lines = "\n".join(line.text for line in backend.logs(plan.name))
                pytest.fail(f"The job is {found.state}, not {state}: {found.failure}\n{lines[-4000:]}")
            return found.state is state

        self.wait_for(reached, f"the job is {state}")

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until a condition holds; fail the test after the time limit."""
        give_up = time.monotonic() + self.time_limit
        while not condition():
            assert time.monotonic() < give_up, f"After {self.time_limit:.0f} s it does not hold that {what}."
            time.sleep(_POLL)

    def _need_jobs(self) -> None:
        if not self.runs:
            pytest.skip("its jobs do not run here")


def _refuses(call: Callable[[str], object], name: str) -> bool:
    try:
        call(name)
    except JobError:
        return True
    return False


def _told(backend: Backend, plan: JobPlan) -> dict[int, dict[str, str]]:
    """Return the environment of each worker, as it printed it."""
    lines = (line for line in backend.logs(plan.name) if "KIT {" in line.text)
    return {line.worker: json.loads(line.text[line.text.index("{") :]) for line in lines}


def _check_worker(env: dict[str, str]) -> None:
    nowhere = Path()
    paths = Paths(workspace=nowhere, config=nowhere, run=nowhere, packages=nowhere, termination_log=nowhere)
    lacking = [name for name in (*paths.to_env(), *_WORKER_VARIABLES) if not env.get(name)]
    assert not lacking, f"The main container lacks {', '.join(lacking)}."
    first = env["PYTHONPATH"].split(":")[0].split(";")[0]
    assert Path(first) == Path(env["TUNEWRIGHT_PACKAGES"]), (
        "PYTHONPATH does not begin with the folder of TUNEWRIGHT_PACKAGES."
    )
    assert env.get("KIT_PLAIN") == "plain", "A variable of the container is missing."


def _check_rendezvous(envs: list[dict[str, str]]) -> None:
    nodes = {env["PET_NNODES"] for env in envs}
    assert nodes <= {"2", "2:2"}, f"PET_NNODES is {nodes} for two workers."
    if all("PET_RDZV_ENDPOINT" in env for env in envs):
        for name in ("PET_RDZV_BACKEND", "PET_RDZV_ENDPOINT", "PET_RDZV_ID"):
            assert len({env.get(name) for env in envs}) == 1, f"The workers differ in {name}."
    else:
        ranks = {env.get("PET_NODE_RANK") for env in envs}
        assert ranks == {"0", "1"}, f"PET_NODE_RANK is {ranks}; the workers need the indices 0 and 1, or PET_RDZV_*."
        assert len({env.get("PET_MASTER_ADDR") for env in envs}) == 1, "The workers differ in PET_MASTER_ADDR."
