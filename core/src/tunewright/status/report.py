"""The report of a job, from its events and its backend's record: what was requested, what happened, and the result."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeVar

import attrs

from tunewright._convert import to_dict, to_tuple
from tunewright.events import (
    Attempt,
    Checkpoint,
    Data,
    Environment,
    Eval,
    Event,
    Fetched,
    Json,
    Sample,
    Start,
    Step,
    Uploaded,
    parse_event,
)
from tunewright.status.sources import SourceReport, Sources, numbers_of, source_reports
from tunewright.status.status import JobCondition, JobRecord, JobStatus, LogLine, documents_in

REPORT_FILE = "tunewright_report.json"
"""The report in the folder of a result, which rank 0 writes there when it has trained: what `JobReport.to_dict` returns."""

_DOCUMENT = ".json"
_JOB_FILE = "job"


@attrs.frozen(kw_only=True)
class Download:
    """One input of one worker.

    Attributes:
        slot: the input: "model", "adapter", "dataset" or "eval_dataset"; "dataset_1", "dataset_2", … of a list.
        worker: index of the worker.
        files: number of files.
        bytes: bytes of all files.
        seconds: how long the download took; None if the input was there already.
        revision: what the URI was resolved to, if the source has revisions.
    """

    slot: str
    worker: int
    files: int
    bytes: int
    seconds: float | None = None
    revision: str | None = None

    @property
    def rate(self) -> float | None:
        """Bytes per second; None if nothing was downloaded."""
        return self.bytes / self.seconds if self.seconds else None


@attrs.frozen(kw_only=True)
class JobReport:
    """A job's report, while it runs or afterwards, without secrets.

    Attributes:
        status: its state, why and since when, and where its result is.
        record: workers, images, command, and the states with their times.
        request: what was requested: slot, "trainer" or "parameters" → provider and params.
        versions: distribution → version of the plugins that the job was submitted with.
        attempts: how often worker 0 was started, as far as its logs are kept.
        downloads: one for each slot and worker.
        data: what became of the rows of each split: "train" or "evaluation" → its numbers ("rows", "samples", "dropped", …),
            and the reasons for which rows were dropped ("reasons").
        steps: the numbers of each logged step ("step", "loss", "learning_rate", "tokens_per_second", …), in order; of a
            step that was repeated after a restart, the last ones.
        evaluations: likewise ("step", "eval_loss", …).
        sources: the datasets of a mixture, by name.
        checkpoints: the steps at which checkpoints were saved.
        uploads: what was uploaded.
        samples: prompt → what the trained model generated.
        samples_before: prompt → what the model generated before its training.
        environment: what the training ran on: "device", "devices", and "libraries" with their versions; empty while unknown.
        total_steps: optimizer steps in the whole run; None while unknown.
        job_file: the job file that repeats the job, without secrets; None for jobs of an earlier release and raw manifests.
    """

    status: JobStatus
    record: JobRecord
    request: Mapping[str, Json] = attrs.field(factory=dict, converter=to_dict)
    versions: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)
    attempts: int = 0
    downloads: tuple[Download, ...] = attrs.field(default=(), converter=to_tuple)
    data: Mapping[str, Mapping[str, Json]] = attrs.field(factory=dict, converter=to_dict)
    steps: tuple[Mapping[str, float], ...] = attrs.field(default=(), converter=to_tuple)
    evaluations: tuple[Mapping[str, float], ...] = attrs.field(default=(), converter=to_tuple)
    sources: Mapping[str, SourceReport] = attrs.field(factory=dict, converter=to_dict)
    checkpoints: tuple[int, ...] = attrs.field(default=(), converter=to_tuple)
    uploads: tuple[Uploaded, ...] = attrs.field(default=(), converter=to_tuple)
    samples: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)
    samples_before: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)
    environment: Mapping[str, Json] = attrs.field(factory=dict, converter=to_dict)
    total_steps: int | None = None
    job_file: Mapping[str, Json] | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds from the start of the first container to the end of the job; None while one of them is unknown."""
        started, finished = self.status.started, self.status.finished
        return (finished - started).total_seconds() if started and finished else None

    def to_dict(self) -> dict[str, Json]:
        """Return the report as JSON values."""
        record = self.record
        shown = {key: value for key, value in self.status.to_dict().items() if key != "pods"}
        return {
            **shown,
            "seconds": self.seconds,
            "workers": record.workers,
            "processes": record.processes,
            "command": list(record.command),
            "images": dict(record.images),
            "versions": dict(self.versions),
            "request": dict(self.request),
            "states": [_condition(condition) for condition in record.conditions],
            "attempts": self.attempts,
            "downloads": [{**attrs.asdict(d), "bytes_per_second": d.rate} for d in self.downloads],
            "data": {split: dict(counts) for split, counts in self.data.items()},
            "steps": [dict(step) for step in self.steps],
            "evaluations": [dict(evaluation) for evaluation in self.evaluations],
            "sources": {name: attrs.asdict(source) for name, source in self.sources.items()},
            "checkpoints": list(self.checkpoints),
            "uploads": [_without_name(upload) for upload in self.uploads],
            "samples": dict(self.samples),
            "samples_before": dict(self.samples_before),
            "environment": dict(self.environment),
            "total_steps": self.total_steps,
            "job_file": dict(self.job_file) if self.job_file is not None else None,
        }

    def to_json(self) -> str:
        """Return the report as one JSON document."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=1)


_R = TypeVar("_R", bound=JobReport)


def make_report(cls: type[_R], status: JobStatus, record: JobRecord, lines: Iterable[LogLine]) -> _R:
    """Fold a job's log into its report.

    Args:
        cls: `JobReport`, or a class derived from it.
        status: the job's status.
        record: what its backend keeps of it.
        lines: its log.
    """
    fold = ReportFold()
    for line in lines:
        fold.add(line)
    return fold.report(cls, status, record)


@attrs.define
class _Seen:
    """What a job's events add up to."""

    starts: int = 0
    attempt: int = 0
    downloads: dict[tuple[str, int], Download] = attrs.field(factory=dict)
    data: dict[str, dict[str, Json]] = attrs.field(factory=dict)
    steps: dict[int, dict[str, float]] = attrs.field(factory=dict)
    evaluations: dict[int, dict[str, float]] = attrs.field(factory=dict)
    step_sources: dict[int, Sources] = attrs.field(factory=dict)
    eval_sources: dict[int, Sources] = attrs.field(factory=dict)
    checkpoints: set[int] = attrs.field(factory=set)
    uploads: list[Uploaded] = attrs.field(factory=list)
    samples: dict[str, str] = attrs.field(factory=dict)
    samples_before: dict[str, str] = attrs.field(factory=dict)
    environment: dict[str, Json] = attrs.field(factory=dict)
    total_steps: int | None = None

    def add(self, worker: int, event: Event) -> None:
        match event:
            case Attempt() if worker == 0:
                self.starts += 1
                self.attempt = max(self.attempt, event.attempt)
            case Fetched():
                self._fetched(worker, event)
            case Data():
                self.data[event.split] = {key: v for key, v in _without_name(event).items() if key != "split"}
            case Step():
                self.steps[event.step] = event.numbers
                self.total_steps = event.total_steps or self.total_steps
                self.step_sources[event.step] = numbers_of(event.sources)
            case Eval(step=int(step)):
                self.evaluations[step] = event.numbers
                self.eval_sources[step] = numbers_of(event.sources)
            case Checkpoint():
                self.checkpoints.add(event.step)
            case Uploaded():
                self.uploads.append(event)
            case _:
                self._add_more(event)

    def _add_more(self, event: Event) -> None:
        match event:
            case Sample():
                (self.samples_before if event.before_training else self.samples)[event.prompt] = event.text
            case Environment():
                self.environment = _without_name(event)
            case Start():
                self.total_steps = event.total_steps

    def _fetched(self, worker: int, event: Fetched) -> None:
        if event.cached and (event.slot, worker) in self.downloads:
            return  # a restart, which needed no download
        self.downloads[event.slot, worker] = Download(
            slot=event.slot,
            worker=worker,
            files=event.files,
            bytes=event.bytes,
            seconds=event.seconds,
            revision=event.revision,
        )


