"""The supervisor: one process for each job, which starts its steps and workers and handles how they end.

It does what Kubernetes and the training operator do for a PyTorchJob with the restart policy `ExitCode`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import attrs

from tunewright import environment
from tunewright.backends.local import env, process
from tunewright.backends.local.folder import JobFolder, Status
from tunewright.backends.local.record import write_report
from tunewright.backends.local.spec import Program, paths_in
from tunewright.errors import Failure
from tunewright.runner.failure import SOFTWARE
from tunewright.runner.verdicts import FAILURE, NOT_FOUND, read_verdict
from tunewright.status.state import JobState

_TICK = 0.05
_LAST_FINAL_CODE = 127
# Seconds for the other workers to end by themselves, and report why, once one of them has to restart.
_SETTLE = 5.0
# Longer than the 25 s after which `run` kills its command. What is left after that is killed here.
GRACE = 30.0


class _Stop(Exception):  # noqa: N818 - not an error
    """The supervisor was asked to stop the job's processes."""


class _Failed(Exception):  # noqa: N818 - the state's name
    """The job has failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


def supervise(path: Path) -> int:
    """Run the job in a folder until it ends.

    Returns:
        The exit code of this process: 0 whether the job succeeded or not; 1 if another supervisor is running.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path / "supervisor.lock", timeout=_SETTLE)
    try:
        with lock:
            Supervisor(JobFolder(path)).run()
    except Timeout:
        sys.stderr.write("another supervisor is already running this job\n")
        return FAILURE
    return 0


