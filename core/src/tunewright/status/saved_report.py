"""A report that lies in the folder of a result, read again: the job that left it, and its log, may be gone."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import attrs

from tunewright.errors import RequestError
from tunewright.events import Uploaded
from tunewright.status.report import REPORT_FILE, Download, JobReport
from tunewright.status.sources import SourceReport
from tunewright.status.state import JobState
from tunewright.status.status import JobCondition, JobRecord, JobStatus

_R = TypeVar("_R", bound=JobReport)

_AS_THEY_ARE = ("request", "versions", "attempts", "data", "steps", "evaluations", "checkpoints", "samples", "samples_before",
                "environment", "total_steps", "job_file")  # fmt: skip


def read_report(cls: type[_R], folder: Path) -> _R:
    """Return the report in the folder of a result.

    Args:
        cls: `JobReport`, or a class derived from it.
        folder: of the result.

    Raises:
        RequestError: it has none, or one that is damaged.
    """
    file = folder / REPORT_FILE
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        problem = f"has no {REPORT_FILE} that can be read: {cause}"
        remedy = "Give the folder of a result, or the name of a job that still exists."
        raise RequestError(problem, field="NAME", value=str(folder), remedy=remedy) from error
    try:
        return _report(cls, found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"is not a report of this release of Tunewright: {type(error).__name__}: {error}"
        raise RequestError(
            problem, field="NAME", value=str(file), remedy="Read it with the release that wrote it."
        ) from error


def _report(cls: type[_R], found: dict[str, Any]) -> _R:
    return cls(
        status=_status(found),
        record=JobRecord(
            conditions=[_condition(state) for state in found["states"]],
            **{name: found[name] for name in ("workers", "processes", "command", "images")},
        ),
        downloads=[Download(**_known(Download, download)) for download in found["downloads"]],
        sources={name: SourceReport(**source) for name, source in found["sources"].items()},
        uploads=[Uploaded(**upload) for upload in found["uploads"]],
        **{name: found[name] for name in _AS_THEY_ARE},
    )


def _status(found: dict[str, Any]) -> JobStatus:
    given: dict[str, Any] = {name: _when(found[name]) for name in ("created", "started", "finished")}
    given |= {name: found[name] for name in ("name", "namespace", "detail", "result", "labels")}
    return JobStatus(state=JobState(found["state"]), **given)


def _condition(state: dict[str, Any]) -> JobCondition:
    return JobCondition(state=JobState(state["state"]), since=_when(state["since"]), detail=state["detail"])


def _known(cls: type[attrs.AttrsInstance], found: dict[str, Any]) -> dict[str, Any]:
    return {field.name: found[field.name] for field in attrs.fields(cls)}


def _when(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
