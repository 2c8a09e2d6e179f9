"""Tests of trainers: two ranks train for real, are killed, and continue."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import attrs
import pytest

from tunewright.environment import OUTPUT_SLOT
from tunewright.errors import RequestError
from tunewright.events import Step, parse_event
from tunewright.plugins.registry import Plugin
from tunewright.providers.base import TrainerProvider
from tunewright.providers.mixture import MixturePart
from tunewright.runner.checkpoints import CHECKPOINTS, newest_checkpoint
from tunewright.runner.verdicts import work_left
from tunewright.status.report import REPORT_FILE
from tunewright.testing._pod import LAUNCHER, Done, Pod, check_printed, end
from tunewright.testing._providers import ProviderTests, check_shaping, defaults_of

_RANKS = 2
_TORCHRUN = ("torchrun", "--max-restarts=0")
_TRAIN = (*LAUNCHER, "train")
_GRACE = 25.0  # seconds, as in a pod


@attrs.frozen(kw_only=True)
class TrainInputs:
    """Folders with small inputs that the trainer can train on, in a few seconds and with several checkpoints.

    Attributes:
        model: the model; None if the trainer needs none.
        dataset: the dataset.
        eval_dataset: the dataset to evaluate on.
    """

    model: Path | None = None
    dataset: Path | None = None
    eval_dataset: Path | None = None

    def folders(self) -> dict[str, Path]:
        """Return those that there are."""
        found = {"model": self.model, "dataset": self.dataset, "eval_dataset": self.eval_dataset}
        return {slot: folder for slot, folder in found.items() if folder is not None}


class TrainerProviderTests(ProviderTests):
    """Tests for the class that a plugin returns from `tunewright_trainer_provider`.

    Give the fixture `inputs`, with which the kit trains for real: on two ranks, which see each other at MASTER_ADDR, and
    which it kills once to see them continue. It starts what `container()` names, a program of the trainer's own too. `provider()` must save a checkpoint before its last step.

    Class attributes:
        checkpoints: whether the trainer saves checkpoints, from which it continues.
        exact_resume: whether a training that continues leaves the same files as one that was not interrupted.
    """

    kind = "trainer"
    checkpoints: ClassVar[bool] = True
    exact_resume: ClassVar[bool] = False
    time_limit: ClassVar[float] = 300

    def provider(self) -> TrainerProvider:
        """Return a provider; see `ProviderTests.provider`."""
        raise NotImplementedError

    @pytest.fixture
    def inputs(self) -> TrainInputs:
        """Return inputs to train on. Override it."""
        self.need_container()
        pytest.fail(
            f"{type(self).__name__} has no fixture `inputs`, so the kit cannot train. "
            "Return TrainInputs(model=…, dataset=…), or say where the training is tested: tested_elsewhere."
        )

    def test_container_shapes_a_container(self) -> None:
        """container() is pure, and returns a ContainerSpec that shows no secret and has all that it was given."""
        provider = self.provider()
        check_shaping(provider, provider.container, "train", "run", "--", *_TORCHRUN, *_TRAIN)
        assert provider == self.provider(), "container() must not change the provider."

    def test_check_inputs_takes_a_job_whose_inputs_are_elsewhere(self) -> None:
        """check_inputs() accepts None for inputs that are not on the client's machine."""
        self.provider().check_inputs(model=None, dataset=None, eval_dataset=None)

    def test_a_mixture_is_supported_or_refused(self) -> None:
        """check_mixture() accepts a list of datasets that are elsewhere, or refuses it with a remedy."""
        parts = [MixturePart(slot=f"dataset_{n}", name=f"part-{n}", weight=n) for n in (1, 2)]
        refusal: RequestError | None = None
        try:
            self.provider().check_mixture(parts)
        except RequestError as error:
            refusal = error
        assert refusal is None or refusal.remedy, "check_mixture() must say what to write instead of the list."

    def test_two_ranks_train(self, inputs: TrainInputs, plugin: Plugin, pod: Pod) -> None:
        """The check passes, two ranks train to the end, report steps and leave a result, and the inputs stay as they are."""
        job = _Job(pod, plugin, self.provider(), inputs)
        before = job.inputs_digest()
        job.check()
        done = job.train()
        _check_training(done, job)
        assert job.inputs_digest() == before, "The training changes its inputs, which other jobs may share."
        assert _steps(done[0]), "Rank 0 reports no step: call run.emit(Step(step=…)), or nobody sees how far it is."

    def test_a_killed_training_continues(self, inputs: TrainInputs, plugin: Plugin, pod: Pod) -> None:
        """A training whose ranks are killed after a checkpoint continues from it, and leaves a result."""
        if not self.checkpoints:
            pytest.skip("the trainer saves no checkpoints")
        job = _Job(pod, plugin, self.provider(), inputs)
        job.check()
        killed = job.train(kill=True)
        hint = "call tunewright.providers.mark_checkpoint on run.checkpoints / 'checkpoint-<step>' once it is written"
        assert killed[0].code == -signal.SIGKILL, (
            f"The training marks no checkpoint before it ends: {hint}. {killed[0].shown}"
        )
        step = _step_of(newest_checkpoint(job.checkpoints))
        done = job.train("again")
        _check_training(done, job)
        steps = _steps(done[0])
        assert steps, "The training reports no step after it was started again."
        assert steps[0] > step, (
            f"The training begins again at step {steps[0]}, although there is a checkpoint of step {step}: "
            "continue from run.resume_from."
        )
        if self.exact_resume:
            whole = _Job(Pod(folder=pod.folder / "whole", limit=self.time_limit), plugin, self.provider(), inputs)
            _check_training(whole.train(), whole)
            assert job.result_digest() == whole.result_digest(), "A training that continues leaves other files."

    def test_sigterm_ends_the_ranks(self, inputs: TrainInputs, plugin: Plugin, pod: Pod) -> None:
        """After SIGTERM the ranks end in time, and what they leave can be continued."""
        job = _Job(pod, plugin, self.provider(), inputs)
        job.check()
        _check_stop(job.train("terminated", terminate=True)[0])
        _check_training(job.train("again"), job)


