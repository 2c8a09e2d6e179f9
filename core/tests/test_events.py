"""Events: one line of JSON each, which survives every log and is told from ordinary lines."""

import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright import events
from tunewright.events import CustomEvent, Event, Failed, Saved, Start, Step, emit, format_event, parse_event
from tunewright.runner import Failure

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
EVENTS = st.builds(lambda name, rest: {"event": name, **rest}, st.text(), st.dictionaries(st.text(), VALUES, max_size=5)).filter(
    lambda event: isinstance(event["event"], str)
)  # fmt: skip


def of(keys: dict[str, object]) -> Event:
    """The event with these keys, also if it is of no class of ours."""
    return CustomEvent(event=keys["event"], extra={k: v for k, v in keys.items() if k != "event"})


@given(EVENTS)
def test_an_event_survives_its_line(event: dict[str, object]) -> None:
    line = format_event(of(event))
    parsed = parse_event(line)
    assert parsed is not None
    assert parsed.to_dict() == event
    assert line.isascii()
    assert len(line.splitlines()) == 1


@given(EVENTS, st.integers(0, 4095), st.sampled_from(["default", "trainer", "my_role"]))
def test_torchruns_prefix_of_a_rank_is_no_obstacle(event: dict[str, object], rank: int, role: str) -> None:
    assert parse_event(f"[{role}{rank}]:{format_event(of(event))}\r\n") == of(event)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_become_null_wherever_they_are(value: float) -> None:
    event = Step(step=1, loss=value, extra={"more": {"list": [1.0, value]}})
    line = format_event(event)
    expected = {"event": "step", "step": 1, "loss": None, "more": {"list": [1.0, None]}}
    assert json.loads(line, parse_constant=pytest.fail) == expected
    parsed = parse_event(line)
    assert isinstance(parsed, Step)
    assert (parsed.step, parsed.loss) == (1, None)
    assert format_event(parsed) == line


@pytest.mark.parametrize(
    "line",
    ["", "loss 3.2", '{"loss": 3}', '{"event": 3}', '{"event": "step"', '{"event": "a"} and more', 'see {"event": "a"}',
     '[{"event": "a"}]', '{"event": ' + "[" * 100_000],
)  # fmt: skip
def test_ordinary_lines_are_no_events(line: str) -> None:
    assert parse_event(line) is None


@given(st.text())
def test_no_line_breaks_the_parser(line: str) -> None:
    parse_event(line)
    parse_event('{"event"' + line)


def test_emit_writes_a_whole_line_at_once() -> None:
    class Stream(io.StringIO):
        def __init__(self) -> None:
            super().__init__()
            self.writes, self.flushes = [], 0

        def write(self, text: str) -> int:
            self.writes.append(text)
            return super().write(text)

        def flush(self) -> None:
            self.flushes += 1

    stream = Stream()
    emit(Saved(path="/a\nb\udcff"), stream)
    assert stream.writes == ['{"event": "saved", "path": "/a\\nb\\udcff"}\n']
    assert stream.flushes == 1


COMPLETE = {
    "phase": {"name": "tokenise", "text": "tokenising the train split", "done": 1, "total": 2, "unit": "rows"},
    "retry": {"about": "model", "cause": "It is away.", "attempt": 1, "seconds": 2.5},
    "progress": {"phase": "fetch", "slot": "model", "done": 1, "total": None},
    "fetched": {"slot": "model", "files": 1, "bytes": 2, "revision": None, "cached": False, "seconds": 0.5},
    "attempt": {"attempt": 1, "limit": 4},
    "environment": {"device": "cpu", "devices": 2, "libraries": {"torch": "2.15.0"}},
    "start": {"total_steps": 2, "epochs": 1, "world_size": 2, "resumed_from": None},
    "data": {"split": "train", "rows": 3, "samples": 2, "dropped": 1, "reasons": {"odd": 1}, "tokens": 5},
    "step": {"step": 1, "total_steps": 2, "loss": 1.5, "epoch": 0.5, "learning_rate": 1e-3, "tokens_per_second": 3.0, "grad_norm": 2.0},
    "eval": {"step": 1, "eval_loss": 1.5, "eval_accuracy": 0.5, "eval_runtime": 2.0},
    "checkpoint": {"step": 1, "path": "/x"},
    "sample": {"prompt": "?", "text": "!", "step": 0},
    "saved": {"path": "/x"},
    "uploaded": {"item": "model", "uri": "s3://b/p", "files": 1, "bytes": 2},
    "failed": {"cause": "No such file.", "remedy": "Look.", "code": 66, "container": "fetch-model", "worker": 1},
    "cluster": {"time": "now", "type": "Normal", "reason": "Pulled", "about": "Pod/x", "message": "y", "count": 2},
    "log": {"container": "train", "worker": 0, "text": "x"},
    "end": {
        "name": "x", "state": "Failed", "detail": "", "result": None, "first_loss": None, "last_loss": None, "eval_loss": None,
        "samples": {"?": "!"}, "failure": {"cause": "c", "remedy": "r", "code": 1},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", list(events.EVENTS))
def test_each_event_has_a_class_and_says_on_the_wire_what_it_was_told(name: str) -> None:
    keys = {"event": name, **COMPLETE[name]}
    event = parse_event(json.dumps(keys))
    assert type(event) is events.EVENTS[name]
    assert json.loads(format_event(event)) == keys
    assert parse_event(format_event(event)) == event
    more = parse_event(json.dumps({**keys, "of_a_later_release": [1]}))
    assert type(more) is type(event)
    assert more.to_dict() == {**keys, "of_a_later_release": [1]}


@pytest.mark.parametrize(
    "line", ['{"event": "step"}', '{"event": "step", "step": "three"}', '{"event": "failed", "code": 1}']
)
def test_an_event_that_is_not_what_its_class_says_is_kept_as_it_is(line: str) -> None:
    event = parse_event(line)
    assert isinstance(event, CustomEvent)
    assert event.to_dict() == json.loads(line)


def test_an_optional_number_of_another_type_does_not_hide_the_rest() -> None:
    event = parse_event('{"event": "step", "step": 3, "loss": "low", "total_steps": true}')
    assert isinstance(event, Step)
    assert (event.step, event.loss, event.total_steps) == (3, None, None)
    assert event.to_dict() == {"event": "step", "step": 3, "loss": "low", "total_steps": True}
    assert event.numbers == {"step": 3}


def test_what_run_prints_is_the_event_of_the_failure(capsys: pytest.CaptureFixture[str]) -> None:
    from tunewright.runner.verdicts import report

    failure = Failure(66, "No such repository.", "Check the URI.", "fetch-model", 2)
    report(failure, None)
    assert parse_event(capsys.readouterr().out) == Failed(failure=failure)


def test_a_start_of_which_nothing_is_known() -> None:
    assert parse_event('{"event": "start"}') == Start()
