"""`python -m tunewright._kit.child …`: run a step of the launcher as a pod does, and report what it does that it should not.

It writes lines of JSON to the file that it is given: the paths outside of the pod's folder that were written to, and addresses
that were connected to where there should be no network.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Event of sys.audit → which of its arguments is written.
_WRITTEN = {"os.mkdir": 0, "os.symlink": 1, "os.link": 1, "os.rename": 1, "os.truncate": 0}
_STARTED = ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec")
_OURS = ("/dev/", "/proc/")


def main(arguments: list[str]) -> None:
    """Run a target of torchrun under watch: ROOT REPORT KILL TARGET …; with KILL, until the first checkpoint is marked."""
    root, report, kill, *target = arguments
    watch(Path(root), Path(report))
    if kill:
        _kill_at_checkpoint()
    if target[0] == "-m":
        sys.argv = target[1:]
        runpy.run_module(target[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = target, str(Path(target[0]).parent)
        runpy.run_path(target[0], run_name="__main__")


def watch(root: Path, report: Path, *, network: bool = True) -> None:
    """Report each path outside of `root` that is written to, and each address that is connected to, if there is no network."""
    handle = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    inside, told = str(root.resolve()), {str(report)}

    def tell(kind: str, what: str) -> None:
        if what not in told:
            told.add(what)
            os.write(handle, f"{json.dumps([kind, what])}\n".encode())

    def hook(event: str, values: tuple[object, ...]) -> None:
        if event == "socket.connect" and not network:
            tell("network", str(values[1]))
        if event in _STARTED and not network:
            tell("process", str(values[0]))
        path = _written(event, values)
        if path is not None:
            full = os.path.abspath(path)  # noqa: PTH100 - Path would resolve links, and create objects in a hook
            if full != inside and not full.startswith((f"{inside}/", *_OURS)):
                tell("file", full)

    sys.addaudithook(hook)


def _written(event: str, values: tuple[object, ...]) -> str | None:
    """Return the path that an event is about to write, if it is about to."""
    if event == "open":
        path, mode, flags = values
        named = isinstance(mode, str) and not {"w", "a", "x", "+"}.isdisjoint(mode)
        if not named and not (isinstance(flags, int) and flags & _WRITING):
            return None
    elif event in _WRITTEN:
        path = values[_WRITTEN[event]]
    else:
        return None
    return os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else None


def _kill_at_checkpoint() -> None:
    """End this process as a lost node does, right after the first checkpoint was marked."""
    from tunewright.runner import checkpoints

    mark: Callable[[Path], None] = checkpoints.mark_checkpoint

    def mark_and_die(folder: Path) -> None:
        mark(folder)
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.mark_checkpoint = mark_and_die


if __name__ == "__main__":
    main(sys.argv[1:])
