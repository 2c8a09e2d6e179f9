"""What a job is doing, in bars, in lines, as JSON, in its status and in its log."""

import io
import json

import pytest
from rich.console import Console

from tunewright._views.bars import BarsView
from tunewright._views.base import LinesView, View
from tunewright._views.json_lines import JsonView
from tunewright._views.log_text import readable
from tunewright.events import (
    Attempt,
    Checkpoint,
    Eval,
    Event,
    Fetched,
    Phase,
    Progress,
    Retry,
    Start,
    Step,
    format_event,
    parse_event,
)
from tunewright.status.state import JobState
from tunewright.status.status import JobStatus, LogLine
from tunewright.status.summary import Summary, progress_of

LIST = Phase(name="list", text="model: asking hf://org/name what to fetch")
RETRY = Retry(about="model", cause="hub responded with 503.", attempt=1, seconds=4)
RETRIED = "model: hub responded with 503. Trying again in 4 s, attempt 2."
STALL = Phase(name="stall", text="model: nothing arrives from the source")
LOAD = Phase(name="load", text="loading the model")
STEP = Step(step=3, total_steps=10, loss=2.0)


class Rows(BarsView):
    """Bars, and the names of the rows that are shown."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        super().__init__(Console(file=self.stream, width=140, force_terminal=True, color_system=None))

    def names(self) -> set[str]:
        return set(self._tasks)

    def text(self) -> str:
        return self.stream.getvalue() + "".join(str(task.fields["note"]) for task in self._progress.tasks)


def rows(done: int) -> Phase:
    return Phase(name="tokenise", text="tokenising the train split", done=done, total=200_000, unit="rows")


def far(done: int) -> Progress:
    return Progress(slot="model", done=done, total=100)


def show(view: View, *events: Event) -> None:
    summary = Summary()
    with view:
        for event in events:
            summary.add(event)
            view.show(event, summary)


def lines(*events: Event) -> list[str]:
    stream = io.StringIO()
    show(LinesView(Console(file=stream, width=100)), *events)
    return stream.getvalue().splitlines()


def bars(*events: Event) -> str:
    """What is on the screen in the end, and what was printed above."""
    stream = io.StringIO()
    show(BarsView(Console(file=stream, width=140, force_terminal=True, color_system=None)), *events)
    return stream.getvalue()


def test_lines_say_each_phase_once_and_counts_ten_times_however_many_there_are() -> None:
    told = lines(LIST, RETRY, LOAD, LOAD, *(rows(n * 1000) for n in range(200)), Attempt(attempt=1), Attempt(attempt=1))
    assert told[:3] == [LIST.text, RETRIED, LOAD.text]
    counts = [line for line in told if "rows" in line]
    assert counts[:2] == [
        "tokenising the train split: 0 of 200,000 rows",
        "tokenising the train split: 20,000 of 200,000 rows",
    ]
    assert len(counts) == 10
    assert told[-1] == "starting the worker processes"
    assert told.count(told[-1]) == 1


def test_a_download_of_any_size_is_told_of_about_ten_times() -> None:
    known = lines(*(Progress(slot="model", done=n, total=1000) for n in range(1001)))
    assert len(known) == 9
    unknown = lines(*(Progress(slot="model", done=n * 1000) for n in range(5000)))
    assert len(unknown) < 30


def test_bars_have_a_row_for_what_is_done_now_until_it_is_over() -> None:
    during = bars(LIST)
    assert LIST.text in during
    counting = bars(rows(50_000)).replace("\x1b", "")
    assert "25%" in counting
    assert "50,000 of 200,000 rows" in counting
    assert RETRIED in bars(LIST, RETRY)


@pytest.mark.parametrize(
    "end",
    [
        Fetched(slot="model", files=1, bytes=5),
        Progress(slot="model", done=5, total=10),
        STEP,
        Start(total_steps=10),
        Eval(step=3, eval_loss=1.0),
    ],
    ids=lambda event: event.event,
)
def test_the_row_is_gone_when_the_phase_is_over(end: Event) -> None:
    view, summary = Rows(), Summary()
    with view:
        view.show(LIST, summary)
        assert "now" in view.names()
        view.show(end, summary)
        assert "now" not in view.names()


def test_the_row_says_that_workers_run_until_the_users_code_speaks() -> None:
    view, summary = Rows(), Summary()
    with view:
        view.show(LIST, summary)
        view.show(Attempt(attempt=1), summary)
        assert "the worker processes run" in view.text()
        view.line(LogLine(container="train", worker=0, text="hello"))
        assert view.names() == set()
    assert "hello" in view.text()


def test_a_program_gets_the_events_and_what_the_pods_wait_for(capsys: pytest.CaptureFixture[str]) -> None:
    view = JsonView()
    waiting = JobStatus(name="sft", state=JobState.CREATED, detail="worker 0 waits for a node", pods={"Pending": 2})
    for status in (waiting, waiting, JobStatus(name="sft", state=JobState.RUNNING, detail="step 1/2")):
        view.state(status)
    show(view, RETRY)
    found = [parse_event(line) for line in capsys.readouterr().out.splitlines()]
    assert found == [Phase(name="created", text="Created: worker 0 waits for a node (pods: 2 Pending)"), RETRY]


@pytest.mark.parametrize(
    ("events", "fetching", "said"),
    [
        ([LIST], True, LIST.text),
        ([LIST, Progress(slot="model", done=0)], True, LIST.text),
        ([LIST, Progress(slot="model", done=0), RETRY], True, RETRIED),
        ([LIST, RETRY, Progress(slot="model", done=43, total=100)], True, "model, 43%"),
        ([LIST, RETRY, Progress(slot="model", done=0, total=100)], True, RETRIED),
        ([LIST, far(43), RETRY, far(0), far(43)], True, RETRIED),
        (
            [LIST, Progress(slot="model", done=0, total=1000), RETRY, Progress(slot="model", done=2, total=1000)],
            True,
            RETRIED,
        ),
        ([LIST, far(43), RETRY, far(0), far(44)], True, "model, 44%"),
        ([LIST, RETRY, LIST, far(0)], True, "model, 0%"),
        ([LIST, far(43), STALL], True, STALL.text),
        ([LIST, far(43), STALL, far(44)], True, "model, 44%"),
        ([LIST, far(43), STALL, RETRY, far(43)], True, RETRIED),
        ([LIST, Fetched(slot="model", files=1, bytes=2)], True, ""),
        ([Attempt(attempt=1), LOAD], False, LOAD.text),
        ([rows(50_000)], False, "tokenising the train split: 50,000 of 200,000 rows"),
        ([LOAD, Start(total_steps=10)], False, "step 0/10"),
        ([LOAD, Start(total_steps=10, resumed_from=4)], False, "step 4/10"),
        ([STEP, LOAD, Eval(step=3, eval_loss=1.0)], False, "step 3/10"),
        ([STEP, LOAD, Checkpoint(step=3)], False, "step 3/10"),
        ([STEP, LOAD], False, LOAD.text),
        ([STEP, Attempt(attempt=2)], False, ""),
        ([], False, ""),
    ],
)
def test_a_status_says_what_the_newest_events_do(events: list[Event], fetching: bool, said: str) -> None:
    assert progress_of(reversed(events), fetching=fetching) == said


def test_a_log_says_loss_and_steps_in_words_and_plain_lines_as_they_are() -> None:
    events = [LOAD, Start(total_steps=100), *(Step(step=n, total_steps=100, loss=2.5) for n in range(1, 101))]
    log = ["a plain line", *map(format_event, events), f"[default0]:{format_event(STEP)}", json.dumps({"event": "odd"})]
    told = list(readable(LogLine(container="train", worker=0, text=text) for text in log))
    assert told[:4] == [
        "a plain line",
        "loading the model",
        "training: 100 steps on 1 process",
        "step 1/100: loss 2.5000",
    ]
    assert len(told) == 3 + 100 + 1, "every step that was logged"
    assert told[-1] == "step 3/10: loss 2.0000"
