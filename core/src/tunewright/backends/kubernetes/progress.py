"""Progress that kubectl shows: an annotation of the job, written by whoever follows it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator

from tunewright._views.text import duration_text
from tunewright.backends.kubernetes import names
from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.failures import ApiFailure
from tunewright.events import Step, parse_event
from tunewright.plan.plan import MAIN_STEP
from tunewright.status.speed import Start
from tunewright.status.status import JobStatus, LogLine

_EVERY = 10.0  # seconds between two patches, whatever the number of steps


class ProgressNotes:
    """Writes a job's newest step into an annotation, at most every ten seconds.

    Args:
        api: the cluster.
        name: the job.
        clock: seconds.
    """

    def __init__(self, api: Api, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._name, self._clock = api, name, clock
        self._first: Start | None = None
        self._written = -_EVERY

    def during(self, news: Iterable[LogLine | JobStatus]) -> Iterator[LogLine | JobStatus]:
        """Pass everything on, and note the steps of worker 0."""
        for item in news:
            if isinstance(item, LogLine) and (item.worker, item.container) == (0, MAIN_STEP):
                self._take(item.text)
            yield item

    def _take(self, text: str) -> None:
        event = parse_event(text)
        if not isinstance(event, Step):
            return
        now = self._clock()
        if self._first is None or event.step < self._first.done:  # it went on from an earlier checkpoint
            self._first = Start(event.step, now)
        if now - self._written < _EVERY:
            return
        self._written = now
        left = self._first.seconds_left(event.step, event.total_steps, now)
        note = {"metadata": {"annotations": {names.PROGRESS: described(event, left)}}}
        with contextlib.suppress(ApiFailure):  # it serves people who look, and nothing depends on it
            self._api.patch(self._api.kind.kind, self._name, note)


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
