"""What a step or a rank leaves for `run`, and what `run` tells the client and Kubernetes."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tunewright.runner.files import create, read

FAILURE = 1
USAGE = 64
NOT_FOUND = 66
UNAVAILABLE = 69
SOFTWARE = 70
START_AGAIN = 129
INTERRUPTED = 130
TERMINATED = 143

VERDICT_FILE = "verdict.json"
ERROR_FILE = "error.txt"

LAST_FINAL_CODE = 127
_MESSAGE_BYTES = 4096  # Kubernetes cuts a termination message here


class Verdict(NamedTuple):
    """A final end.

    Attributes:
        code: exit code, 1 to 127.
        cause: what happened, to what.
        remedy: what to do about it; may be empty.
    """

    code: int
    cause: str
    remedy: str


def write_verdict(folder: Path, code: int, cause: str, remedy: str) -> None:
    """Leave a verdict in the pod's scratch folder; the first one stays.

    Raises:
        OSError: the folder cannot be written.
    """
    create(folder / VERDICT_FILE, json.dumps(Verdict(code, cause, remedy)._asdict()))


def read_verdict(folder: Path) -> Verdict | None:
    """The verdict that was left in the pod's scratch folder, if there is one. Its code is final: 1 to 127."""
    text = read(folder / VERDICT_FILE)
    if text is None:
        return None
    try:
        record = json.loads(text)
        verdict = Verdict(int(record["code"]), str(record["cause"]), str(record["remedy"]))
    except (ValueError, KeyError, TypeError):
        return Verdict(SOFTWARE, f"The verdict of an earlier step is damaged: {text[:200]!r}.", "See that step's log.")
    return verdict if FAILURE <= verdict.code <= LAST_FINAL_CODE else verdict._replace(code=SOFTWARE)


def write_error(folder: Path, text: str) -> None:
    """Leave a crashed rank's error for the message that `run` may end with; the first one stays.

    Raises:
        OSError: the folder cannot be written.
    """
    create(folder / ERROR_FILE, text)


def report(verdict: Verdict, termination_log: Path | None, emit: Callable[[Mapping[str, int | str]], None]) -> None:
    """Tell the client (event `failed`) and Kubernetes (termination message) why the container's work failed."""
    emit({"event": "failed", **verdict._asdict()})
    if termination_log is None:
        return
    remedy = f" {verdict.remedy}".encode(errors="replace")
    cause = verdict.cause.encode(errors="replace")[: max(0, _MESSAGE_BYTES - len(remedy))]
    try:
        # In place: in a pod it is a mounted file, which cannot be replaced.
        termination_log.write_bytes((cause + remedy).strip()[:_MESSAGE_BYTES])
    except OSError as error:
        log(f"the termination message could not be written: {error}")


def emit(event: Mapping[str, int | str]) -> None:
    """Print an event for the client."""
    with contextlib.suppress(OSError):  # nobody listens any more
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


def log(text: str) -> None:
    """Tell people, in the log."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"tunewright run: {text}\n")
        sys.stderr.flush()
