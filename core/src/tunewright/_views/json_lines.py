"""Events as JSON lines, for programs."""

from __future__ import annotations

from tunewright._views.base import View
from tunewright._views.text import CommandFor
from tunewright.events import Event, Json, format_event
from tunewright.status.status import JobStatus, LogLine
from tunewright.status.summary import Summary


class JsonView(View):
    """The events as they are, one line each."""

    def show(self, event: Event, summary: Summary) -> None:  # noqa: ARG002 - it is in the event
        """Print the event."""
        print(format_event(event), flush=True)  # noqa: T201 - this is what --json is for

    def line(self, line: LogLine) -> None:
        """An event, too: `log`."""
        self.show({"event": "log", "step": line.step, "worker": line.worker, "text": line.text}, Summary())

    def end(self, status: JobStatus, summary: Summary, command_for: CommandFor) -> None:  # noqa: ARG002 - it is for people
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
