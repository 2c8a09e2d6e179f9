"""Progress: what people and programs are shown of a job's events, on real consoles that write into a string."""

import io
import json
import math

import pytest
from rich.console import Console

from tunewright._views.bars import BarsView
from tunewright._views.base import LinesView
from tunewright._views.follow import follow, view_for
from tunewright._views.json_lines import JsonView
from tunewright._views.text import describe, ending
from tunewright.errors import Failure
from tunewright.events import Event, parse_event
from tunewright.status.state import JobState
from tunewright.status.status import JobStatus, LogLine
from tunewright.status.summary import Summary

EVENTS = [
    {"event": "progress", "phase": "fetch", "slot": "model", "done": 0, "total": 2_000_000},
    {"event": "progress", "phase": "fetch", "slot": "model", "done": 1_000_000, "total": 2_000_000},
    {"event": "fetched", "slot": "model", "files": 3, "bytes": 2_000_000, "revision": None, "cached": False},
    {"event": "fetched", "slot": "dataset", "files": 1, "bytes": 0, "revision": None, "cached": True},
    {"event": "attempt", "attempt": 1, "limit": 4},
    {"event": "start", "total_steps": 40, "epochs": 1, "world_size": 2, "resumed_from": None},
    *(
        {"event": "step", "step": n, "total_steps": 40, "loss": 4 - n / 20, "tokens_per_second": 1234.5}
        for n in range(1, 41)
    ),
    {"event": "eval", "step": 40, "eval_loss": 1.9},
    {"event": "checkpoint", "step": 40, "path": "/x"},
    {"event": "sample", "prompt": "What is [bold]?", "text": "A tag."},
    {"event": "saved", "path": "/result"},
    {"event": "something_new", "x": 1},
]
DONE = JobStatus(name="sft", state=JobState.SUCCEEDED, result="/jobs/sft/model")
ENDING = """\
sft succeeded.
model: /jobs/sft/model
loss: 3.9500 at first, 2.0000 at last (-49%)
evaluation loss: 1.9000
asked: What is [bold]?
answered: A tag.
"""


def event_of(keys: dict[str, object]) -> Event:
    """The event that a line of these keys is."""
    event = parse_event(json.dumps({"event": "x", **keys}))
    assert event is not None
    return event


def summary_of(*events: dict[str, object]) -> Summary:
    summary = Summary()
    for keys in events:
        summary.add(event_of(keys))
    return summary


def command_for(command: str) -> str:
    return f"tunewright {command} sft"


def shown(make, events=EVENTS, status: JobStatus = DONE, **console: object) -> str:
    stream = io.StringIO()
    view, summary = make(Console(file=stream, width=100, **console)), Summary()
    with view:
        for event in map(event_of, events):
            summary.add(event)
            view.show(event, summary)
    view.end(status, summary, command_for)
    return stream.getvalue()


def test_lines_tell_each_thing_once_and_steps_about_twenty_times() -> None:
    lines = shown(LinesView).splitlines()
    steps = [line for line in lines if line.startswith("step ")]
    assert len(steps) == 21
    assert steps[0] == "step 1/40: loss 3.9500, 1,234 tokens/s"
    assert steps[-1] == "step 40/40: loss 2.0000, 1,234 tokens/s"
    assert [line for line in lines if line not in steps] == [
        "model: 1.0 MB of 2.0 MB",
        "model: fetched, 3 files, 2.0 MB",
        "dataset: is there already, 1 file, 0 bytes",
        "starting the worker processes",
        "training: 40 steps on 2 processes",
        "evaluation at step 40: loss 1.9000",
        "checkpoint at step 40",
        *ENDING.splitlines(),
    ]


def test_lines_are_plain_whatever_they_say() -> None:
    text = shown(LinesView, [{"event": "fetched", "slot": "[red]m[/red]", "files": 1, "bytes": 1}])
    assert text.startswith("[red]m[/red]: fetched")
    assert "\x1b" not in shown(LinesView)
    long = JobStatus(name="sft", state=JobState.FAILED, detail="x" * 500)
    assert shown(LinesView, [], long).splitlines()[0] == f"sft failed: {'x' * 500}"


def test_bars_are_drawn_in_a_terminal_and_stay_at_the_end() -> None:
    text = shown(BarsView, force_terminal=True, color_system=None)
    last = text.rpartition("fetch model")[2]
    assert "2.0 MB" in last
    assert "there already" in last
    assert "train" in last
    assert "100%" in last
    assert "loss 2.0000, 1,234 tokens/s" in last
    assert "checkpoint at step 40" in text
    assert text.endswith(ENDING)


