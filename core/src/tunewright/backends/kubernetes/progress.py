"""Progress that kubectl shows: an annotation of the job, written by whoever follows it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator

from tunewright._views.note import ANNOTATION, ProgressNote
from tunewright.backends.kubernetes.api import Api
from tunewright.backends.kubernetes.failures import ApiFailure
from tunewright.events import parse_event
from tunewright.plan.plan import MAIN_STEP
from tunewright.status.status import JobStatus, LogLine


class ProgressNotes:
    """Writes a job's newest step into an annotation, at most every ten seconds.

    Args:
        api: the cluster.
        name: the job.
        clock: seconds.
    """

    def __init__(self, api: Api, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._name, self._note = api, name, ProgressNote(clock)

    def during(self, news: Iterable[LogLine | JobStatus]) -> Iterator[LogLine | JobStatus]:
        """Pass everything on, and note the steps of worker 0."""
        for item in news:
            if isinstance(item, LogLine) and (item.worker, item.container) == (0, MAIN_STEP):
                self._take(item.text)
            yield item

    def _take(self, line: str) -> None:
        if (event := parse_event(line)) is None:
            return
        self._note.take(event)
        if (text := self._note.due()) is None:
            return
        change = {"metadata": {"annotations": {ANNOTATION: text}}}
        with contextlib.suppress(ApiFailure):  # it serves people who look, and nothing depends on it
            self._api.patch(self._api.kind.kind, self._name, change)