@attrs.define
class ReportFold:
    """A report in the making: it grows with each line of the log, and can be read at any time."""

    _seen: _Seen = attrs.field(factory=_Seen, init=False)

    def add(self, line: LogLine) -> Event | None:
        """Add a line of the log, and return the event in it; None for a plain line."""
        event = parse_event(line.text)
        if event is not None:
            self._seen.add(line.worker, event)
        return event

    def report(self, cls: type[_R], status: JobStatus, record: JobRecord) -> _R:
        """Return the report so far; the arguments are those of `make_report`."""
        documents = {name.removesuffix(_DOCUMENT): document for name, document in record.documents.items()}
        job_file, seen = documents.pop(_JOB_FILE, None), self._seen
        return cls(
            status=status,
            record=record,
            request=requested(record),
            versions=dict(pair for document in documents.values() for pair in _versions(document)),
            attempts=max(seen.starts, seen.attempt),
            downloads=seen.downloads.values(),
            data=seen.data,
            steps=[seen.steps[step] for step in sorted(seen.steps)],
            evaluations=[seen.evaluations[step] for step in sorted(seen.evaluations)],
            sources=source_reports(seen.step_sources, seen.eval_sources),
            checkpoints=sorted(seen.checkpoints),
            uploads=seen.uploads,
            samples=seen.samples,
            samples_before=seen.samples_before,
            environment=seen.environment,
            total_steps=seen.total_steps,
            job_file=job_file if isinstance(job_file, dict) else None,
        )


def _without_name(event: Event) -> dict[str, Json]:
    return {key: value for key, value in event.to_dict().items() if key != "event"}


def requested(record: JobRecord) -> dict[str, Json]:
    """Return what was requested, as in `JobReport.request`."""
    documents = {name.removesuffix(_DOCUMENT): document for name, document in record.documents.items()}
    return {name: _requested(document) for name, document in documents.items() if name != _JOB_FILE}


def source_of(request: Mapping[str, Json], slot: str) -> str:
    """Return the URI of an input among what was requested; "" if the job has none."""
    match request.get(slot):
        case {"params": {"uri": str(uri)}}:
            return uri
    return ""


def model_in(files: Mapping[str, str]) -> str:
    """Return the URI of the model among a job's configuration files; "" if the job has none."""
    name = f"model{_DOCUMENT}"
    documents = documents_in({name: files[name]} if name in files else {})
    return source_of(requested(JobRecord(documents=documents)), "model")


def _requested(document: Json) -> Json:
    """Return what the user chose of a wire document, and any other document as it is."""
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
