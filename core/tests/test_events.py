"""Events: one line of JSON each, which survives every log and is told from ordinary lines."""

import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.events import emit, format_event, parse_event

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
EVENTS = st.builds(lambda name, rest: {"event": name, **rest}, st.text(), st.dictionaries(st.text(), VALUES, max_size=5)).filter(
    lambda event: isinstance(event["event"], str)
)  # fmt: skip


@given(EVENTS)
def test_an_event_survives_its_line(event: dict[str, object]) -> None:
    line = format_event(event)
    assert parse_event(line) == event
    assert line.isascii()
    assert len(line.splitlines()) == 1


@given(EVENTS, st.integers(0, 4095), st.sampled_from(["default", "trainer", "my_role"]))
def test_torchruns_prefix_of_a_rank_is_no_obstacle(event: dict[str, object], rank: int, role: str) -> None:
    assert parse_event(f"[{role}{rank}]:{format_event(event)}\r\n") == event


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_become_null_wherever_they_are(value: float) -> None:
    event = {"event": "step", "loss": value, "more": {"list": [1.0, value]}}
    assert json.loads(format_event(event), parse_constant=pytest.fail) == {
        "event": "step", "loss": None, "more": {"list": [1.0, None]}
    }  # fmt: skip


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
    emit({"event": "saved", "path": "/a\nb\udcff"}, stream)
    assert stream.writes == ['{"event": "saved", "path": "/a\\nb\\udcff"}\n']
    assert stream.flushes == 1
