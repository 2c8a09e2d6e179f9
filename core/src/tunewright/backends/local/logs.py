"""Read a job's log, line by line, from the files that its processes append to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from tunewright.events import Event, parse_event
from tunewright.status.state import JobState
from tunewright.status.status import LogLine
from tunewright.status.summary import progress_of

_POLL = 0.15
_LONGEST_LINE = 1 << 20  # bytes; longer lines are split
_TAIL = 1 << 16  # bytes


@attrs.define
class LogFile:
    """The log of one container, and how far it has been read.

    Attributes:
        container: name of the container.
        worker: index of the worker.
        path: path of the file, which may not exist yet.
    """

    container: str
    worker: int
    path: Path
    _offset: int = attrs.field(default=0, init=False)

    def lines(self, *, to_the_end: bool) -> Iterator[LogLine]:
        """Yield the lines added since the last call.

        Args:
            to_the_end: also yield a last line without a line break, because its writer has ended.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            while text := file.readline(_LONGEST_LINE):
                if not text.endswith(b"\n") and len(text) < _LONGEST_LINE and not to_the_end:
                    return
                self._offset += len(text)
                decoded = text.decode("utf-8", errors="replace").rstrip("\r\n")
                yield LogLine(container=self.container, worker=self.worker, text=decoded)


def read(files: Sequence[LogFile]) -> Iterator[LogLine]:
    """Yield all lines, one file after another."""
    for file in files:
        yield from file.lines(to_the_end=True)


def follow(files: Sequence[LogFile], at_rest: Callable[[], bool]) -> Iterator[LogLine]:
    """Yield all lines, and then new lines until the job is at rest.

    Args:
        files: the log files, in the order in which to read them.
        at_rest: returns whether nothing more will be written.
    """
    ended = False
    while not ended:
        # Checked before the files are read, so that no line written before the end is missed.
        ended = at_rest()
        found = False
        for file in files:
            for line in file.lines(to_the_end=ended):
                found = True
                yield line
        if not found and not ended:
            time.sleep(_POLL)


def detail(state: JobState, files: Sequence[LogFile]) -> str:
    """Return how far the job has got, from its newest events: "model, 43%" or "step 12/100".

    Args:
        state: the job's state.
        files: the logs to look at; the first that says something counts.
    """
    fetching = state is JobState.DOWNLOADING
    said = (progress_of(newest_events(file.path), fetching=fetching) for file in files)
    return next(filter(None, said), "")


def newest_events(path: Path) -> Iterator[Event]:
    """Yield the events at the end of a log, newest first."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in reversed(lines):
        if event := parse_event(line):
            yield event
