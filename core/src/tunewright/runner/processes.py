"""Run the command, and all processes that it starts, until the last one has ended."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

from tunewright.runner.cpus import threads_for_each
from tunewright.runner.failure import Failure
from tunewright.runner.files import read
from tunewright.runner.messages import redactor
from tunewright.runner.verdicts import USAGE
from tunewright.runner.watch import TICK, Stop, StopCondition

_TAIL_BYTES = 16 << 10  # of a command's standard error, which is searched for its exception
_LINE_BYTES = 64 << 10  # longer lines are passed on in pieces
_DRAIN = 5.0  # seconds to read the rest of what was printed, if another process keeps it open
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


class End(NamedTuple):
    """How a command ended: why it was stopped, if it was; its exit code; the end of its standard error."""

    stop: Stop | None
    code: int
    stderr: str


def execute(command: list[str], watch: StopCondition, grace: float, uncount: Callable[[], None]) -> End | Failure:
    """Run a command, and everything that it starts, to the end; return a failure if it cannot be started."""
    adopting, redact = _adopt_orphans(), redactor(os.environ)
    try:
        process = _start(command, subprocess.PIPE if redact else None)
    except OSError as error:
        cause = f"The command {command[0]!r} could not be started: {error.strerror or error}."
        return Failure(USAGE, cause, "Check that the image holds it, and that it is on PATH and executable.")
    assert process.stderr  # noqa: S101 - for the type checker: it is a pipe
    tail = _Tail(process.stderr, 2, redact)
    output = _Tail(process.stdout, 1, redact) if process.stdout else None
    stop = _supervise(process, watch, grace, adopting, uncount)
    if output:
        output.text()
    return End(stop, process.returncode, tail.text())


class _Tail:
    """Pass what a command prints on in whole lines, without secrets, and keep the end of it."""

    def __init__(self, stream: IO[bytes], descriptor: int, redact: Callable[[bytes], bytes] | None) -> None:
        self._stream, self._end = stream, b""
        self._descriptor, self._redact = descriptor, redact
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def text(self) -> str:
        """Return the end of what was written; call it once the command has ended."""
        self._thread.join(_DRAIN)
        return self._end.decode("utf-8", errors="replace")

    def _read(self) -> None:
        with self._stream:
            line = b""
            while data := os.read(self._stream.fileno(), _LINE_BYTES):
                line += data
                # Several processes write to one log: parts of lines would get mixed up.
                whole = max(line.rfind(b"\n"), line.rfind(b"\r")) + 1 or (len(line) if len(line) > _LINE_BYTES else 0)
                self._pass_on(line[:whole])
                line = line[whole:]
            self._pass_on(line)

    def _pass_on(self, data: bytes) -> None:
        data = self._redact(data) if self._redact else data
        self._end = (self._end + data)[-_TAIL_BYTES:]
        with contextlib.suppress(OSError):  # nobody reads it any more
            while data:
                data = data[os.write(self._descriptor, data) :]


def _start(command: list[str], stdout: int | None) -> subprocess.Popen[bytes]:
    env = {k: v for k, v in os.environ.items() if k != "TUNEWRIGHT_PARENT"}
    env.setdefault("OMP_NUM_THREADS", str(threads_for_each(env.get("PET_NPROC_PER_NODE", "1"))))
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
        return subprocess.Popen(command, env=env, stdout=stdout, stderr=subprocess.PIPE, creationflags=flags)
    # A session of its own: only `run` receives a terminal's Ctrl-C, and passes it on once.
    return subprocess.Popen(
        command,
        env=env,
        stdout=stdout,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - there is only one thread
    )


def _supervise(
    process: subprocess.Popen[bytes], watch: StopCondition, grace: float, adopting: bool, uncount: Callable[[], None]
) -> Stop | None:
    """Wait for the command and everything that it started; return why it was stopped, if it was."""
    stop, kill_at = None, math.inf
    while not _has_ended(process):
        if stop is None and (stop := watch.stop()) is not None:
            _interrupt(process, stop.signum)
            kill_at = time.monotonic() + grace
            if not stop.late:
                uncount()
        if time.monotonic() > kill_at:
            _kill(process)
        if adopting:
            _reap_orphans(process.pid)
    _kill(process)
    if adopting:
        _end_orphans(process.pid)
    if stop is None and process.returncode and (stop := watch.stop()) is not None and not stop.late:
        uncount()  # the signal that `run` received also ended the command
    return stop


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(TICK)
    except subprocess.TimeoutExpired:
        return False
    return True


def _interrupt(process: subprocess.Popen[bytes], signum: int) -> None:
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            os.killpg(process.pid, signum)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the command's process group."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
        return bool(prctl(option, *(ctypes.c_ulong(v) for v in (value, 0, 0, 0))) == 0)
    except (ImportError, OSError, AttributeError):
        return False


def die_with_parent() -> None:
    """Terminate this process when its parent ends, where the system supports it; a `preexec_fn` for a process with one thread."""
    # If `run` is killed, the command must not keep running beside the next attempt. Process 1 takes everything with it anyway.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _adopt_orphans() -> bool:
    # torchrun starts each rank in a session of its own: if torchrun is killed, its group is empty, but its ranks keep running.
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1) or os.getpid() == 1


def _reap_orphans(own: int) -> None:
    """Reap adopted processes, so that no zombies stay; Popen reaps the command itself."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != own:
            os.waitpid(ended.si_pid, 0)


def _end_orphans(own: int) -> None:
    for _ in range(100):  # the children of a killed process are adopted in turn
        _reap_orphans(own)
        children = _children()
        if not children:
            return
        for pid in children:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _children() -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):  # proc(5): pid (name) state parent …
        fields = (read(file) or "").rpartition(")")[2].split()
        if fields[1:2] == [str(os.getpid())] and fields[0] not in "ZX":
            found.append(int(file.parent.name))
    return found
