"""Reports: what a job's events and its record add up to, as JSON, as a page, and in a notebook."""

import base64
import hashlib
import json
import math
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright._page import assets
from tunewright._page.document import FULL, thin
from tunewright._page.frozen import LIMIT, PageReport, frozen_page
from tunewright._views.text import facts
from tunewright.status.report import make_report
from tunewright.status.state import JobState
from tunewright.status.status import JobCondition, JobRecord, JobStatus, LogLine

HOSTILE = [
    "</script><script>alert(1)</script>", "<!--<script>", "]]>", "'\"><img src=x onerror=alert(1)>", "&lt;b&gt;", "\u2028\u2029",
    "\ud800", "{{7*7}}", "${1}", "javascript:alert(1)", "\0", "</noscript><svg onload=alert(1)>", "{title}", "__proto__",
]  # fmt: skip
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
    assert (found["took"], found["loss"], found["speed"]) == ("1 min 30 s", "4.0000 → 2.0000", "110 tokens/s (median)")
    assert found["data"] == "train: 100 of 1,200 rows dropped (100 odd)"
    assert found["downloads"] == "model: 2.0 MB, 500.0 kB/s, model (worker 1): 2.0 MB, was there already"


class Parsed(HTMLParser):
    """A page as a browser's parser sees it: its elements, with attributes, and the text of each script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open, []).append(data)

    @property
    def document(self) -> dict:
        return json.loads(self.texts["script"][0])


def made_of(*events: dict, status: JobStatus | None = None, record: JobRecord | None = None) -> PageReport:
    lines = [LogLine(container="train", worker=0, text=json.dumps(event)) for event in events]
    return make_report(
        PageReport, status or JobStatus(name="sft", state=JobState.RUNNING), record or JobRecord(), lines
    )


def hostile(text: str) -> PageReport:
    """A job all of whose texts are this one."""
    status = JobStatus(name="sft", state=JobState.FAILED, detail=text, result=text, labels={text: text})
    document = {**MODEL, "params": {"uri": text, text: text}}
    record = JobRecord(
        conditions=[JobCondition(state=JobState.RUNNING, detail=text)],
        images={text: text},
        command=[text],
        documents={"model.json": document, "job.json": {"name": text, text: [text]}},
    )
    return made_of(
        {"event": "sample", "prompt": text, "text": text, "step": 0},
        {"event": "sample", "prompt": text, "text": text},
        {"event": "environment", "device": text, "libraries": {text: text}},
        {"event": "data", "split": text, "rows": 2, "samples": 1, "dropped": 1, "reasons": {text: 1}, text: text},
        {"event": "uploaded", "item": text, "uri": text, "files": 1, "bytes": 1},
        {"event": "step", "step": 1, "loss": 1.0, text: 2.0},
        status=status,
        record=record,
    )


def test_the_page_loads_nothing_and_has_the_curves(report: PageReport) -> None:
    page = Parsed(report.to_html())
    assert [
        attrs for tag, attrs in page.elements if tag in ("link", "img", "iframe") or {"src", "href"} & attrs.keys()
    ] == []
    (job,) = page.document["jobs"]
    assert job["curves"]["loss"] == {"steps": [1, 2, 3], "values": [4.0, 3.0, 2.0]}
    assert job["curves"]["eval_loss"] == {"steps": [3], "values": [2.5]}
    assert job["curves"].keys() == {"loss", "learning_rate", "tokens_per_second", "eval_loss"}
    assert job["samples"] == [{"prompt": "<b>?", "before": None, "after": "A & B"}]
    assert (job["model"], job["total_steps"], job["step"]) == ("hf://org/<m>", 3, 3)


def test_only_the_pages_own_style_and_script_are_allowed(report: PageReport) -> None:
    page = Parsed(report.to_html())
    policy = next(
        attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    for kind, text in (("style", page.texts["style"][0]), ("script", page.texts["script"][1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@given(st.text(st.characters(exclude_categories=[])) | st.sampled_from(HOSTILE))
def test_no_text_of_a_job_becomes_markup(text: str) -> None:
    plain, page = Parsed(hostile("x").to_html()), Parsed(hostile(text).to_html())
    of_head = lambda parsed: [e for e in parsed.elements if e[0] not in ("table", "tr", "th", "td", "p", "b", "div")]  # noqa: E731
    assert [tag for tag, _ in of_head(page)] == [tag for tag, _ in of_head(plain)]
    (job,) = page.document["jobs"]
    shown = text.encode("utf-8", "replace").decode()  # UTF-8 has no half of a surrogate pair
    assert job["samples"] == [{"prompt": shown, "before": shown, "after": shown}]
    assert (job["model"], job["detail"], job["environment"]["device"]) == (shown, shown, shown)


def test_a_page_stays_below_500_kb_however_long_the_job_was() -> None:
    numbers = (
        "loss",
        "learning_rate",
        "grad_norm",
        "tokens_per_second",
        "total_tokens_per_second",
        "peak_memory_bytes",
        "data_wait",
        "mfu",
    )
    steps = [{"event": "step", "step": n, **dict.fromkeys(numbers, math.pi * n)} for n in range(1, 3001)]
    page = made_of(*steps).to_html()
    assert len(page.encode()) < 300_000
    curve = Parsed(page).document["jobs"][0]["curves"]["loss"]
    assert (curve["steps"][0], curve["steps"][-1], len(curve["steps"]) <= FULL.points) == (1, 3000, True)


def test_nor_do_many_long_texts_make_it_longer() -> None:
    samples = [{"event": "sample", "prompt": f"{n}", "text": "天" * 10_000} for n in range(60)]
    odd = [{"event": "step", "step": n, **{f"number_{key}": n / 7 for key in range(100)}} for n in range(50)]
    page = made_of(*samples, *odd).to_html()
    assert len(page.encode()) < LIMIT
    assert "more characters)" in Parsed(page).document["jobs"][0]["samples"][0]["after"]


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=300), st.integers(4, 50))
def test_a_thinned_curve_keeps_its_ends_and_its_extremes(values: list[float], limit: int) -> None:
    points = list(enumerate(values))
    kept = thin(points, limit)
    assert len(kept) <= max(limit, 4)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert kept == sorted(set(kept))
    assert set(kept) <= set(points)
    assert {min(values), max(values)} <= {value for _, value in kept}


def test_numbers_that_json_lacks_leave_gaps() -> None:
    report = made_of(
        {"event": "step", "step": 1, "loss": 2.0}, {"event": "step", "step": 2, "loss": math.nan},
        {"event": "data", "split": "train", "rows": 1, "samples": 1, "share": math.inf},
    )  # fmt: skip
    (job,) = Parsed(report.to_html()).document["jobs"]
    assert job["curves"] == {"loss": {"steps": [1], "values": [2.0]}}
    assert job["data"]["train"]["share"] is None


def test_a_job_that_has_not_begun_has_a_report_and_a_page_too() -> None:
    empty = make_report(PageReport, JobStatus(name="sft", state=JobState.CREATED), JobRecord(), [])
    assert json.loads(empty.to_json())["steps"] == []
    (job,) = Parsed(empty.to_html()).document["jobs"]
    assert (job["curves"], job["samples"], job["job_file"]) == ({}, [], "")
    assert "svg" not in empty._repr_html_()


def test_what_the_training_ran_on_and_answered_before_it_is_in_the_report() -> None:
    report = made_of(
        {"event": "environment", "device": "cpu", "devices": 2, "libraries": {"torch": "2.15.0"}},
        {"event": "sample", "prompt": "2+2?", "text": "2+2?", "step": 0},
        {"event": "start", "total_steps": 10},
        {"event": "sample", "prompt": "2+2?", "text": "4"},
    )
    found = report.to_dict()
    assert found["environment"] == {"device": "cpu", "devices": 2, "libraries": {"torch": "2.15.0"}}
    assert (found["samples_before"], found["samples"], found["total_steps"]) == ({"2+2?": "2+2?"}, {"2+2?": "4"}, 10)
    shown = facts(report)
    assert (shown["device"], shown["versions"]) == ("2 × cpu", "torch 2.15.0")  # noqa: RUF001


def test_the_datasets_of_a_mixture_are_all_named() -> None:
    documents = {
        f"{slot}.json": {**MODEL, "params": {"uri": f"s3://b/{slot}"}}
        for slot in ("dataset_2", "dataset_1", "eval_dataset")
    }
    (job,) = Parsed(made_of(record=JobRecord(documents=documents)).to_html()).document["jobs"]
    assert job["dataset"] == "s3://b/dataset_1, s3://b/dataset_2"


def test_several_jobs_are_compared_on_one_page(report: PageReport) -> None:
    page = Parsed(frozen_page([report, report]))
    assert [job["name"] for job in page.document["jobs"]] == ["sft", "sft"]
    assert page.texts["title"] == ["sft, sft"]


def test_a_notebook_shows_the_facts_and_the_curve(report: PageReport) -> None:
    shown = Parsed(report._repr_html_())
    tags = [tag for tag, _ in shown.elements]
    assert {"svg", "polyline", "table"} <= set(tags)
    assert "script" not in tags
    assert "4.0000 → 2.0000" in "".join(shown.texts["td"])


def test_the_modules_become_one_script() -> None:
    for entry in assets.ENTRIES:
        assert not re.search(r"^\s*(import|export)\b", assets.script(entry), re.MULTILINE)
    names = {name.name for name in __import__("pathlib").Path(assets.__file__).parent.glob("*.js")}
    assert names == {*assets.MODULES, *assets.ENTRIES}
    for name in assets.MODULES:  # texts become text nodes only
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", assets.text(name)
        )
