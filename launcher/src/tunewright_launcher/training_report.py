"""The report of a training, which rank 0 leaves with the result: what is known of a finished job depends on no pod's log.

The events of all attempts are in `<output>/events.jsonl`, and the report that is made of them in the result's own folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from tunewright import environment
from tunewright.events import Attempt, Event, format_event, parse_event
from tunewright.plan.plan import MAIN_STEP
from tunewright.providers.base import TrainRun
from tunewright.status.report import REPORT_FILE, JobReport, make_report
from tunewright.status.state import JobState
from tunewright.status.status import JobRecord, JobStatus, LogLine, documents_in
from tunewright_launcher.step import Step
from tunewright_launcher.train_run import number

_EVENTS = "events.jsonl"


class EventFile:
    """The events of a training, a line each; the first line is when it began.

    Args:
        run: of rank 0. A training that does not resume begins a new file.
    """

    def __init__(self, run: TrainRun) -> None:
        self._file = run.output / _EVENTS
        self._attempts = 1
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            if run.resume_from is None or not self._file.is_file():
                self._file.write_text(f"{datetime.now(UTC).isoformat()}\n", "utf-8")
            else:
                self._attempts += sum(isinstance(parse_event(line), Attempt) for line in self.lines())
        self.add(Attempt(attempt=self._attempts))

    def add(self, event: Event) -> None:
        """Add an event. A disk that is full, or gone, is told by what needs it more."""
        with contextlib.suppress(OSError), self._file.open("a", encoding="utf-8") as out:
            out.write(format_event(event) + "\n")

    def lines(self) -> list[str]:
        """Return what the file has; nothing if it cannot be read."""
        with contextlib.suppress(OSError):
            return self._file.read_text("utf-8", errors="replace").splitlines()
        return []


def write_report(step: Step, result: Path, events: EventFile) -> None:
    """Write the report of a training that has ended well into its result; one that cannot be written is left out."""
    text = training_report(step.paths.config, step.env, events.lines()).to_json()
    with contextlib.suppress(OSError):
        (result / REPORT_FILE).write_text(text + "\n", "utf-8")


def training_report(config: Path, env: Mapping[str, str], lines: list[str]) -> JobReport:
    """Return the report of a job that has just trained.

    Args:
        config: the folder of its configuration.
        env: that of rank 0.
        lines: of its event file.
    """
    documents = documents_in({file.name: file.read_text("utf-8") for file in config.glob("*.json")})
    job_file = documents.get("job.json")
    name = job_file.get("name") if isinstance(job_file, dict) else None
    processes = number(env, "LOCAL_WORLD_SIZE", 1)
    status = JobStatus(
        name=str(name or ""),
        state=JobState.SUCCEEDED,
        started=_when(lines[0]) if lines else None,
        finished=datetime.now(UTC),
        result=env.get(environment.OUTPUT),
    )
    record = JobRecord(
        workers=max(1, number(env, "WORLD_SIZE", 1) // processes), processes=processes, documents=documents
    )
    texts = (LogLine(container=MAIN_STEP, worker=0, text=line) for line in lines)
    return make_report(JobReport, status, record, texts)


def _when(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
