"""A job's log: read from the files that its processes append to, line by line."""

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
_LONGEST_LINE = 1 << 20  # bytes; what is longer comes in pieces
_TAIL = 1 << 16  # bytes


@attrs.define
class LogFile:
    """One container's log, and how far it has been read.

    Attributes:
        step: the container's name.
        worker: index of the worker.
        path: may not exist yet.
    """

    step: str
    worker: int
    path: Path
    _offset: int = attrs.field(default=0, init=False)

    def lines(self, *, to_the_end: bool) -> Iterator[LogLine]:
        """The lines that were added since the last call.

        Args:
            to_the_end: also the last one, if it lacks its line break: its writer has ended.
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
                yield LogLine(step=self.step, worker=self.worker, text=decoded)


def read(files: Sequence[LogFile]) -> Iterator[LogLine]:
    """All lines, one file after another."""
    for file in files:
        yield from file.lines(to_the_end=True)


def follow(files: Sequence[LogFile], at_rest: Callable[[], bool]) -> Iterator[LogLine]:
    """All lines, and those to come until the job is at rest.

    Args:
        files: in the order in which they are looked at.
        at_rest: whether nothing more will be written.
    """
    ended = False
    while not ended:
        # Asked before the look at the files: what was written before the end is never missed.
        ended = at_rest()
        found = False
        for file in files:
            for line in file.lines(to_the_end=ended):
                found = True
                yield line
        if not found and not ended:
            time.sleep(_POLL)


def detail(state: JobState, files: Sequence[LogFile]) -> str:
    """How far the job is, from its newest events: "model, 43%" or "step 12/100"."""
    for file in files:
        for event in _newest_events(file.path):
            if text := progress_of(event, fetching=state is JobState.DOWNLOADING):
                return text
    return ""


def _newest_events(path: Path) -> Iterator[Event]:
    """The events at the end of a log, newest first."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in reversed(lines):
        if event := parse_event(line):
            yield event
