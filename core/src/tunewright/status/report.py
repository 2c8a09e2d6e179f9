"""The report of a job: what was asked for, what happened, and what came of it, from its events and what its backend keeps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeVar

import attrs

from tunewright._convert import to_dict, to_tuple
from tunewright.events import Event, Json, parse_event
from tunewright.status.status import JobCondition, JobRecord, JobStatus, LogLine

_DOCUMENT = ".json"


@attrs.frozen(kw_only=True)
class Download:
    """What one worker fetched into one slot.

    Attributes:
        item: the slot.
        worker: index of the worker.
        files: how many.
        bytes: all of them together.
        seconds: how long it took; None if nothing was downloaded, because it was there.
        revision: what the source calls this state of it.
    """

    item: str
    worker: int
    files: int
    bytes: int
    seconds: float | None = None
    revision: str | None = None

    @property
    def rate(self) -> float | None:
        """Bytes a second; None if nothing was downloaded."""
        return self.bytes / self.seconds if self.seconds else None


@attrs.frozen(kw_only=True)
class JobReport:
    """A job, looked at afterwards or on its way; there is no secret in it.

    Attributes:
        status: where the job is, why, since when, and where its result lies.
        record: workers, images, command, and the states with their times.
        request: what was asked for: slot, "trainer" or "parameters" → provider and params.
        versions: distribution → version of the plugins that the job was submitted with.
        attempts: how often worker 0 was started, as far as its logs are kept.
        downloads: one for each slot and worker.
        steps: the numbers of each logged step ("step", "loss", "learning_rate", "tokens_per_second", …), in order; a step
            that was done again after a restart is there as it was done last.
        evaluations: likewise ("step", "eval_loss", …).
        checkpoints: the steps that were saved.
        uploads: what was uploaded: "item", "uri", "files", "bytes".
        samples: prompt → generated text.
    """

    status: JobStatus
    record: JobRecord
    request: Mapping[str, Json] = attrs.field(factory=dict, converter=to_dict)
    versions: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)
    attempts: int = 0
    downloads: tuple[Download, ...] = attrs.field(default=(), converter=to_tuple)
    steps: tuple[Mapping[str, float], ...] = attrs.field(default=(), converter=to_tuple)
    evaluations: tuple[Mapping[str, float], ...] = attrs.field(default=(), converter=to_tuple)
    checkpoints: tuple[int, ...] = attrs.field(default=(), converter=to_tuple)
    uploads: tuple[Mapping[str, Json], ...] = attrs.field(default=(), converter=to_tuple)
    samples: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)

    @property
    def seconds(self) -> float | None:
        """From the first step's start to the end; None while one of them is not known."""
        started, finished = self.status.started, self.status.finished
        return (finished - started).total_seconds() if started and finished else None

    def to_dict(self) -> dict[str, Json]:
        """The report as JSON values."""
        status, record = self.status, self.record
        return {
            "name": status.name,
            "state": str(status.state),
            "detail": status.detail,
            "created": _when(status.created),
            "started": _when(status.started),
            "finished": _when(status.finished),
            "seconds": self.seconds,
            "result": status.result,
            "labels": dict(status.labels),
            "workers": record.workers,
            "processes": record.processes,
            "command": list(record.command),
            "images": dict(record.images),
            "versions": dict(self.versions),
            "request": dict(self.request),
            "states": [_condition(condition) for condition in record.conditions],
            "attempts": self.attempts,
            "downloads": [{**attrs.asdict(d), "bytes_per_second": d.rate} for d in self.downloads],
            "steps": [dict(step) for step in self.steps],
            "evaluations": [dict(evaluation) for evaluation in self.evaluations],
            "checkpoints": list(self.checkpoints),
            "uploads": [dict(upload) for upload in self.uploads],
            "samples": dict(self.samples),
        }

    def to_json(self) -> str:
        """The report as one JSON document."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=1)


_R = TypeVar("_R", bound=JobReport)


def make_report(cls: type[_R], status: JobStatus, record: JobRecord, lines: Iterable[LogLine]) -> _R:
    """Fold a job's log into its report.

    Args:
        cls: `JobReport`, or a class derived from it.
        status: where the job is.
        record: what its backend keeps.
        lines: its log.
    """
    documents = {name.removesuffix(_DOCUMENT): document for name, document in record.documents.items()}
    seen = _Seen()
    for line in lines:
        if (event := parse_event(line.text)) is not None:
            seen.add(line.worker, event)
    return cls(
        status=status,
        record=record,
        request={name: _asked(document) for name, document in documents.items()},
        versions=dict(pair for document in documents.values() for pair in _versions(document)),
        attempts=max(seen.starts, seen.attempt),
        downloads=seen.downloads.values(),
        steps=[seen.steps[step] for step in sorted(seen.steps)],
        evaluations=[seen.evaluations[step] for step in sorted(seen.evaluations)],
        checkpoints=sorted(seen.checkpoints),
        uploads=seen.uploads,
        samples=seen.samples,
    )


@attrs.define
class _Seen:
    """What a job's events tell."""

    starts: int = 0
    attempt: int = 0
    downloads: dict[tuple[str, int], Download] = attrs.field(factory=dict)
    steps: dict[int, dict[str, float]] = attrs.field(factory=dict)
    evaluations: dict[int, dict[str, float]] = attrs.field(factory=dict)
    checkpoints: set[int] = attrs.field(factory=set)
    uploads: list[dict[str, Json]] = attrs.field(factory=list)
    samples: dict[str, str] = attrs.field(factory=dict)

    def add(self, worker: int, event: Event) -> None:
        match event:
            case {"event": "attempt", "attempt": int(attempt)} if worker == 0:
                self.starts += 1
                self.attempt = max(self.attempt, attempt)
            case {"event": "fetched", "item": str(item), "files": int(files), "bytes": int(size)}:
                self._fetched(worker, item, files, size, event)
            case {"event": "step", "step": int(step)}:
                self.steps[step] = _numbers(event)
            case {"event": "eval", "step": int(step)}:
                self.evaluations[step] = _numbers(event)
            case {"event": "checkpoint", "step": int(step)}:
                self.checkpoints.add(step)
            case {"event": "uploaded"}:
                self.uploads.append({k: v for k, v in event.items() if k != "event"})
            case {"event": "sample", "prompt": str(prompt), "text": str(text)}:
                self.samples[prompt] = text

    def _fetched(self, worker: int, item: str, files: int, size: int, event: Event) -> None:
        seconds, revision = event.get("seconds"), event.get("revision")
        if event.get("cached") and (item, worker) in self.downloads:
            return  # a restart, which needed no download
        self.downloads[item, worker] = Download(
            item=item,
            worker=worker,
            files=files,
            bytes=size,
            seconds=float(seconds) if isinstance(seconds, int | float) else None,
            revision=revision if isinstance(revision, str) else None,
        )


def _numbers(event: Event) -> dict[str, float]:
    return {k: v for k, v in event.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _asked(document: Json) -> Json:
    """Of a wire document what the user chose; any other document as it is."""
    if not isinstance(document, dict) or "provider" not in document:
        return document
    return {"provider": document["provider"], "params": document.get("params")}


def _versions(document: Json) -> Iterable[tuple[str, str]]:
    if isinstance(document, dict) and "distribution" in document:
        yield str(document["distribution"]), str(document.get("version"))


def _condition(condition: JobCondition) -> dict[str, Json]:
    return {"state": str(condition.state), "since": _when(condition.since), "detail": condition.detail}


def _when(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
