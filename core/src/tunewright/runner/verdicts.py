"""The verdict: the failure that a step or a rank leaves for `run`; and how `run` reports to the client and to Kubernetes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from tunewright.runner.failure import SOFTWARE, Failure
from tunewright.runner.files import create, read, write_atomically

FAILURE = 1
USAGE = 64
NOT_FOUND = 66
UNAVAILABLE = 69
START_AGAIN = 129
INTERRUPTED = 130
TERMINATED = 143

VERDICT_FILE = "verdict.json"
ERROR_FILE = "error.txt"

LAST_FINAL_CODE = 127

_AT_WORK = "at-work-"  # and the rank


def write_verdict(folder: Path, failure: Failure) -> None:
    """Leave a failure in the pod's scratch folder, as its verdict; the first one stays.

    Raises:
        OSError: the folder is not writable.
    """
    create(folder / VERDICT_FILE, json.dumps(failure.to_dict()))


def read_verdict(folder: Path) -> Failure | None:
    """Return the verdict in the pod's scratch folder, if there is one. Its code is final: 1 to 127."""
    text = read(folder / VERDICT_FILE)
    if text is None:
        return None
    try:
        verdict = Failure.from_dict(json.loads(text))
    except (ValueError, AttributeError):
        return Failure(SOFTWARE, f"The verdict of an earlier step is damaged: {text[:200]!r}.", "See that step's log.")
    return verdict if FAILURE <= verdict.code <= LAST_FINAL_CODE else dataclasses.replace(verdict, code=SOFTWARE)


def write_error(folder: Path, text: str) -> None:
    """Leave the error of a crashed rank, for the message that `run` may end with; the first one stays.

    Raises:
        OSError: the folder is not writable.
    """
    create(folder / ERROR_FILE, text)


def begin_work(folder: Path, rank: int, what: str) -> None:
    """Note what a rank does, until `end_work`: a rank that ends in the middle of it, with exit code 0, has not succeeded.

    Raises:
        OSError: the folder is not writable.
    """
    write_atomically(folder / f"{_AT_WORK}{rank}", what)


def end_work(folder: Path, rank: int) -> None:
    """Take the note away: the rank has come to its end."""
    with contextlib.suppress(OSError):
        (folder / f"{_AT_WORK}{rank}").unlink()


def work_left(folder: Path) -> Mapping[str, str]:
    """Return what ranks have begun and not ended: rank → what."""
    return {path.name[len(_AT_WORK) :]: read(path) or "" for path in sorted(folder.glob(f"{_AT_WORK}*"))}


def forget_work(folder: Path) -> None:
    """Take the notes of an earlier attempt away."""
    for rank in work_left(folder):
        end_work(folder, int(rank))


def report(failure: Failure, termination_log: Path | None) -> None:
    """Report a failure to the client (event `failed`) and to Kubernetes (termination message)."""
    emit({"event": "failed", **failure.to_dict()})
    if termination_log is None:
        return
    try:
        # In place: in a pod it is a mounted file, which cannot be replaced.
        termination_log.write_bytes(failure.to_message())
    except OSError as error:
        log(f"the termination message could not be written: {error}")


def emit(event: Mapping[str, int | str]) -> None:
    """Print an event for the client."""
    with contextlib.suppress(OSError):  # nobody reads it any more
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


def log(text: str) -> None:
    """Print a line for people, in the log."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"tunewright run: {text}\n")
        sys.stderr.flush()
