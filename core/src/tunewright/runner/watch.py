"""When the command has to be stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from types import FrameType
from typing import NamedTuple

from tunewright.runner.failure import Failure
from tunewright.runner.files import create, write_atomically
from tunewright.runner.settings import Settings
from tunewright.runner.verdicts import FAILURE, INTERRUPTED, TERMINATED

TICK = 0.1  # seconds between two checks of signals, parent and deadline
_KEEP_EVERY = 10.0  # seconds of the deadline that a killed pod may lose count of


class Stop(NamedTuple):
    """Why the command has to be stopped: with `signum`; `run` then exits with `code`, unless it is late, which is a failure."""

    signum: int
    code: int = TERMINATED
    late: bool = False


class StopCondition:
    """Tell whether the command has to be stopped: a signal came, the parent is gone, or the deadline has passed."""

    def __init__(self, settings: Settings) -> None:
        self._received: int | None = None
        self._parent = settings.parent
        self._deadline = settings.deadline
        # The seconds that the job has used; the clock stops while it is suspended, or deleted with its claim kept.
        self._file = settings.output / ".used" if settings.output and settings.deadline is not None else None
        self._began = self._kept_at = time.monotonic()
        self._used_before = self._read_used()
        names = ("SIGTERM", "SIGINT", "SIGBREAK")  # the last one exists only on Windows
        for signum in (getattr(signal, name) for name in names if hasattr(signal, name)):
            signal.signal(signum, self._receive)

    def stop(self) -> Stop | None:
        """Return the reason to stop now, if there is one."""
        if time.monotonic() > self._kept_at + _KEEP_EVERY:
            self.keep()
        if self._received is not None:
            return Stop(self._received, INTERRUPTED if self._received == signal.SIGINT else TERMINATED)
        if self._parent is not None and os.getppid() != self._parent:
            return Stop(signal.SIGTERM)
        return Stop(signal.SIGTERM, late=True) if self.late() else None

    def late(self) -> bool:
        """Return whether the deadline has passed."""
        return self._deadline is not None and self._used() > self._deadline

    def keep(self) -> None:
        """Record the seconds that the job has used, unless another worker has recorded more, or the job has ended."""
        self._kept_at = time.monotonic()
        if self._file:
            with contextlib.suppress(OSError, ValueError):
                if float(self._file.read_text("utf-8")) < self._used():
                    write_atomically(self._file, repr(self._used()))

    def forget(self) -> None:
        """Remove the record of the seconds used."""
        if self._file:
            with contextlib.suppress(OSError):
                self._file.unlink()

    def _receive(self, signum: int, _: FrameType | None) -> None:
        self._received = self._received or signum

    def _used(self) -> float:
        return self._used_before + time.monotonic() - self._began

    def _read_used(self) -> float:
        """Return the seconds that the job had used before this start."""
        if self._file:
            with contextlib.suppress(OSError, ValueError):
                create(self._file, "0.0")
                return float(self._file.read_text("utf-8"))
        return 0.0


def too_late(settings: Settings) -> Failure:
    """Return the failure of a job whose deadline has passed."""
    cause = f"The job did not end within its deadline of {settings.deadline:.0f} seconds."
    return Failure(FAILURE, cause, "Give it more time with deadline=; its checkpoints are kept.")
