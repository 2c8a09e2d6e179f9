"""Progress of a job, drawn from its events: bars in a terminal and in a notebook, lines elsewhere, JSON for programs."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from typing import Literal, Protocol

from tunewright._views.bars import BarsView
from tunewright._views.base import LinesView, View
from tunewright._views.json_lines import JsonView
from tunewright.events import Event, parse_event
from tunewright.plan.plan import CODE, MAIN_STEP, RUNS
from tunewright.status.state import JobState
from tunewright.status.status import JobStatus, LogLine
from tunewright.status.summary import Summary

Style = Literal["auto", "lines", "json"]

_LAST_LINES = 20  # of a step that failed


class Followed(Protocol):
    """What `follow` needs of a job."""

    def status(self) -> JobStatus:
        """Return what is known of the job now."""

    def updates(self) -> Iterator[LogLine | JobStatus]:
        """Yield log lines and changed statuses until the job has ended."""

    def command_for(self, command: str) -> str:
        """Return what to type to run a command of `tunewright` on the job."""


def follow(job: Followed, *, style: Style = "auto") -> JobStatus:
    """Show the job's events until it is at rest, and then how it ended.

    Of the plain lines, those are shown that the user's own code prints, and the last ones of a step that failed.

    Args:
        job: the job.
        style: "auto" draws bars where the output can show them; "json" prints the events and nothing else.

    Returns:
        The status at the end, whatever it is.
    """
    summary, hidden = Summary(), _Hidden()
    view = view_for(style)
    shown = MAIN_STEP if job.status().labels.get(RUNS) == CODE else None
    with view:
        for line in job.updates():
            if isinstance(line, JobStatus):
                view.state(line)
            elif (event := parse_event(line.text)) is not None:
                hidden.note(line, event)
                summary.add(event)
                view.show(event, summary)
            elif line.step == shown:
                view.line(line)
            else:
                hidden.add(line)
    status = job.status()
    if status.state is JobState.FAILED:
        for line in hidden.of_failed_step():
            view.line(line)
    view.end(status, summary, job.command_for)
    return status


class _Hidden:
    """The last plain lines of each container that were not shown, should it be the one that fails."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, int], deque[LogLine]] = {}
        self._failed: tuple[str, int] | None = None
        self._last: tuple[str, int] | None = None

    def add(self, line: LogLine) -> None:
        """Keep a line, for a while."""
        self._last = (line.step, line.worker)
        self._lines.setdefault(self._last, deque(maxlen=_LAST_LINES)).append(line)

    def note(self, line: LogLine, event: Event) -> None:
        """See who fails."""
        self._last = (line.step, line.worker)
        if event["event"] == "failed":
            self._failed = self._last

    def of_failed_step(self) -> Collection[LogLine]:
        """Those of the container that said so, or else of the last one that said anything."""
        failed = self._failed or self._last
        return self._lines.get(failed, ()) if failed else ()


def view_for(style: Style) -> View:
    """The view for a style."""
    if style == "json":
        return JsonView()
    from rich.console import Console

    console = Console()
    if console.is_jupyter:  # whose own bars need a widget that few notebooks have
        from tunewright._views.notebook import NotebookView

        plain = Console(force_jupyter=False)
        return NotebookView(plain) if style == "auto" else LinesView(plain)
    return BarsView(console) if style == "auto" and console.is_terminal else LinesView(console)
