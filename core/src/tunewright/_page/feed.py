"""Jobs that somebody looks at: a thread for each reads its log as it grows, into the same fold as a report."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import attrs

from tunewright._page.document import job_document
from tunewright.backends.base import Backend
from tunewright.errors import TunewrightError
from tunewright.events import Json
from tunewright.status.report import JobReport, ReportFold
from tunewright.status.state import JobState
from tunewright.status.status import JobRecord, JobStatus, LogLine

KEPT_LINES = 5000
_MOST_FEEDS = 32
_FRESH = 0.9  # seconds for which a status is used again

NextCommands = Callable[[Backend, str], Sequence[str]]
"""Returns what to type next for a job that has succeeded, by its backend and name."""


@attrs.frozen(kw_only=True)
class _Known:
    """What is known of a job, since `at`, in seconds of a monotonic clock."""

    at: float
    status: JobStatus
    record: JobRecord
    commands: Sequence[str]


class JobFeed:
    """One job's log, read by a thread of its own, which ends with the job."""

    def __init__(self, backend: Backend, name: str, next_commands: NextCommands) -> None:
        self._backend, self._name, self._next_commands = backend, name, next_commands
        self._fold = ReportFold()
        self._lines: deque[tuple[str, int, str]] = deque(maxlen=KEPT_LINES)
        self._count = 0  # of all plain lines so far
        self._lock = threading.Lock()
        self._closed = False
        self._known: _Known | None = None
        self._thread = threading.Thread(target=self._read, daemon=True, name=f"log of {name}")
        self._thread.start()

    @property
    def reading(self) -> bool:
        """Whether there may be more of the log."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Let the thread end at its next line."""
        self._closed = True

    def document(self, log_from: int | None) -> dict[str, Json]:
        """Return what the page shows of the job now.

        Args:
            log_from: number of the first line of the log that is wanted; None for no lines.

        Raises:
            JobError: the job no longer exists.
        """
        known = self._current()
        with self._lock:
            report = self._fold.report(JobReport, known.status, known.record)
            log = self._log(log_from) if log_from is not None else None
        more: dict[str, Json] = {"log": log, "reading": self.reading, "at_rest": known.status.state.at_rest}
        more["next_commands"] = list(known.commands)
        return {**job_document(report), **more}

    def _log(self, start: int) -> Json:
        first = self._count - len(self._lines)
        begin = first if start > self._count else max(first, start)
        lines: list[Json] = [list(line) for line in list(self._lines)[begin - first :]]
        return {"first": begin, "next": self._count, "lines": lines}

    def _current(self) -> _Known:
        old = self._known
        if old is not None and time.monotonic() - old.at <= _FRESH:
            return old
        status = self._backend.get(self._name)
        if old is not None and (old.status.state, old.status.detail) == (status.state, status.detail):
            self._known = attrs.evolve(old, at=time.monotonic(), status=status)
        else:
            succeeded = status.state is JobState.SUCCEEDED
            commands = self._next_commands(self._backend, self._name) if succeeded else ()
            record = self._backend.record(self._name)
            self._known = _Known(at=time.monotonic(), status=status, record=record, commands=commands)
        return self._known

    def _read(self) -> None:
        try:
            for item in self._backend.updates(self._name):
                if self._closed:
                    return
                if isinstance(item, LogLine):
                    self._add(item)
        except TunewrightError:
            return  # the page asks for the status too, and is told why

    def _add(self, line: LogLine) -> None:
        with self._lock:
            if self._fold.add(line) is None:
                self._lines.append((line.container, line.worker, line.text))
                self._count += 1


class Feeds:
    """The feeds of a server: one for each job that is looked at, at most 32."""

    def __init__(self, next_commands: NextCommands) -> None:
        self._next_commands = next_commands
        self._feeds: dict[tuple[str, str], tuple[JobFeed, JobStatus]] = {}
        self._lock = threading.Lock()

    def of(self, backend_name: str, backend: Backend, name: str) -> JobFeed:
        """Return the feed of a job, a new one if it was resumed or created again.

        Raises:
            JobError: there is no such job.
        """
        key, status = (backend_name, name), backend.get(name)
        with self._lock:
            feed, begun = self._feeds.pop(key, (None, status))
            over = feed is not None and not feed.reading and not status.state.at_rest
            if feed is None or over or begun.created != status.created:
                if feed is not None:
                    feed.close()
                feed, begun = JobFeed(backend, name, self._next_commands), status
            self._feeds[key] = (feed, begun)  # the last one is the one that was looked at last
            while len(self._feeds) > _MOST_FEEDS:
                self._feeds.pop(next(iter(self._feeds)))[0].close()
        return feed