class _Job:
    """One training job in a pod."""

    def __init__(self, pod: Pod, plugin: Plugin, provider: TrainerProvider, inputs: TrainInputs) -> None:
        self._pod, self.provider, self._inputs = pod, provider, inputs
        pod.give("trainer", plugin, provider)
        for slot, folder in inputs.folders().items():
            shutil.copytree(folder, pod.workspace / slot)
        (pod.workspace / OUTPUT_SLOT).mkdir()

    @property
    def result(self) -> Path:
        return self._pod.workspace / OUTPUT_SLOT / "model"

    @property
    def checkpoints(self) -> Path:
        return self._pod.workspace / OUTPUT_SLOT / CHECKPOINTS

    def inputs_digest(self) -> dict[str, str]:
        """Return a digest of each file of the inputs."""
        slots = self._inputs.folders()
        return {f"{slot}/{k}": v for slot in slots for k, v in _digest_of(self._pod.workspace / slot).items()}

    def result_digest(self) -> dict[str, str]:
        """Return a digest of each file of the result, without the launcher's own report, which has times."""
        return {path: digest for path, digest in _digest_of(self.result).items() if path != REPORT_FILE}

    def work_left(self) -> Mapping[str, str]:
        """Return the ranks whose processes have ended in the middle of the plugin's code, without an error."""
        return work_left(self._pod.folder / "run")

    def check(self) -> None:
        """Run the init container `check`."""
        done = self._pod.step("check", env=self._pod.env(self.provider))
        done.succeeded("The check")

    def train(self, name: str = "train", *, kill: bool = False, terminate: bool = False) -> list[Done]:
        """Train on all ranks, to the end; `kill` ends them after the first checkpoint, `terminate` after the first step."""
        port = _free_port()
        with _ended_at_last() as ranks:
            for rank in range(_RANKS):
                env = {**self._pod.env(self.provider), **_rank_env(rank, port)}
                ranks.append(self._pod.start(self._target(), env, f"{name}-{rank}", kill=kill))
            if kill:
                self._wait_for_one(ranks)
            if terminate:
                self._terminate(ranks, name)
            return [self._pod.finish(process, f"{name}-{rank}") for rank, process in enumerate(ranks)]

    def _target(self) -> tuple[str, ...]:
        """Return what torchrun starts on every rank: the launcher, or the trainer's own program."""
        defaults = defaults_of(self.provider, "train", "run", "--", *_TORCHRUN, *_TRAIN)
        command, given = self.provider.container(defaults).command, defaults.command[: -len(_TRAIN)]
        target = tuple(itertools.dropwhile(lambda word: word.startswith("--"), command[len(given) :]))
        known = command[: len(given)] == given and target[:1] and (target[0] == "-m" or target[0].endswith(".py"))
        assert known, (
            f"container() names the command {command}, which the kit cannot run on a rank. Replace only {_TRAIN} at its end, by "
            "`-m MODULE …` or `SCRIPT.py …`, or say where the training is tested: tested_elsewhere."
        )
        return target

    def _wait_for_one(self, ranks: list[subprocess.Popen[bytes]]) -> None:
        """Wait until a rank has ended, and kill the others if it was killed, as a lost pod takes all of its ranks."""
        _wait(lambda: any(process.poll() is not None for process in ranks), self._pod.limit)
        if any(process.poll() == -signal.SIGKILL for process in ranks):
            ranks[0].poll()
            for process in ranks:
                if process.poll() is None:
                    end(process)

    def _terminate(self, ranks: list[subprocess.Popen[bytes]], name: str) -> None:
        log = self._pod.folder / f"{name}-0.log"
        _wait(lambda: '"event": "step"' in log.read_text("utf-8") or ranks[0].poll() is not None, self._pod.limit)
        for process in ranks:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGTERM)
        ended = _wait(lambda: all(process.poll() is not None for process in ranks), _GRACE)
        assert ended, f"The ranks have not ended {_GRACE:.0f} s after SIGTERM: save a checkpoint at once, and return."


