"""Start a job's processes, and end all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tunewright import environment
from tunewright.backends.local.env import LOOPBACK, expand
from tunewright.runner.processes import die_with_parent

if TYPE_CHECKING:
    import psutil

_TICK = 0.05
# A process that survives SIGKILL is blocked in the kernel, and nothing more can be done about it.
_KILL_TIMEOUT = 30.0


def free_port() -> int:
    """Return a port that was free on the loopback interface a moment ago."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


def start(command: Iterable[str], env: Mapping[str, str], *, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a process that ends with this one, and append its output to a file.

    Args:
        command: program and arguments, in which `$(NAME)` is expanded.
        env: the process's environment.
        folder: its working directory.
        log: the file for its output.

    Raises:
        OSError: the process cannot be started.
    """
    words = [expand(word, env) for word in command]
    with log.open("ab") as output:
        if sys.platform == "win32":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP
            return subprocess.Popen(
                words, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, creationflags=flags
            )
        return subprocess.Popen(
            words,
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - the supervisor has one thread
        )


def terminate(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, with SIGTERM or its counterpart on Windows."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            process.terminate()


def exit_code(process: subprocess.Popen[bytes]) -> int | None:
    """Return a process's exit code, or None while it runs. After a signal, it is 128 plus the signal, as for a container."""
    code = process.poll()
    return code if code is None or code >= 0 else 128 - code


def end_all(workspace: Path, patience: float = 0) -> None:
    """End all processes that run for a workspace, orphans included, and wait until none is left.

    Processes are recognized by their environment, since parents, process groups and sessions may not survive a crash.

    Args:
        workspace: the workspace of the job.
        patience: seconds between SIGTERM and SIGKILL; 0 kills at once.
    """
    import psutil

    now = time.monotonic()
    found = _working_for(workspace)
    if patience:
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.terminate()
    while found and time.monotonic() < now + patience + _KILL_TIMEOUT:
        if time.monotonic() >= now + patience:
            for process in found:
                with contextlib.suppress(psutil.Error):
                    process.kill()
        time.sleep(_TICK)
        found = _working_for(workspace)


def _working_for(workspace: Path) -> list[psutil.Process]:
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            ours = process.environ().get(environment.WORKSPACE) == str(workspace)
            if ours and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                found.append(process)
    return found