def test_the_bar_of_a_finished_training_is_full_also_if_its_last_step_was_not_logged() -> None:
    logged = [event for event in EVENTS if event["event"] != "step" or int(str(event["step"])) % 7 == 0]
    text = shown(BarsView, logged, force_terminal=True, color_system=None)
    assert "100%" in text.rpartition("train")[2]


def test_bars_give_the_terminal_back_when_following_is_interrupted() -> None:
    stream = io.StringIO()
    view = BarsView(Console(file=stream, width=80, force_terminal=True))

    def interrupted() -> None:
        with view:
            view.show(event_of(EVENTS[0]), Summary())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1


def test_a_fetch_of_unknown_size_has_a_bar_too() -> None:
    text = shown(
        BarsView,
        [{"event": "progress", "slot": "model", "done": 5000, "total": None}],
        force_terminal=True,
        color_system=None,
    )
    assert "5.0 kB" in text


def test_json_is_the_events_and_one_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    view, summary = JsonView(), summary_of(*EVENTS)
    for event in map(event_of, EVENTS):
        view.show(event, summary)
    view.end(DONE, summary, command_for)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[:-1] == EVENTS
    assert lines[-1] == {
        "event": "end", "name": "sft", "state": "Succeeded", "detail": "", "result": "/jobs/sft/model", "first_loss": 3.95,
        "last_loss": 2.0, "eval_loss": 1.9, "samples": {"What is [bold]?": "A tag."},
    }  # fmt: skip


class JobLike:
    """A job whose log is a list."""

    def __init__(self, *lines: str) -> None:
        self.lines = [LogLine(container="train", worker=0, text=line) for line in lines]

    def command_for(self, command: str) -> str:
        return command_for(command)

    def next_commands(self) -> list[str]:
        return []

    def updates(self) -> object:
        return iter(self.lines)

    def status(self) -> JobStatus:
        return DONE


def test_following_shows_the_events_of_the_log_and_hides_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["a warning", *map(json.dumps, EVENTS), "[default1]:noise"]
    assert follow(JobLike(*lines), style="json") == DONE  # type: ignore[arg-type]
    out = capsys.readouterr().out.splitlines()
    assert len(out) == len(EVENTS) + 1
    assert all(isinstance(json.loads(line), dict) for line in out)
    follow(JobLike(*lines), style="lines")  # type: ignore[arg-type]
    assert capsys.readouterr().out.endswith(ENDING)


def test_the_style_follows_the_output(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(view_for("auto")) is LinesView
    assert type(view_for("lines")) is LinesView
    assert type(view_for("json")) is JsonView
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert type(view_for("auto")) is BarsView
    assert type(view_for("lines")) is LinesView


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            {"event": "start", "total_steps": 10, "resumed_from": 4},
            "training: 10 steps on 1 process, resumed from step 4",
        ),
        ({"event": "start"}, "training: ? steps on 1 process"),
        ({"event": "step", "step": 3}, "step 3/?: "),
        ({"event": "step", "step": 3, "loss": None, "total_steps": 5}, "step 3/5: "),
        ({"event": "attempt", "attempt": 2, "limit": 4}, "workers start again: attempt 2 of 4"),
        ({"event": "attempt", "attempt": 1, "limit": 4}, "starting the worker processes"),
        ({"event": "progress", "slot": "model", "done": 1}, "model: 1 byte"),
        ({"event": "phase", "name": "load", "text": "loading the model"}, "loading the model"),
        (
            {"event": "phase", "name": "x", "text": "tokenising", "done": 12000, "total": 200000, "unit": "rows"},
            "tokenising: 12,000 of 200,000 rows",
        ),
        ({"event": "phase", "name": "x", "text": "reading", "done": 12}, "reading: 12"),
        (
            {"event": "retry", "about": "model", "cause": "It is away.", "attempt": 2, "seconds": 3.7},
            "model: It is away. Trying again in 4 s, attempt 3.",
        ),
        (
            {"event": "retry", "about": "model", "cause": "It is away.", "attempt": 1, "seconds": 0.2},
            "model: It is away. Trying again now, attempt 2.",
        ),
        ({"event": "nobody knows"}, None),
        ({"event": "eval", "eval_loss": None}, None),
        (
            {"event": "eval", "step": 3, "eval_loss": 0.5, "eval_accuracy": 1.0},
            "evaluation at step 3: loss 0.5000, accuracy 1.0000",
        ),
        ({"event": "fetched"}, None),
    ],
)
def test_each_event_as_a_line(event: dict[str, object], line: str | None) -> None:
    assert describe(event_of(event), summary_of(event)) == line


