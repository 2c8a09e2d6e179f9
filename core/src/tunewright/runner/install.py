"""The init container that brings packages."""

from __future__ import annotations

import os
import re
import time

from tunewright.runner.messages import ERROR_LENGTH, ending, without_secrets
from tunewright.runner.processes import End, execute
from tunewright.runner.settings import Settings
from tunewright.runner.verdicts import (
    FAILURE,
    NOT_FOUND,
    UNAVAILABLE,
    Verdict,
    emit,
    log,
    read_verdict,
    report,
    write_verdict,
)
from tunewright.runner.watch import TICK, Stop, StopCondition

_LONGEST_PAUSE = 30.0
# What pip says of an index that may be there again in a minute; it has tried a few times itself by then.
_INDEX_IS_AWAY = re.compile(
    r"after connection broken by|\b(429|5[0-9][0-9]) (Client|Server) Error|HTTP error (429|5[0-9][0-9])"
    r"|[Rr]ead timed out|Connection (reset|aborted|refused)|IncompleteRead|Temporary failure in name resolution"
)


def install(name: str, command: list[str], settings: Settings, retry_for: float) -> int:
    """The init container `name`: run pip, again for `retry_for` seconds while its index is away.

    Returns:
        The exit code of the process: 0, also after a failure of which a verdict was left; 143 when it was terminated.
    """
    if settings.run and read_verdict(settings.run):
        log(f"{name} does nothing: an earlier step has failed")
        return 0
    watch = StopCondition(settings._replace(output=None))
    give_up, pause = time.monotonic() + retry_for, 1.0
    while True:
        end = execute(command, watch, settings.grace, lambda: None)
        if not isinstance(end, Verdict):
            if end.stop is not None:
                return end.stop.code
            if not end.code:
                return 0
            if _INDEX_IS_AWAY.search(end.stderr) and time.monotonic() + pause < give_up:
                log(f"{name}: the package index is away; trying again in {pause:.0f} s")
                if stop := _sleep(pause, watch):
                    return stop.code
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            end = _pip_verdict(name, command, end)
        return _leave(end, settings)


def _leave(verdict: Verdict, settings: Settings) -> int:
    report(verdict, settings.termination_log, emit)
    if settings.run is None:
        return verdict.code
    try:
        write_verdict(settings.run, *verdict)
    except OSError as error:
        log(f"the verdict could not be left in {settings.run}: {error}")
        return verdict.code
    return 0


def _pip_verdict(name: str, command: list[str], end: End) -> Verdict:
    lines = [line for line in end.stderr.splitlines() if line.strip() and not line.startswith(("[notice]", "WARNING"))]
    said = without_secrets(" ".join(lines[-3:]), os.environ)[-ERROR_LENGTH:]
    index = command[command.index("--index-url") + 1] if "--index-url" in command else "the package index"
    if _INDEX_IS_AWAY.search(end.stderr):
        remedy = f"Check that containers reach {index}; init_env= takes PIP_INDEX_URL and HTTPS_PROXY."
        return Verdict(UNAVAILABLE, f"Step {name} could not reach {index}: {said}", remedy)
    wanted = ", ".join(command[command.index("--") + 1 :]) if "--" in command else "them"
    code = NOT_FOUND if "No matching distribution" in end.stderr else FAILURE
    remedy = f"Check that {index} has {wanted} for the image's Python; init_env= takes PIP_INDEX_URL for another index."
    return Verdict(code, f"Step {name} ended with {ending(end.code)}: {said}", remedy)


def _sleep(seconds: float, watch: StopCondition) -> Stop | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if stop := watch.stop():
            return stop
        time.sleep(TICK)
    return None