class Supervisor:
    """Run one job, and write its progress to the job's status."""

    def __init__(self, job: JobFolder) -> None:
        self._job = job
        self._spec = job.spec()
        self._secrets = job.secrets()
        self._scratch = Path(tempfile.mkdtemp(prefix="tunewright-"))
        programs = job.path / "bin"
        env.write_programs(programs)
        self._base = env.client_environment(os.environ, programs, without=self._spec.secret_variables)
        self._running: list[subprocess.Popen[bytes]] = []
        self._signalled = False
        before = job.read()
        started = (before.started if before.state != JobState.FAILED else None) or time.time()
        self._status = Status(pid=os.getpid(), scratch=str(self._scratch), started=started)
        # For the deadline of the steps, which starts over when a job is resumed, as the operator's does.
        self._began = time.monotonic()
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_signal)

    def run(self) -> None:
        """Run all steps and the training, and write how the job ended."""
        self._say(JobState.CREATED)
        detail, failure = "", None
        try:
            self._empty_pods()
            self._initialise()
            self._train()
            end, detail = JobState.SUCCEEDED, self._farewell()
        except _Failed as failed:
            end, failure = JobState.FAILED, failed.failure
        except _Stop:
            end = JobState.SUSPENDED
        except Exception as error:  # the job must not look as if it were still running
            traceback.print_exc()
            cause = f"The supervisor failed: {type(error).__name__}: {error}"
            end, failure = JobState.FAILED, Failure(SOFTWARE, cause)
        self._end_everything()
        shutil.rmtree(self._scratch, ignore_errors=True)
        if end is JobState.SUCCEEDED:
            self._job.keep_secrets({})
        finished = time.time() if end.final else None
        self._status = attrs.evolve(self._status, finished=finished, scratch=None, failure=failure)
        self._say(end, detail)
        if end.final:
            self._report()

    def _report(self) -> None:
        try:
            write_report(self._job)
        except Exception:  # a missing report does not change how the job ended
            traceback.print_exc()

    def _farewell(self) -> str:
        ttl = self._spec.run_policy.ttl
        return "" if ttl is None else f"The job and its result will be removed {ttl} seconds after its end."

    def _say(self, state: JobState, detail: str = "", container: str = "") -> None:
        self._status = attrs.evolve(self._status, state=state, detail=detail, container=container)
        self._job.write(self._status)

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        self._signalled = True

    def _empty_pods(self) -> None:
        """Remove the files of former pods, as new pods start empty."""
        for name in ("workers", "packages"):
            shutil.rmtree(self._job.path / name, ignore_errors=True)
        (self._job.path / "packages").mkdir()

    # The init containers. They run once rather than once per worker: local workers share the folders that the steps fill.

    def _initialise(self) -> None:
        for program in self._spec.steps:
            self._say(JobState.DOWNLOADING, container=program.name)
            self._step(program)
            self._refuse_verdict(0)  # with a verdict, `run` would only exit

    def _step(self, program: Program) -> None:
        for _ in range(self._spec.run_policy.max_restarts + 1):
            backend = {environment.WORKER: f"{self._job.name}-worker-0", **environment.caches(self._base)}
            code = self._wait(program, self._start(program, 0, backend=backend))
            self._end_everything()
            if code == 0:
                return
            if code <= _LAST_FINAL_CODE:
                break
        remedy = f"Its log says why: tunewright logs {self._job.name} --container {program.name}"
        raise _Failed(Failure(code, f"Step {program.name} ended with exit code {code}.", remedy, program.name, 0))

    def _wait(self, program: Program, running: subprocess.Popen[bytes]) -> int:
        deadline = self._spec.run_policy.deadline
        for _ in self._ticks():
            if (code := process.exit_code(running)) is not None:
                return code
            if deadline and time.monotonic() > self._began + deadline:
                cause = f"Step {program.name} exceeded the job's deadline of {deadline} seconds."
                raise _Failed(Failure(FAILURE, cause, "Allow more time with deadline=.", program.name, 0))
        raise AssertionError("ticks never end")

    # The workers.

    def _train(self) -> None:
        """Start all workers together, again and again until the job succeeds or fails: a rendezvous needs all of them."""
        while not self._round():
            pass

    def _round(self) -> bool:
        """Run all workers once, and return whether the job has succeeded."""
        workers = self._start_workers()
        self._say(JobState.RUNNING)
        settled = None
        for _ in self._ticks():
            codes = [process.exit_code(worker) for worker in workers]
            self._refuse_final(codes)
            successes = codes.count(0)
            if successes == len(codes) or (self._spec.elastic and successes):
                return True
            if settled is None and (cause := _reason_to_restart(codes)):
                settled = time.monotonic() + _SETTLE
                self._say(JobState.RESTARTING, cause)
            if settled is not None and (None not in codes or time.monotonic() > settled):
                break
        self._end_everything()
        for worker in range(len(workers)):
            self._refuse_verdict(worker)
        return False

    def _start_workers(self) -> list[subprocess.Popen[bytes]]:
        port = str(process.free_port())
        started = []
        for worker in range(self._spec.num_workers):
            ranks = self._job.logs / "ranks" / f"{self._spec.worker.name}-{worker}"
            backend = env.distributed_environment(self._spec, job=self._job.name, worker=worker, port=port, logs=ranks)
            started.append(self._start(self._spec.worker, worker, backend=backend))
        return started

    def _refuse_final(self, codes: list[int | None]) -> None:
        for worker, code in enumerate(codes):
            if code and code <= _LAST_FINAL_CODE:
                log = paths_in(self._job.path, worker).termination_log
                said = log.read_text("utf-8", errors="replace").strip() if log.exists() else ""
                silent = Failure(
                    code, f"Worker {worker} ended with exit code {code}.", f"See: tunewright logs {self._job.name}"
                )
                failure = Failure.from_message(said, code) if said else silent
                raise _Failed(failure.seen_in(self._spec.worker.name, worker))

    # Both.

    def _refuse_verdict(self, worker: int) -> None:
        if verdict := read_verdict(paths_in(self._job.path, worker).run):
            raise _Failed(verdict.seen_in(self._spec.worker.name, worker))

    def _end_everything(self) -> None:
        """End all processes and their children, and return once none is left."""
        for running in self._running:
            process.terminate(running)
        end = time.monotonic() + GRACE
        while any(process.exit_code(running) is None for running in self._running) and time.monotonic() < end:
            time.sleep(_TICK)
        process.end_all(self._job.workspace)
        for running in self._running:
            running.wait()
        self._running.clear()

    def _start(self, program: Program, worker: int, *, backend: dict[str, str]) -> subprocess.Popen[bytes]:
        paths = paths_in(self._job.path, worker)
        own, scratch = paths.run.parent, self._scratch / str(worker)
        if program is self._spec.worker:  # of a new pod
            shutil.rmtree(paths.run, ignore_errors=True)
            paths.termination_log.unlink(missing_ok=True)
        for folder in (paths.run, scratch):
            folder.mkdir(parents=True, exist_ok=True)
        variables = env.step_environment(
            {**self._base, **env.share_of_machine(self._spec, worker, self._base)},
            program,
            paths,
            secrets=self._secrets.get(program.name, {}),
            own=own,
            scratch=scratch,
            backend={**backend, **env.who_checks(self._spec), env.PARENT: str(os.getpid())},
        )
        try:
            running = process.start(program.command, variables, folder=own, log=self._job.log(program.name, worker))
        except OSError as error:
            cause = f"The program {program.command[0]!r} could not be started: {error.strerror or error}."
            remedy = "Install it on this machine, or use its full path."
            raise _Failed(Failure(NOT_FOUND, cause, remedy, program.name, worker)) from error
        self._running.append(running)
        return running

    def _ticks(self) -> Iterator[None]:
        """Yield twenty times a second, for a check of the processes.

        Raises:
            _Stop: the supervisor was asked to stop.
        """
        while True:
            if self._signalled or self._job.stop_file.exists():
                raise _Stop
            yield
            time.sleep(_TICK)


def _reason_to_restart(codes: list[int | None]) -> str | None:
    for worker, code in enumerate(codes):
        if code is not None and code > _LAST_FINAL_CODE:
            return f"worker {worker} ended with exit code {code}; all workers restart"
    return None
