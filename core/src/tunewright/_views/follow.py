"""Progress of a job, drawn from its events: bars in a terminal and in a notebook, lines elsewhere, JSON for programs."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Literal, Protocol

from tunewright._views.bars import BarsView
from tunewright._views.base import LinesView, View
from tunewright._views.json_lines import JsonView
from tunewright._views.text import describe_state
from tunewright.errors import Failure, TunewrightError
from tunewright.events import Event, Failed, Phase, parse_event
from tunewright.plan.plan import CODE, MAIN_STEP, RUNS
from tunewright.status.state import JobState
from tunewright.status.status import JobStatus, LogLine
from tunewright.status.summary import Summary

Style = Literal["auto", "lines", "json"]

_LAST_LINES = 20  # of a container that failed

_Origin = tuple[str, int]
"""Container and index of the worker."""


class Followed(Protocol):
    """What `follow` needs of a job."""

    def status(self) -> JobStatus:
        """Return the job's status now."""

    def updates(self) -> Iterator[LogLine | JobStatus]:
        """Yield log lines and changed statuses until the job has ended."""

    def command_for(self, command: str) -> str:
        """Return what to type to run a command of `tunewright` on the job."""

    def next_commands(self) -> Sequence[str]:
        """Return the commands that use the result."""


def follow(job: Followed, *, style: Style = "auto") -> JobStatus:
    """Show a job's events until it is at rest, and then how it ended.

    Plain lines are shown if the user's own code prints them, and after a failure the last ones of the container that failed.

    Args:
        job: the job.
        style: "auto" draws bars if the output can show them; "json" prints events and nothing else.

    Returns:
        The status at the end, whatever it is.
    """
    summary, hidden = Summary(), _HiddenLines()
    view = view_for(style)
    first = job.status()
    shown = MAIN_STEP if first.labels.get(RUNS) == CODE else None
    with view:
        if not first.state.at_rest:  # its first line may take a while
            view.show(Phase(name=first.state.lower(), text=f"{first.name}: {describe_state(first)}"), summary)
        for line in job.updates():
            if isinstance(line, JobStatus):
                view.state(line)
            elif (event := parse_event(line.text)) is not None:
                hidden.note(line, event)
                summary.add(event)
                view.show(event, summary)
            elif line.container == shown:
                view.line(line)
            else:
                hidden.add(line)
    status = job.status()
    if status.state is JobState.FAILED:
        for line in hidden.of_failure(status.failure):
            view.line(line)
    view.end(status, summary, job.command_for, _next_commands(job, status))
    return status


def _next_commands(job: Followed, status: JobStatus) -> Sequence[str]:
    if status.state is JobState.SUCCEEDED:
        with contextlib.suppress(TunewrightError):  # deleted meanwhile
            return job.next_commands()
    return ()


class _HiddenLines:
    """The last plain lines of each container that were not shown, in case it is the one that fails."""

    def __init__(self) -> None:
        self._lines: dict[_Origin, deque[LogLine]] = {}
        self._failed: _Origin | None = None
        self._announced: dict[_Origin, _Origin] = {}
        self._last: _Origin | None = None

    def add(self, line: LogLine) -> None:
        """Keep a line."""
        self._last = (line.container, line.worker)
        self._lines.setdefault(self._last, deque(maxlen=_LAST_LINES)).append(line)

    def note(self, line: LogLine, event: Event) -> None:
        """Note which container has failed. It need not be the one that says so: `run` ends with an init container's failure."""
        self._last = (line.container, line.worker)
        if isinstance(event, Failed):
            self._failed = _origin(event.failure.seen_in(*self._last))
            if self._failed:  # the first to say so is the container itself, whatever a plugin has named it
                self._announced.setdefault(self._failed, self._last)

    def of_failure(self, failure: Failure | None) -> Collection[LogLine]:
        """Return the lines of the container that failed: by the job's status, by its events, or else the last one that wrote."""
        found = (_origin(failure) if failure else None) or self._failed or self._last
        if found is None:
            return ()
        return self._lines.get(found if found in self._lines else self._announced.get(found, found), ())


def _origin(failure: Failure) -> _Origin | None:
    return None if failure.container is None or failure.worker is None else (failure.container, failure.worker)


def view_for(style: Style) -> View:
    """Return the view for a style."""
    if style == "json":
        return JsonView()
    from rich.console import Console

    console = Console()
    if console.is_jupyter:  # its own bars need a widget that few notebooks have
        from tunewright._views.notebook import NotebookView

        plain = Console(force_jupyter=False)
        return NotebookView(plain) if style == "auto" else LinesView(plain)
    return BarsView(console) if style == "auto" and console.is_terminal else LinesView(console)
