"""The contract of a view, and what line and row views share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import attrs

from tunewright._views.text import (
    _WAITING,
    CommandFor,
    _step_note,
    describe,
    describe_state,
    ending,
    pods_text,
    size_text,
)
from tunewright.events import Event
from tunewright.plan.plan import MAIN_STEP
from tunewright.status.status import JobStatus, LogLine
from tunewright.status.summary import Summary

if TYPE_CHECKING:
    from rich.console import Console


class View(ABC):
    """One way to show events."""

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:  # noqa: B027 - only bars have something to give back
        """Give the terminal back."""

    @abstractmethod
    def show(self, event: Event, summary: Summary) -> None:
        """Show one event; `summary` has it already."""

    @abstractmethod
    def line(self, line: LogLine) -> None:
        """Show a plain line."""

    def state(self, status: JobStatus) -> None:  # noqa: B027 - programs get the events, which are enough
        """Show where the job is, and what its pods are at."""

    @abstractmethod
    def end(self, status: JobStatus, summary: Summary, command_for: CommandFor) -> None:
        """Show how the job ended, and what to type next."""


class LinesView(View):
    """A line for each event that people want to know of; the last part of how bars end, too."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = -1
        self._state = ""

    def show(self, event: Event, summary: Summary) -> None:
        """Print a line, if the event is worth one."""
        text = describe(event, summary)
        if event["event"] == "step" and not self._worth_a_line(summary):
            return
        if text:
            self._print(text)

    def _worth_a_line(self, summary: Summary) -> bool:
        # About twenty lines for a whole run, whatever its length.
        part = summary.step * 20 // summary.total_steps if summary.total_steps else summary.step
        fresh, self._shown = part != self._shown, part
        return fresh

    def line(self, line: LogLine) -> None:
        """Print it as it is."""
        self._print(line.text)

    def state(self, status: JobStatus) -> None:
        """Print the state with what the pods are at, unless that was printed last; the end has lines of its own."""
        if not status.state.at_rest and (text := describe_state(status)) != self._state:
            self._state = text
            self._print(text)

    def end(self, status: JobStatus, summary: Summary, command_for: CommandFor) -> None:
        """Say how the job ended, where the result is, and what to do."""
        for line in ending(status, summary, command_for):
            self._print(line)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class RowsView(LinesView):
    """A row for each fetched item and one for the steps, which move; lines for everything else."""

    def show(self, event: Event, summary: Summary) -> None:
        """Move a bar, or print a line above the bars."""
        match event:
            case {"event": "progress", "item": str(item), "done": int(done)}:
                total = event.get("total")
                self._move(f"fetch {item}", done, total if isinstance(total, int) else None, size_text(done))
            case {"event": "fetched", "item": str(item), "bytes": int(size)}:
                note = "there already" if event.get("cached") else size_text(size)
                self._move(f"fetch {item}", size or 1, size or 1, note)
            case {"event": "step"}:
                self._move("train", summary.step, summary.total_steps, _step_note(summary))
            case {"event": "saved"} if summary.total_steps:  # the last step need not have been logged
                self._move("train", summary.total_steps, summary.total_steps, _step_note(summary))
            case _:
                super().show(event, summary)

    def state(self, status: JobStatus) -> None:
        """Move the row of the pods; print the state only where it says why nothing moves."""
        if status.pods:
            at_work = status.pods.get(MAIN_STEP, 0) + status.pods.get("Succeeded", 0)
            self._move("pods", at_work, sum(status.pods.values()), pods_text(status))
        if status.detail and status.state in _WAITING:
            super().state(attrs.evolve(status, pods={}))

    @abstractmethod
    def _move(self, name: str, done: int, total: int | None, note: str) -> None:
        """Move a row, or begin one."""
