"""`run` itself, from its settings to its exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence

from tunewright.runner.attempts import Attempts
from tunewright.runner.failure import SOFTWARE, Failure
from tunewright.runner.files import read
from tunewright.runner.install import install
from tunewright.runner.messages import ERROR_LENGTH, ending, errors_in, killed_ranks, without_secrets
from tunewright.runner.processes import End, execute
from tunewright.runner.settings import Settings, number
from tunewright.runner.verdicts import (
    ERROR_FILE,
    FAILURE,
    LAST_FINAL_CODE,
    START_AGAIN,
    USAGE,
    forget_work,
    log,
    read_verdict,
    report,
    work_left,
)
from tunewright.runner.watch import TICK, StopCondition, too_late

_RETRY_FOR = 600.0  # seconds


def main(argv: Sequence[str]) -> int:
    """Run a command to its end.

    Args:
        argv: the command and its arguments, after an optional `--`.

    Returns:
        The exit code of the process: see the table in the docstring of `tunewright.runner`.
    """
    try:
        settings = Settings.read(os.environ)
        if list(argv[:1]) == ["--install"]:
            return install(argv[1], list(argv[3:]), settings, number(os.environ, "TUNEWRIGHT_RETRY_FOR", _RETRY_FOR))
    except ValueError as error:
        log(str(error))
        return USAGE
    command = list(argv[1:] if argv[:1] == ["--"] else argv)
    watch = StopCondition(settings)
    attempts = Attempts(settings)
    outcome = _refusal(command, settings, watch, attempts) or _run(command, settings, watch, attempts)
    if isinstance(outcome, Failure):
        report(outcome, settings.termination_log)
        outcome = outcome.code
    if outcome <= LAST_FINAL_CODE:
        # The end is final: a job that is submitted again counts from the beginning.
        attempts.forget()
        watch.forget()
        if outcome == 0:
            _linger(settings.linger, watch)
    else:
        watch.keep()
    return outcome


def _linger(seconds: float, watch: StopCondition) -> None:
    """Stay for some seconds, or until SIGTERM: where the first success ends the job, the log of rank 0 would be lost by another's."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and watch.stop() is None:
        time.sleep(TICK)


def _refusal(command: list[str], settings: Settings, watch: StopCondition, attempts: Attempts) -> Failure | None:
    """Return why the command is not started at all."""
    if settings.run and (verdict := read_verdict(settings.run)):
        return verdict
    if not command:
        return Failure(USAGE, "There is no command to run.", "Give one: run -- torchrun …")
    if watch.late():
        return too_late(settings)
    attempts.begin()
    if attempts.number > attempts.limit:
        cause = f"The training command was started {attempts.limit} times and never reached a new checkpoint."
        return Failure(
            FAILURE, cause, "Its processes were killed, often for lack of memory: look at the events of its pods."
        )
    return None


def _run(command: list[str], settings: Settings, watch: StopCondition, attempts: Attempts) -> int | Failure:
    if settings.run:
        with contextlib.suppress(OSError):
            (settings.run / ERROR_FILE).unlink()
        forget_work(settings.run)
    end = execute(command, watch, settings.grace, attempts.uncount)
    if isinstance(end, Failure):
        return end
    if end.stop is not None:
        return too_late(settings) if end.stop.late else end.stop.code
    return _judge(end, settings, attempts) if end.code else _left(settings) or 0


def _left(settings: Settings) -> Failure | None:
    """Return the failure of a rank whose process ended in the middle with exit code 0, of which torchrun sees nothing."""
    for rank, what in (work_left(settings.run) if settings.run else {}).items():
        cause = f"The process of rank {rank} ended with exit code 0, in the middle of {what}."
        remedy = "That code, or a library that it uses, ends the process: tell the author of the plugin."
        return Failure(SOFTWARE, cause, remedy)
    return None


def _judge(end: End, settings: Settings, attempts: Attempts) -> int | Failure:
    """Return the exit code, or the failure, after a crash of the command."""
    if settings.run and (verdict := read_verdict(settings.run)):
        return verdict
    error = (read(settings.run / ERROR_FILE) if settings.run else None) or "; ".join(errors_in(end.stderr)[-3:])
    how = f"The training command ended with {ending(end.code)}"
    if killed := killed_ranks(end.stderr):
        how = f"{how}: {', '.join(killed)}"
    if settings.run and not error and (left := work_left(settings.run)):
        how = f"{how}, in the middle of {next(iter(left.values()))}"
    shown = f" Its error: {without_secrets(error, os.environ)[:ERROR_LENGTH]}." if error else ""
    if attempts.left():
        attempts.remember(f"{how}.{shown}")
        log(f"{how}; it will be started again (attempt {attempts.number} of {attempts.limit})")
        return START_AGAIN
    since = f"{attempts.number} of {attempts.limit} attempts since the last checkpoint" if attempts.number else ""
    cause = f"{how}{f'; {since}' if since else ''}.{shown}"
    return Failure(FAILURE, cause, "Look for the first error in the log; max_restarts= allows more attempts.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
