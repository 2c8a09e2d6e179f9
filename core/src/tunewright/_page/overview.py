"""Jobs as rows: what a list shows of each, without reading whole logs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import attrs

from tunewright.backends.base import Backend
from tunewright.errors import TunewrightError
from tunewright.events import Eval, Event, Json, Step
from tunewright.status.status import JobGlance, JobStatus

DETAILED = 50
"""How many of the newest jobs are looked at; on a cluster the log of each costs a request."""


@attrs.frozen(kw_only=True)
class JobRow:
    """What a list shows of a job.

    Attributes:
        status: its status.
        backend: name of its backend.
        model: URI of the model; "" if it is unknown, or the job has none.
        loss: the last training loss; None while it is unknown.
        eval_loss: the last evaluation loss; None while it is unknown.
    """

    status: JobStatus
    backend: str = ""
    model: str = ""
    loss: float | None = None
    eval_loss: float | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds since the job's first container started, until its end; None while it has not started."""
        if self.status.started is None:
            return None
        return ((self.status.finished or datetime.now(UTC)) - self.status.started).total_seconds()

    def to_dict(self) -> dict[str, Json]:
        """Return the row as JSON values."""
        kept = ("name", "state", "detail", "created", "started", "finished")
        status = self.status.to_dict()
        return {
            **{key: status[key] for key in kept},
            "backend": self.backend,
            "at_rest": self.status.state.at_rest,
            "seconds": self.seconds if self.status.finished else None,
            "model": self.model,
            "loss": self.loss,
            "eval_loss": self.eval_loss,
        }


def rows(backend: Backend, statuses: Sequence[JobStatus], name: str = "") -> list[JobRow]:
    """Return a row for each status; those after the first `DETAILED` have no model and no loss.

    Args:
        backend: the backend of the jobs.
        statuses: what it lists, newest first.
        name: its name.
    """
    glances: list[JobGlance] = []
    with contextlib.suppress(TunewrightError):  # what is needed for it may not be read
        glances = backend.glances(statuses[:DETAILED])
    nothing = [JobGlance()] * (len(statuses) - len(glances))
    return [_row(status, glance, name) for status, glance in zip(statuses, [*glances, *nothing], strict=True)]


def _row(status: JobStatus, glance: JobGlance, name: str) -> JobRow:
    loss, eval_loss = next(_losses(glance.events), None), next(_evaluations(glance.events), None)
    return JobRow(status=status, backend=name, model=glance.model, loss=loss, eval_loss=eval_loss)


def _losses(events: Sequence[Event]) -> Iterator[float]:
    return (float(event.loss) for event in events if isinstance(event, Step) and event.loss is not None)


def _evaluations(events: Sequence[Event]) -> Iterator[float]:
    return (float(event.eval_loss) for event in events if isinstance(event, Eval) and event.eval_loss is not None)