def _check_stop(first: Done) -> None:
    """Fail the test if a training that was stopped passes for a finished one."""
    last = next((event for event in reversed(_step_events(first)) if event.total_steps), None)
    assert first.code != 0 or last is None or last.step >= (last.total_steps or 0), (
        f"After SIGTERM, train() returns at step {last.step} of {last.total_steps}: what it leaves would be taken for the finished model. "
        "Save a checkpoint and raise SystemExit(143)."
    )


def _check_training(done: list[Done], job: _Job) -> None:
    for rank, one in enumerate(done):
        one.succeeded(f"Rank {rank}")
        check_printed(one, job.provider, f"Rank {rank}")
        assert not one.strays, f"Rank {rank} writes outside of its folders and of /tmp: {list(one.strays)}."
    left = job.work_left()
    assert not left, (
        f"The process of rank {min(left)} ends with exit code 0 before train() has returned: its work would be taken for done."
    )
    assert job.result.is_dir(), "The training leaves no result: write it to run.result."
    assert any(job.result.iterdir()), "The training leaves an empty result: write it to run.result."


def _rank_env(rank: int, port: int) -> dict[str, str]:
    """Return the variables that torchrun sets for a rank."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(_RANKS),
        "LOCAL_WORLD_SIZE": str(_RANKS),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


@contextlib.contextmanager
def _ended_at_last() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    try:
        yield processes
    finally:
        for process in processes:
            end(process)


def _wait(condition: Callable[[], bool], limit: float) -> bool:
    give_up = time.monotonic() + limit
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True


def _steps(done: Done) -> list[int]:
    return [event.step for event in _step_events(done)]


def _step_events(done: Done) -> list[Step]:
    events = (parse_event(line) for line in done.log.splitlines())
    return [event for event in events if isinstance(event, Step)]


def _step_of(checkpoint: Path | None) -> int:
    return -1 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])


def _digest_of(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
