"""A job's processes: how they start, and how all of them end."""

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
# What does not even end when it is killed waits for the system; nobody can do more.
_KILL_TIMEOUT = 30.0


def free_port() -> int:
    """A port that was free on the loopback interface a moment ago."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


def start(command: Iterable[str], env: Mapping[str, str], *, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a process that ends with this one, and whose output is appended to a file.

    Raises:
        OSError: it cannot be started.
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
    """Ask a process to end."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            process.terminate()


def exit_code(process: subprocess.Popen[bytes]) -> int | None:
    """As a container's: 128 and the signal's number after a signal; None while it runs."""
    code = process.poll()
    return code if code is None or code >= 0 else 128 - code


def end_all(workspace: Path, patience: float = 0) -> None:
    """End whatever runs for a workspace, also what its own parents have lost; wait until nothing is left.

    Processes are known by their environment: no parent, group or session outlives every accident.

    Args:
        workspace: the job's.
        patience: seconds that they are given to end after a SIGTERM; 0 kills them at once.
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
