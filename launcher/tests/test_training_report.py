"""The report that rank 0 leaves with the result: all attempts are in it, and it can be read without the job."""

import json
from pathlib import Path

import attrs
import pytest

from tunewright import RequestError
from tunewright.events import Checkpoint, Eval, Event, Json, Sample, Step
from tunewright.providers import TrainRun
from tunewright.status.report import REPORT_FILE, JobReport
from tunewright.status.saved_report import read_report
from tunewright.status.state import JobState
from tunewright_launcher.training_report import EventFile, training_report

ENV = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "TUNEWRIGHT_OUTPUT": "s3://bucket/out"}
TRAINER = {
    "api": 1,
    "kind": "trainer",
    "provider": "hf",
    "distribution": "tunewright-hf",
    "version": "1.2",
    "params": {},
}


@attrs.frozen
class Training:
    """The folders of a job on rank 0."""

    folder: Path

    def attempt(self, *events: Event, resume_from: Path | None = None) -> EventFile:
        output = self.folder / "output"
        run = TrainRun(model=None, dataset=None, output=output, resume_from=resume_from, emit=lambda _: None)
        file = EventFile(run)
        for event in events:
            file.add(event)
        return file

    def report(self, file: EventFile) -> JobReport:
        return training_report(self.folder / "config", ENV, file.lines())


@pytest.fixture
def training(tmp_path: Path) -> Training:
    (tmp_path / "config").mkdir()
    documents: dict[str, Json] = {"trainer": TRAINER, "job": {"name": "sft", "trainer": "hf"}}
    for name, document in documents.items():
        (tmp_path / "config" / f"{name}.json").write_text(json.dumps(document), "utf-8")
    return Training(tmp_path)


def test_it_holds_what_all_attempts_did(training: Training) -> None:
    training.attempt(Step(step=1, loss=3.0), Step(step=2, loss=2.5), Checkpoint(step=1, path="c"))
    file = training.attempt(
        Step(step=2, loss=2.25, total_steps=2), Eval(step=2, eval_loss=2.0), Sample(prompt="?", text="!"),
        resume_from=training.folder / "c",
    )  # fmt: skip
    report = training.report(file)
    assert [(step["step"], step["loss"]) for step in report.steps] == [(1, 3.0), (2, 2.25)]
    assert (report.attempts, report.checkpoints, report.total_steps, report.samples) == (2, (1,), 2, {"?": "!"})
    assert [evaluation["eval_loss"] for evaluation in report.evaluations] == [2.0]
    assert (report.status.name, report.status.state, report.status.result) == (
        "sft",
        JobState.SUCCEEDED,
        "s3://bucket/out",
    )
    assert (report.record.workers, report.record.processes) == (2, 2)
    assert report.request == {"trainer": {"provider": "hf", "params": {}}}
    assert report.seconds is not None


def test_a_training_that_begins_anew_forgets_the_one_before_it(training: Training) -> None:
    training.attempt(Step(step=9, loss=3.0))
    assert [step["step"] for step in training.report(training.attempt(Step(step=1, loss=2.0))).steps] == [1]


def test_it_is_read_as_it_was_written(training: Training) -> None:
    sources: dict[str, Json] = {"chat": {"loss": 2.0, "tokens": 7, "samples": 1}}
    report = training.report(training.attempt(Step(step=1, loss=2.5, sources=sources), Eval(step=1, eval_loss=2.0)))
    (training.folder / REPORT_FILE).write_text(report.to_json(), "utf-8")
    unrounded = {"seconds"}  # of times that are written to the second
    read, written = (
        {key: value for key, value in found.to_dict().items() if key not in unrounded}
        for found in (read_report(JobReport, training.folder), report)
    )
    assert read == written


@pytest.mark.parametrize(
    ("text", "problem"),
    [(None, "has no tunewright_report.json"), ("{", "has no tunewright_report.json"), ("[]", "is not a report"), ('{"states": 1}', "is not a report")],
)  # fmt: skip
def test_a_folder_without_one_is_refused(tmp_path: Path, text: str | None, problem: str) -> None:
    if text is not None:
        (tmp_path / REPORT_FILE).write_text(text, "utf-8")
    with pytest.raises(RequestError, match=problem):
        read_report(JobReport, tmp_path)


def test_a_training_goes_on_where_its_events_cannot_be_written(training: Training) -> None:
    (training.folder / "output").write_text("a file where the folder should be", "utf-8")
    assert training.attempt(Step(step=1)).lines() == []
