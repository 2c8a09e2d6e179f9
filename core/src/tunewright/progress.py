"""Progress of a job, drawn from its events: bars in a terminal and in a notebook, lines elsewhere, JSON for programs."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Literal

import attrs

from tunewright.backends import JobStatus, LogLine
from tunewright.events import Event, Json, format_event, parse_event
from tunewright.specs import CODE, MAIN_STEP, RUNS
from tunewright.states import JobState
from tunewright.summary import Summary

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from tunewright.job import Job

Style = Literal["auto", "lines", "json"]
Hint = Callable[[str], str]
"""A command → what to type to do that with the job; see `Backend.hint`."""

_WAITING = (JobState.CREATED, JobState.QUEUED, JobState.RESTARTING)
_LAST_LINES = 20  # of a step that failed


def follow(job: Job, *, style: Style = "auto") -> JobStatus:
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
        for line in job.news():
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
    view.end(status, summary, job.hint)
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
    def end(self, status: JobStatus, summary: Summary, hint: Hint) -> None:
        """Show how the job ended, and what to type next."""


class JsonView(View):
    """The events as they are, one line each."""

    def show(self, event: Event, summary: Summary) -> None:  # noqa: ARG002 - it is in the event
        """Print the event."""
        print(format_event(event), flush=True)  # noqa: T201 - this is what --json is for

    def line(self, line: LogLine) -> None:
        """An event, too: `log`."""
        self.show({"event": "log", "step": line.step, "worker": line.worker, "text": line.text}, Summary())

    def end(self, status: JobStatus, summary: Summary, hint: Hint) -> None:  # noqa: ARG002 - it is for people
        """One last event, `end`: the state, the result's folder, the losses and the samples."""
        event: dict[str, Json] = {
            "event": "end",
            "name": status.name,
            "state": str(status.state),
            "detail": status.detail,
            "result": status.result,
            "first_loss": summary.first_loss,
            "last_loss": summary.last_loss,
            "eval_loss": summary.eval_loss,
            "samples": dict(summary.samples),
        }
        print(format_event(event), flush=True)  # noqa: T201 - as above


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

    def end(self, status: JobStatus, summary: Summary, hint: Hint) -> None:
        """Say how the job ended, where the result is, and what to do."""
        for line in ending(status, summary, hint):
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


class BarsView(RowsView):
    """Rows as bars in a terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._progress = _progress(console)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> View:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bars as they are, and give the terminal back."""
        self._progress.stop()

    def _move(self, name: str, done: int, total: int | None, note: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, note=note)
        self._progress.update(self._tasks[name], completed=done, total=total, note=note)


def describe(event: Event, summary: Summary) -> str | None:  # noqa: PLR0911 - a table: a line for each event
    """An event as a line for people; None where there is nothing to say."""
    match event:
        case {"event": "fetched", "item": item, "files": files, "bytes": int(size)}:
            how = "is there already" if event.get("cached") else "fetched"
            return f"{item}: {how}, {files} files, {size_text(size)}"
        case {"event": "uploaded", "item": item, "uri": uri, "files": files, "bytes": int(size)}:
            return f"{item}: uploaded to {uri}, {files} files, {size_text(size)}"
        case {"event": "start"}:
            resumed = f", resumed from step {summary.resumed_from}" if summary.resumed_from else ""
            return f"training: {_known(summary.total_steps)} steps on {event.get('world_size', 1)} processes{resumed}"
        case {"event": "step"}:
            return f"step {summary.step}/{_known(summary.total_steps)}: {_step_note(summary)}"
        case {"event": "eval", "eval_loss": float(loss)}:
            right = event.get("eval_accuracy")
            more = f", accuracy {right:.4f}" if isinstance(right, float) else ""
            return f"evaluation at step {event.get('step', summary.step)}: loss {loss:.4f}{more}"
        case {"event": "checkpoint", "step": step}:
            return f"checkpoint at step {step}"
        case {"event": "attempt", "attempt": int(attempt), "limit": limit} if attempt > 1:
            return f"workers start again: attempt {attempt} of {limit}"
    return None


def describe_state(status: JobStatus) -> str:
    """Where a job is, as a line for people."""
    text = f"{status.state}: {status.detail}" if status.detail else str(status.state)
    return f"{text} (pods: {pods_text(status)})" if status.pods else text


def pods_text(status: JobStatus) -> str:
    """What a job's pods are at: "2 train, 1 fetch-model"."""
    return ", ".join(f"{number} {at}" for at, number in status.pods.items())


def ending(status: JobStatus, summary: Summary, hint: Hint) -> list[str]:
    """How the job ended, as lines for people."""
    if status.state is JobState.SUCCEEDED:
        return _success(status, summary)
    if status.state is JobState.SUSPENDED:
        go_on = f"Go on from its newest checkpoint: {hint('resume')}"
        detail = status.detail if "tunewright resume" in status.detail else f"{status.detail} {go_on}".strip()
        return [f"{status.name} is suspended. {detail}"]
    return [f"{status.name} {status.state.lower()}: {status.detail}", f"Its log: {hint('logs')}"]


def _success(status: JobStatus, summary: Summary) -> list[str]:
    lines = [f"{status.name} succeeded."]
    if status.result:
        lines.append(f"model: {status.result}")
    if summary.fall is not None:
        lines.append(f"loss: {summary.first_loss:.4f} at first, {summary.last_loss:.4f} at last ({-summary.fall:+.0%})")
    if summary.eval_loss is not None:
        lines.append(f"evaluation loss: {summary.eval_loss:.4f}")
    for prompt, text in summary.samples.items():
        lines += [f"asked: {prompt}", f"answered: {text}"]
    return lines


def _known(number: int | None) -> str:
    return "?" if number is None else str(number)


def _step_note(summary: Summary) -> str:
    parts = []
    if summary.last_loss is not None:
        parts.append(f"loss {summary.last_loss:.4f}")
    if summary.tokens_per_second is not None:
        parts.append(f"{summary.tokens_per_second:,.0f} tokens/s")
    return ", ".join(parts)


def size_text(count: float) -> str:
    """A number of bytes, for people."""
    from rich.filesize import decimal

    return decimal(int(count))


def view_for(style: Style) -> View:
    """The view for a style."""
    if style == "json":
        return JsonView()
    from rich.console import Console

    console = Console()
    if console.is_jupyter:  # whose own bars need a widget that few notebooks have
        from tunewright.notebook import NotebookView

        plain = Console(force_jupyter=False)
        return NotebookView(plain) if style == "auto" else LinesView(plain)
    return BarsView(console) if style == "auto" and console.is_terminal else LinesView(console)


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[note]}"))
    return Progress(*columns, TimeRemainingColumn(), console=console)


def as_json(value: Json) -> str:
    """One line of JSON, for what is not an event."""
    return json.dumps(value, ensure_ascii=False)
