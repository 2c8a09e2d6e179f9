"""The contract of a view, and the base classes of views that print lines and rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from tunewright._views.narrator import Narrator
from tunewright._views.text import (
    WAITING,
    CommandFor,
    describe_state,
    ending,
    pods_text,
    size_text,
    step_note,
)
from tunewright.events import Attempt, Eval, Event, Failed, Fetched, Phase, Progress, Retry, Saved, Start, Step
from tunewright.plan.plan import MAIN_STEP
from tunewright.status.status import JobStatus, LogLine
from tunewright.status.summary import Summary, phase_text, retry_text

if TYPE_CHECKING:
    from rich.console import Console


class View(ABC):
    """One way to show a job's events."""

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:  # noqa: B027 - only bars have something to restore
        """Restore the terminal."""

    @abstractmethod
    def show(self, event: Event, summary: Summary) -> None:
        """Show an event; `summary` already includes it."""

    @abstractmethod
    def line(self, line: LogLine) -> None:
        """Show a plain line."""

    def state(self, status: JobStatus) -> None:  # noqa: B027 - programs need only the events
        """Show the job's state, and what its pods are doing."""

    @abstractmethod
    def end(
        self, status: JobStatus, summary: Summary, command_for: CommandFor, next_commands: Sequence[str] = ()
    ) -> None:
        """Show how the job ended, and what to type next: `next_commands` use its result."""


class LinesView(View):
    """Print a line for each event that is worth one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._narrator = Narrator()
        self._state = ""

    def show(self, event: Event, summary: Summary) -> None:
        """Print a line if the event is worth one."""
        if text := self._narrator.tell(event, summary):
            self._print(text)

    def line(self, line: LogLine) -> None:
        """Print the line as it is."""
        self._print(line.text)

    def state(self, status: JobStatus) -> None:
        """Print the state and what the pods are doing, if that has changed; the end has lines of its own."""
        if not status.state.at_rest and (text := describe_state(status)) != self._state:
            self._state = text
            self._print(text)

    def end(
        self, status: JobStatus, summary: Summary, command_for: CommandFor, next_commands: Sequence[str] = ()
    ) -> None:
        """Print how the job ended, where the result is, and what to do."""
        for line in ending(status, summary, command_for, next_commands):
            self._print(line)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


_NOW = "now"
"""The row of the phase that goes on."""


class RowsView(LinesView):
    """Draw a row for what is done now, for each input and for the steps, which move; print lines for everything else."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._phase = ""

    def show(self, event: Event, summary: Summary) -> None:
        """Move a bar, or print a line above the bars."""
        if _ends_a_phase(event):
            self._end_phase()
        match event:
            case Phase():
                self._begin_phase(event.text)
                self._move(_NOW, event.done or 0, event.total, phase_text(event))
            case Retry():
                self._begin_phase(event.about)
                self._move(_NOW, 0, None, retry_text(event))
                super().show(event, summary)
            case Attempt():
                self._begin_phase(event.event)
                self._move(_NOW, 0, None, "the worker processes run")
                super().show(event, summary)
            case Progress():
                self._move(f"fetch {event.slot}", event.done, event.total, size_text(event.done))
            case Fetched():
                note = "there already" if event.cached else size_text(event.bytes)
                self._move(f"fetch {event.slot}", event.bytes or 1, event.bytes or 1, note)
            case Step():
                self._move("train", summary.step, summary.total_steps, step_note(summary))
            case Saved() if summary.total_steps:  # the last step need not have been logged
                self._move("train", summary.total_steps, summary.total_steps, step_note(summary))
            case _:
                super().show(event, summary)

    def line(self, line: LogLine) -> None:
        """Print the line as it is; it says itself what the user's code does."""
        self._end_phase()
        super().line(line)

    def state(self, status: JobStatus) -> None:
        """Move the row of the pods; print the state only if it says why nothing moves."""
        if status.pods:
            at_work = status.pods.get(MAIN_STEP, 0) + status.pods.get("Succeeded", 0)
            self._move("pods", at_work, sum(status.pods.values()), pods_text(status))
        if status.detail and status.state in WAITING:
            super().state(attrs.evolve(status, pods={}))

    def __exit__(self, *_: object) -> None:
        """Remove the row of the phase: nothing goes on."""
        self._end_phase()

    def _begin_phase(self, name: str) -> None:
        """Let the time of the row begin again with another phase."""
        if name != self._phase:
            self._end_phase()
            self._phase = name

    def _end_phase(self) -> None:
        if self._phase:
            self._phase = ""
            self._remove(_NOW)

    @abstractmethod
    def _move(self, name: str, done: int, total: int | None, note: str) -> None:
        """Move a row, or add it."""

    @abstractmethod
    def _remove(self, name: str) -> None:
        """Remove a row."""


def _ends_a_phase(event: Event) -> bool:
    if isinstance(event, Progress):
        return event.done > 0
    return isinstance(event, Fetched | Start | Step | Eval | Saved | Failed)
