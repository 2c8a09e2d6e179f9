"""The progress of a job in one line, for the annotation of its object that kubectl shows."""

from __future__ import annotations

import time
from collections.abc import Callable

from tunewright._views.text import duration_text
from tunewright.events import Event, Step
from tunewright.status.speed import Start

ANNOTATION = "tunewright.dev/progress"
"""Annotation of a running job: its newest step, written by who follows it, or by its first rank."""

_EVERY = 10.0  # seconds between two notes, whatever the number of steps


class ProgressNote:
    """Describes a job's newest step, at most every ten seconds.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: Start | None = None
        self._given = -_EVERY
        self._newest: str | None = None

    def take(self, event: Event) -> None:
        """Take an event; those that are not steps change nothing."""
        if not isinstance(event, Step):
            return
        now = self._clock()
        if self._first is None or event.step < self._first.done:  # it went on from an earlier checkpoint
            self._first = Start(event.step, now)
        self._newest = described(event, self._first.seconds_left(event.step, event.total_steps, now))

    def due(self) -> str | None:
        """Return the newest step, if there is a new one and it is time for it."""
        return self.rest() if self._clock() - self._given >= _EVERY else None

    def rest(self) -> str | None:
        """Return the newest step, if there is a new one: at the end of the training, whatever the time."""
        text, self._newest = self._newest, None
        if text is not None:
            self._given = self._clock()
        return text


def described(event: Step, left: float | None) -> str:
    """Describe a step: "step 12/100, loss 1.2345, 5,100 tokens/s per rank, 12 min left"."""
    of = f"/{event.total_steps}" if event.total_steps else ""
    parts = [f"step {event.step}{of}"]
    if event.loss is not None:
        parts.append(f"loss {event.loss:.4f}")
    if event.tokens_per_second is not None:
        parts.append(f"{event.tokens_per_second:,.0f} tokens/s per rank")
    if left is not None:
        parts.append(f"{duration_text(left)} left")
    return ", ".join(parts)
