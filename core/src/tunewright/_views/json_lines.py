"""Events as JSON lines, for programs."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright._views.base import View
from tunewright._views.text import WAITING, CommandFor, describe_state
from tunewright.events import End, Event, Log, Phase, format_event
from tunewright.status.status import JobStatus, LogLine
from tunewright.status.summary import Summary


class JsonView(View):
    """Print the events as they are, one line each."""

    def __init__(self) -> None:
        self._state = ""

    def show(self, event: Event, summary: Summary) -> None:  # noqa: ARG002 - it is in the event
        """Print the event."""
        print(format_event(event), flush=True)  # noqa: T201 - this is what --json is for

    def state(self, status: JobStatus) -> None:
        """Print what a job that has not begun waits for as an event, `phase`, if that has changed."""
        text = describe_state(status)
        if status.state in WAITING and text != self._state:
            self.show(Phase(name=status.state.lower(), text=text), Summary())
        self._state = text

    def line(self, line: LogLine) -> None:
        """Print the line as an event, `log`."""
        self.show(Log(container=line.container, worker=line.worker, text=line.text), Summary())

    def end(
        self,
        status: JobStatus,
        summary: Summary,
        command_for: CommandFor,  # noqa: ARG002 - it is for people
        next_commands: Sequence[str] = (),  # noqa: ARG002 - as above
    ) -> None:
        """Print the last event, `end`: the state, the failure, the result, the losses and the samples."""
        end = End(
            name=status.name,
            state=str(status.state),
            detail=status.detail,
            failure=status.failure,
            result=status.result,
            first_loss=summary.first_loss,
            last_loss=summary.last_loss,
            eval_loss=summary.eval_loss,
            samples=summary.samples,
        )
        self.show(end, summary)
