"""Reports: what a job's events and its record add up to, as JSON and as a page; and a real local job's."""

import json
import re
import sys
from datetime import UTC, datetime

import pytest

from tunewright import RequestError
from tunewright._views.page import PageReport
from tunewright._views.text import facts
from tunewright.status.report import make_report
from tunewright.status.state import JobState
from tunewright.status.status import JobCondition, JobRecord, JobStatus, LogLine

STARTED = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
FINISHED = datetime(2026, 11, 24, 12, 1, 30, tzinfo=UTC)
MODEL = {"api": 1, "kind": "model", "provider": "hf", "distribution": "tunewright-hf", "version": "0.1.0", "params": {"uri": "hf://org/<m>"}}  # fmt: skip
EVENTS = [
    (0, {"event": "fetched", "slot": "model", "files": 3, "bytes": 2_000_000, "revision": "abc", "cached": False, "seconds": 4.0}),
    (1, {"event": "fetched", "slot": "model", "files": 3, "bytes": 2_000_000, "revision": "abc", "cached": True}),
    (0, {"event": "attempt", "attempt": 1, "limit": 4}),
    (0, {"event": "data", "split": "train", "rows": 1200, "samples": 1100, "dropped": 100, "reasons": {"odd": 100}, "tokens": 9}),
    (0, {"event": "step", "step": 1, "total_steps": 3, "loss": 4.0, "learning_rate": 1e-3, "tokens_per_second": 100.0}),
    (0, {"event": "checkpoint", "step": 1, "path": "/x"}),
    (0, {"event": "step", "step": 2, "total_steps": 3, "loss": 9.0}),
    (0, {"event": "fetched", "slot": "model", "files": 3, "bytes": 2_000_000, "revision": "abc", "cached": True}),
    (0, {"event": "attempt", "attempt": 1, "limit": 4}),
    (1, {"event": "attempt", "attempt": 1, "limit": 4}),
    (0, {"event": "step", "step": 2, "total_steps": 3, "loss": 3.0, "learning_rate": 5e-4, "tokens_per_second": 120.0}),
    (0, {"event": "step", "step": 3, "total_steps": 3, "loss": 2.0, "learning_rate": 0.0, "tokens_per_second": 110.0}),
    (0, {"event": "eval", "step": 3, "eval_loss": 2.5}),
    (0, {"event": "sample", "prompt": "<b>?", "text": "A & B"}),
    (0, {"event": "uploaded", "item": "model", "uri": "s3://b/p", "files": 2, "bytes": 10}),
    (0, {"event": "new", "x": [1]}),
]  # fmt: skip


@pytest.fixture
def report() -> PageReport:
    status = JobStatus(
        name="sft", state=JobState.SUCCEEDED, created=STARTED, started=STARTED, finished=FINISHED, result="s3://b/p"
    )
    record = JobRecord(
        conditions=[JobCondition(state=JobState.RUNNING, since=STARTED, detail="it runs")],
        workers=2,
        images={"train": "registry/trainer:1"},
        command=["torchrun", "train"],
        documents={"model.json": MODEL},
    )
    lines = [LogLine(container="train", worker=worker, text=json.dumps(event)) for worker, event in EVENTS]
    return make_report(PageReport, status, record, [*lines, LogLine(container="train", worker=0, text="a plain line")])


def test_a_report_has_what_was_asked_for_what_happened_and_what_came_of_it(report: PageReport) -> None:
    found = json.loads(report.to_json())
    assert {k: found[k] for k in ("name", "state", "seconds", "result", "workers", "attempts", "checkpoints")} == {
        "name": "sft", "state": "Succeeded", "seconds": 90.0, "result": "s3://b/p", "workers": 2, "attempts": 2,
        "checkpoints": [1],
    }  # fmt: skip
    assert found["request"] == {"model": {"provider": "hf", "params": {"uri": "hf://org/<m>"}}}
    assert found["versions"] == {"tunewright-hf": "0.1.0"}
    assert found["images"] == {"train": "registry/trainer:1"}
    assert found["states"] == [{"state": "Running", "since": "2026-11-24T12:00:00+00:00", "detail": "it runs"}]
    assert found["samples"] == {"<b>?": "A & B"}
    counts = {"rows": 1200, "samples": 1100, "dropped": 100, "reasons": {"odd": 100}, "tokens": 9}
    assert found["data"] == {"train": counts}
    assert found["uploads"] == [{"item": "model", "uri": "s3://b/p", "files": 2, "bytes": 10}]


def test_a_step_that_was_done_again_counts_as_it_was_done_last(report: PageReport) -> None:
    assert [(step["step"], step["loss"]) for step in report.steps] == [(1, 4.0), (2, 3.0), (3, 2.0)]
    assert report.evaluations == ({"step": 3, "eval_loss": 2.5},)


def test_a_download_has_its_rate_and_a_restart_does_not_hide_it(report: PageReport) -> None:
    downloads = json.loads(report.to_json())["downloads"]
    assert [(d["worker"], d["bytes"], d["bytes_per_second"]) for d in downloads] == [
        (0, 2_000_000, 500_000.0), (1, 2_000_000, None)
    ]  # fmt: skip


def test_the_facts_say_the_most_important_first(report: PageReport) -> None:
    found = facts(report)
    assert next(iter(found)) == "state"
    assert (found["took"], found["loss"], found["speed"]) == ("90 s", "4.0000 → 2.0000", "110 tokens/s (median)")
    assert found["data"] == "train: 100 of 1,200 rows dropped (100 odd)"
    assert found["downloads"] == "model: 2.0 MB, 500.0 kB/s, model (worker 1): 2.0 MB, was there already"


def test_the_page_needs_nothing_else_and_shows_texts_as_they_are(report: PageReport) -> None:
    page = report.to_html()
    assert "&lt;b&gt;?" in page
    assert "hf://org/&lt;m&gt;" in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page), "it loads something"
    drawn = page[page.rindex("Plotly.newPlot") :]
    for title in ("loss", "learning rate", "evaluation loss"):
        assert f'"name":"{title}"' in drawn
    assert '"y":[4.0,3.0,2.0]' in drawn


def test_a_job_that_has_not_begun_has_a_report_and_a_page_too() -> None:
    empty = make_report(PageReport, JobStatus(name="sft", state=JobState.CREATED), JobRecord(), [])
    assert json.loads(empty.to_json())["steps"] == []
    assert "Plotly" not in empty.to_html()


def test_without_plotly_the_page_says_what_to_install(report: PageReport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.subplots", None)
    with pytest.raises(RequestError, match=r"pip install 'tunewright\[report\]'"):
        report.to_html()
