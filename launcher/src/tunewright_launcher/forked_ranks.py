"""torchrun whose ranks are forks of it: what the trainer needs is imported once, and before the ranks start.

It is torchrun in everything else. It serves jobs of one worker on the user's own machine, which begin up to two seconds sooner and
need less memory: the ranks share what was imported. A rank is started anew, as always, where a GPU's driver is in use already, as that
does not work in a fork.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import multiprocessing
import os
import runpy
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tunewright import environment, runner
from tunewright.events import Phase, emit
from tunewright_launcher._libc import c_function
from tunewright_launcher.failure import Secrets
from tunewright_launcher.provider import TRAINER, load_trainer
from tunewright_launcher.step import Step
from tunewright_launcher.supervised import plugins_of

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler

_RANK = ("-m", "tunewright_launcher", "train")
_CUDA = "libcuda.so"
_PR_SET_NAME = 15  # linux/prctl.h


def main() -> None:
    """Run torchrun with this process's arguments."""
    gc.disable()  # each collection scans all that was imported before
    from torch.distributed import run as torchrun

    if os.environ.get(environment.CHECK_BY_RANK):
        _import_libraries(os.environ)
        _fork_ranks()
    gc.freeze()
    gc.enable()
    torchrun.main()


def _import_libraries(env: Mapping[str, str]) -> None:
    """Import what the trainer needs. Whatever goes wrong with it goes wrong in the ranks again, and they tell it."""
    folder = runner.Settings.read(env).run
    emit(Phase(name="import", text="importing the trainer and its libraries"))
    with contextlib.suppress(Exception):
        step = Step.read(env, Secrets())
        if folder:  # a library may end this process
            runner.begin_work(folder, 0, f"the code of {plugins_of((TRAINER,), env)}")
        load_trainer(step).import_libraries()
        os.environ[environment.IMPORTED] = "1"
    if folder:
        runner.end_work(folder, 0)


def _fork_ranks() -> None:
    """Let torchrun start its ranks with `ForkedRank`, if it starts them where it does today."""
    from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler

    original = getattr(SubprocessHandler, "_popen", None)
    if original is None:
        return

    def popen(handler: SubprocessHandler, args: Sequence[str], env: Mapping[str, str]) -> Any:
        if tuple(args[-len(_RANK) :]) != _RANK or _is_mapped(_CUDA):
            return original(handler, args, env)
        return ForkedRank(env, stdout=handler._stdout, stderr=handler._stderr)

    SubprocessHandler._popen = popen


class ForkedRank:
    """A rank, with what torchrun uses of `subprocess.Popen`.

    Args:
        env: its environment.
        stdout: file for what it prints; None for this process's own output.
        stderr: likewise.

    Attributes:
        pid: its process, and its session.
    """

    def __init__(self, env: Mapping[str, str], *, stdout: IO[str] | None, stderr: IO[str] | None) -> None:
        begun, telling = os.pipe()
        files = {1: stdout, 2: stderr}
        self._process = multiprocessing.get_context("fork").Process(target=_rank, args=(dict(env), files, telling))
        self._process.start()
        assert self._process.pid is not None  # noqa: S101 - for the type checker: it has started
        self.pid = self._process.pid
        os.close(telling)
        os.read(begun, 1)  # torchrun sends signals to its session
        os.close(begun)

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal's; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs after so many seconds.
        """
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(list(_RANK), timeout or 0)
        return code


def _rank(env: Mapping[str, str], files: Mapping[int, IO[str] | None], begun: int) -> None:
    """Be `python -u -m tunewright_launcher train`, with that environment."""
    os.setsid()
    for signum in signal.valid_signals():
        if callable(signal.getsignal(signum)):  # torchrun's own
            signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.write(begun, b"\n")
    os.close(begun)
    for descriptor, file in files.items():
        if file is not None:
            os.dup2(file.fileno(), descriptor)
    _close_sockets()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=True)  # type: ignore[union-attr] # that of a process
    os.environ.clear()
    os.environ.update(env)
    _name(f"rank {env.get('RANK', '')}")
    sys.argv = [*_RANK[1:]]
    try:
        runpy.run_module(_RANK[1], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out


def _close_sockets() -> None:
    """Close what torchrun listens at, and its connections: nobody else may hold them when it ends."""
    for descriptor in [int(link.name) for link in Path("/proc/self/fd").iterdir()]:
        with contextlib.suppress(OSError):  # the folder's own is closed by now
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.close(descriptor)


def _name(name: str) -> None:
    """Name this process, for `ps` and `top`."""
    if prctl := c_function("prctl"):
        prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def _is_mapped(library: str) -> bool:
    """Return whether a library is loaded in this process."""
    try:
        return library in Path("/proc/self/maps").read_text("utf-8", errors="replace")
    except OSError:
        return True


if __name__ == "__main__":
    main()
