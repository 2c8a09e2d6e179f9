"""`--install`: the init container that installs packages with pip."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from pathlib import Path

from tunewright.runner.failure import Failure
from tunewright.runner.files import read
from tunewright.runner.messages import ERROR_LENGTH, ending, without_secrets
from tunewright.runner.processes import End, execute
from tunewright.runner.settings import Settings
from tunewright.runner.verdicts import (
    FAILURE,
    NOT_FOUND,
    UNAVAILABLE,
    log,
    read_verdict,
    report,
    write_verdict,
)
from tunewright.runner.watch import TICK, Stop, StopCondition

WHEELS_FILE = "wheels.json"
"""The configuration file with wheels that the job carries: name → contents as Base64."""

WHEELS_FOLDER = "/tmp/tunewright-wheels"  # noqa: S108 - of a pod, which nobody else writes to
"""Where they are unpacked to. pip compares the digests that their URLs name."""

_LONGEST_PAUSE = 30.0
# What pip prints when its index is unreachable for the moment; by then it has retried a few times itself.
_UNREACHABLE = re.compile(
    r"after connection broken by|\b(429|5[0-9][0-9]) (Client|Server) Error|HTTP error (429|5[0-9][0-9])"
    r"|[Rr]ead timed out|Connection (reset|aborted|refused)|IncompleteRead|Temporary failure in name resolution"
)


def install(name: str, command: list[str], settings: Settings, retry_for: float) -> int:
    """Run pip as the init container `name`; retry for `retry_for` seconds while the package index is unreachable.

    Returns:
        The exit code of the process: 0, also after a failure that left a verdict; 143 if it was terminated.
    """
    if settings.run and read_verdict(settings.run):
        log(f"{name} does nothing: an earlier step has failed")
        return 0
    _unpack_wheels(os.environ.get("TUNEWRIGHT_CONFIG"))
    watch = StopCondition(settings._replace(output=None))
    give_up, pause = time.monotonic() + retry_for, 1.0
    while True:
        end = execute(command, watch, settings.grace, lambda: None)
        if not isinstance(end, Failure):
            if end.stop is not None:
                return end.stop.code
            if not end.code:
                return 0
            if _UNREACHABLE.search(end.stderr) and time.monotonic() + pause < give_up:
                log(f"{name}: the package index is unreachable; trying again in {pause:.0f} s")
                if stop := _sleep(pause, watch):
                    return stop.code
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            end = _pip_failure(name, command, end)
        return _leave(end.seen_in(name), settings)


def _unpack_wheels(config: str | None) -> None:
    text = read(Path(config, WHEELS_FILE)) if config else None
    for name, data in (json.loads(text) if text else {}).items():
        file = Path(WHEELS_FOLDER, Path(name).name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(data))


def _leave(failure: Failure, settings: Settings) -> int:
    report(failure, settings.termination_log)
    if settings.run is None:
        return failure.code
    try:
        write_verdict(settings.run, failure)
    except OSError as error:
        log(f"the verdict could not be left in {settings.run}: {error}")
        return failure.code
    return 0


def _pip_failure(name: str, command: list[str], end: End) -> Failure:
    lines = [line for line in end.stderr.splitlines() if line.strip() and not line.startswith(("[notice]", "WARNING"))]
    said = f"{without_secrets(' '.join(lines[-3:]), os.environ)[-ERROR_LENGTH:].rstrip('.')}."
    index = command[command.index("--index-url") + 1] if "--index-url" in command else "the package index"
    if _UNREACHABLE.search(end.stderr):
        remedy = f"Check that containers reach {index}; init_env= takes PIP_INDEX_URL and HTTPS_PROXY."
        return Failure(UNAVAILABLE, f"Step {name} could not reach {index}: {said}", remedy)
    wanted = ", ".join(command[command.index("--") + 1 :]) if "--" in command else "them"
    code = NOT_FOUND if "No matching distribution" in end.stderr else FAILURE
    remedy = f"Check that {index} has {wanted} for the image's Python; init_env= takes PIP_INDEX_URL for another index."
    return Failure(code, f"Step {name} ended with {ending(end.code)}: {said}", remedy)


def _sleep(seconds: float, watch: StopCondition) -> Stop | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if stop := watch.stop():
            return stop
        time.sleep(TICK)
    return None