def test_how_a_job_ended_says_what_to_do() -> None:
    suspended = JobStatus(name="sft", state=JobState.SUSPENDED)
    assert ending(suspended, Summary(), command_for) == [
        "sft is suspended. Continue from its newest checkpoint: tunewright resume sft"
    ]
    failed = JobStatus(name="sft", state=JobState.FAILED, detail="The volume is full.")
    assert ending(failed, Summary(), command_for) == ["sft failed: The volume is full.", "Its log: tunewright logs sft"]
    assert ending(JobStatus(name="sft", state=JobState.SUCCEEDED), Summary(), command_for) == ["sft succeeded."]


def test_a_summary_adds_events_up() -> None:
    summary = summary_of(*EVENTS)
    assert (summary.first_loss, summary.last_loss, summary.eval_loss) == (3.95, 2.0, 1.9)
    assert (summary.step, summary.total_steps, summary.tokens_per_second) == (40, 40, 1234.5)
    assert summary.samples == {"What is [bold]?": "A tag."}
    assert summary.loss_reduction is not None
    assert math.isclose(summary.loss_reduction, 1 - 2 / 3.95)


def test_a_new_start_forgets_the_failure_before_it_and_keeps_the_first_loss() -> None:
    failed = {"event": "failed", "code": 1, "cause": "x", "remedy": "y"}
    step = {"event": "step", "step": 1, "loss": 4}
    assert summary_of(step, failed, {**failed, "cause": "a bystander"}).failure == Failure(1, "x", "y"), (
        "the first one counts"
    )
    summary = summary_of(
        step, failed, {"event": "attempt", "attempt": 2}, {"event": "start", "resumed_from": 1}, {**step, "loss": 3.0}
    )
    assert (summary.failure, summary.attempt, summary.resumed_from) == (None, 2, 1)
    assert (summary.first_loss, summary.last_loss, summary.loss_reduction) == (4.0, 3.0, 0.25)


@pytest.mark.parametrize(
    "event",
    [
        {"event": "step"}, {"event": "step", "step": "three", "loss": "low", "tokens_per_second": []}, {"event": "step", "loss": None},
        {"event": "start", "total_steps": "many"}, {"event": "sample", "prompt": 3}, {"event": "eval"}, {"event": "attempt"}, {},
    ],
)  # fmt: skip
def test_odd_events_do_no_harm(event: dict[str, object]) -> None:
    assert summary_of(event) == Summary()
    assert Summary().loss_reduction is None
    shown(LinesView, [{"event": "x", **event}])
    shown(BarsView, [{"event": "x", **event}], force_terminal=True)


WAITING = JobStatus(
    name="sft", state=JobState.CREATED, detail="worker 1 cannot be scheduled: no GPU", pods={"train": 1, "Pending": 1}
)


def test_lines_tell_each_state_once_with_what_the_pods_are_at() -> None:
    stream = io.StringIO()
    view = LinesView(Console(file=stream, width=100))
    running = JobStatus(name="sft", state=JobState.RUNNING, pods={"train": 2})
    for status in (WAITING, WAITING, running, DONE):
        view.state(status)
    assert stream.getvalue().splitlines() == [
        "Created: worker 1 cannot be scheduled: no GPU (pods: 1 train, 1 Pending)",
        "Running (pods: 2 train)",
    ]


def test_bars_have_one_for_the_pods_and_say_why_they_wait() -> None:
    stream = io.StringIO()
    with BarsView(Console(file=stream, width=100, force_terminal=True, color_system=None)) as view:
        view.state(WAITING)
        view.state(JobStatus(name="sft", state=JobState.DOWNLOADING, detail="fetch-model", pods={"fetch-model": 2}))
    text = stream.getvalue()
    assert "Created: worker 1 cannot be scheduled: no GPU" in text
    assert "1 train, 1 Pending" in text or "2 fetch-model" in text
    assert "Downloading" not in text
    assert "2 fetch-model" in text.rpartition("pods")[2]
