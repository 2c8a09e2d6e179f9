"""When the command has to end."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from types import FrameType
from typing import NamedTuple

from tunewright.runner.files import create
from tunewright.runner.settings import Settings
from tunewright.runner.verdicts import FAILURE, INTERRUPTED, TERMINATED, Verdict

TICK = 0.1  # seconds between two looks at signals, parent and deadline


class Stop(NamedTuple):
    """Why the command has to end: by `signum`, and `run` with `code`, unless it is late, which is a failure."""

    signum: int
    code: int = TERMINATED
    late: bool = False


class Watch:
    """Knows when the command has to end: a signal came, the parent is gone, or the deadline has passed."""

    def __init__(self, settings: Settings) -> None:
        self._received: int | None = None
        self._parent = settings.parent
        self._file = settings.output / ".started" if settings.output else None
        self._ends_at = self._first_start() + settings.deadline if settings.deadline is not None else math.inf
        names = ("SIGTERM", "SIGINT", "SIGBREAK")  # the last is Windows' own
        for signum in (getattr(signal, name) for name in names if hasattr(signal, name)):
            signal.signal(signum, self._receive)

    def stop(self) -> Stop | None:
        """The reason to end now, if there is one."""
        if self._received is not None:
            return Stop(self._received, INTERRUPTED if self._received == signal.SIGINT else TERMINATED)
        if self._parent is not None and os.getppid() != self._parent:
            return Stop(signal.SIGTERM)
        return Stop(signal.SIGTERM, late=True) if self.late() else None

    def late(self) -> bool:
        """Whether the deadline has passed."""
        return time.time() > self._ends_at

    def forget(self) -> None:
        """Remove the record of the first start."""
        if self._file:
            with contextlib.suppress(OSError):
                self._file.unlink()

    def _receive(self, signum: int, _: FrameType | None) -> None:
        self._received = self._received or signum

    def _first_start(self) -> float:
        """Seconds since the epoch; of several workers, the first one's clock counts."""
        now = time.time()
        if self._file:
            with contextlib.suppress(OSError, ValueError):
                create(self._file, repr(now))
                return float(self._file.read_text("utf-8"))
        return now


def too_late(settings: Settings) -> Verdict:
    """What the end of the deadline means."""
    cause = f"The job did not end within its deadline of {settings.deadline:.0f} seconds."
    return Verdict(FAILURE, cause, "Give it more time with deadline=; its checkpoints are kept.")
