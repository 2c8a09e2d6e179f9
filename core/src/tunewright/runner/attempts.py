"""Attempts: how often the command was started without reaching a new checkpoint."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from tunewright.runner.checkpoints import newest_step
from tunewright.runner.files import read, write_atomically
from tunewright.runner.settings import Settings
from tunewright.runner.verdicts import emit, log


class Attempts:
    """Count the starts of this worker since its newest complete checkpoint, in a file beside the checkpoints.

    Attributes:
        limit: number of starts that are allowed.
        number: number of this start, from 1; 0 if it could not be counted.
    """

    def __init__(self, settings: Settings) -> None:
        self.limit = settings.max_restarts + 1
        self.number = 0
        self._step = -1
        self._output = settings.output
        self._name = f".attempts-{settings.worker}.json"

    def begin(self) -> None:
        """Count this start."""
        try:
            if self._output is None or not self._output.is_dir():
                raise FileNotFoundError("there is no output folder")
            number, step, before = _read_attempts(self._output / self._name)
            self._step = newest_step(self._output)
            number = 1 if self._advanced(step) else number + 1
            self._write(number)
        except OSError as error:
            log(f"attempts cannot be counted, so the first crash is final: {error}")
            return
        self.number = number
        emit({"event": "attempt", "attempt": number, "limit": self.limit, **({"after": before} if before else {})})

    def left(self) -> bool:
        """Return whether the command may be started again after a crash."""
        if not self.number or self._output is None:
            return False
        return self.number < self.limit or (self.limit > 1 and newest_step(self._output) > self._step)

    def remember(self, how: str) -> None:
        """Keep how this start ended for the next one: its pod may be deleted, and its log with it."""
        with contextlib.suppress(OSError):
            self._write(self.number, how)

    def uncount(self) -> None:
        """Take this start back: the process was terminated from outside."""
        if self.number:
            with contextlib.suppress(OSError):
                self._write(self.number - 1)

    def forget(self) -> None:
        """Remove the record."""
        if self._output:
            with contextlib.suppress(OSError):
                (self._output / self._name).unlink()

    def _advanced(self, step: int) -> bool:
        # With max_restarts=0 the first crash is final, whether or not there are new checkpoints.
        return self.limit > 1 and self._step > step

    def _write(self, number: int, ended: str = "") -> None:
        assert self._output is not None  # noqa: S101 - for the type checker: begin() has looked
        record = {"attempts": number, "step": self._step, **({"ended": ended} if ended else {})}
        write_atomically(self._output / self._name, json.dumps(record))


def _read_attempts(file: Path) -> tuple[int, int, str]:
    """Return the starts so far, the step of the newest checkpoint at the last one (-1: none), and how that one ended."""
    try:
        record = json.loads(read(file) or "{}")
        return int(record["attempts"]), int(record["step"]), str(record.get("ended", ""))
    except (ValueError, KeyError, TypeError):
        return 0, -1, ""
