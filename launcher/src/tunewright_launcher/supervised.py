"""A step in a fork, and its parent that waits: a plugin's code may end the process, or be killed, and then nothing in it can say so."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import NoReturn

from tunewright import runner
from tunewright.environment import OUTPUT_SLOT, PARENT
from tunewright.errors import ExitCode, FetchError
from tunewright_launcher.failure import Secrets
from tunewright_launcher.provider import TRAINER, document_file, read_document
from tunewright_launcher.step import Step, end_with_parent, fail

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

Ended = Callable[[int], None]


def supervise(container: str, slots: tuple[str, ...], env: Mapping[str, str]) -> Ended:
    """Fork, where the system allows that. Only the child returns: the parent ends as the child does, or with a verdict.

    Args:
        container: name of the step's container.
        slots: whose providers' code it runs, for the verdict.
        env: the container's environment.

    Returns:
        What the child calls with its exit code, once the step has come to its end.
    """
    if sys.platform != "linux":  # elsewhere system libraries do not work in a fork
        return lambda _: None
    above = runner.Settings.read(env).parent
    reader, writer = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until somebody handles them: process 1 would miss them
    parent, child = os.getpid(), os.fork()
    if child:
        os.close(writer)
        _wait(child, reader, lambda how: died(container, slots, how, env), above)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    os.close(reader)
    runner.die_with_parent()
    os.environ[PARENT] = str(parent)
    return lambda code: tell(writer, code)


def died(container: str, slots: tuple[str, ...], how: str, env: Mapping[str, str]) -> int:
    """Leave the verdict of a step whose process ended in the middle; return the exit code, as `run_init_step`.

    Args:
        container: name of the step's container.
        slots: whose providers' code it ran.
        how: the exit code or the signal that the process ended with, in words.
        env: the container's environment.
    """
    cause = f"The process of {container} ended with {how}, in the middle of the code of {plugins_of(slots, env)}."
    if "SIGKILL" in how:
        remedy = (
            "It was killed, often for lack of memory: give the container more memory, or look at the node's events."
        )
    else:
        remedy = "That code, or a library that it uses, ends the process: tell the author of the plugin."
    error = FetchError(cause, remedy=remedy, code=ExitCode.SOFTWARE)
    return fail(container, error, runner.Settings.read(env), Secrets())


def plugins_of(slots: tuple[str, ...], env: Mapping[str, str]) -> str:
    """Return the plugins of a job's inputs, trainer or output, in words."""
    found = []
    with contextlib.suppress(FetchError):
        step = Step.read(env, Secrets())
        for slot in slots:
            if document_file(step, slot).is_file():
                document = read_document(step, slot)
                found.append(f"the {document.kind} plugin {document.provider!r} ({document.distribution})")
    return " or ".join(dict.fromkeys(found)) or "a plugin"


def slots_of(command: str, slot: str | None) -> tuple[str, ...]:
    """Return whose code a command runs."""
    return (slot,) if slot else (OUTPUT_SLOT,) if command == "upload" else (TRAINER, OUTPUT_SLOT)


def tell(writer: int, code: int) -> None:
    """Say through a pipe that a step has come to its end, with that exit code; a negative one is a signal's."""
    with contextlib.suppress(OSError):
        os.write(writer, f"{code}\n".encode())


def told(reader: int) -> int | None:
    """Return what a process that has ended said; None if it said nothing."""
    os.set_blocking(reader, False)  # a process that it has started may still hold the other end
    with contextlib.suppress(BlockingIOError, ValueError):
        return int(os.read(reader, 16))
    return None


def _wait(child: int, reader: int, verdict: Callable[[str], int], parent: int | None) -> NoReturn:
    """Wait for the child, and end as it does."""
    passed: set[int] = set()

    def pass_on(signum: int, _: FrameType | None) -> None:
        passed.add(signum)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signum)

    for signum in _SIGNALS:
        signal.signal(signum, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    end_with_parent(parent)
    _, status = os.waitpid(child, 0)
    code = told(reader)
    if code is None:
        ended = os.waitstatus_to_exitcode(status)
        # By a signal that was passed on, before it could handle it; or by its own code.
        code = runner.TERMINATED if -ended in passed else verdict(runner.ending(ended))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.stderr.flush()
    os._exit(code)
