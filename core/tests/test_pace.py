"""How often a phase is reported: within a second at first, and few times in all."""

import itertools
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.events import Event, Pace, Phase, announced

PHASE = Phase(name="load", text="loading the model")


class Clock:
    """A clock that somebody sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_ten_hours_get_fewer_lines_than_a_thousand_and_an_hour_about_250() -> None:
    clock = Clock()
    pace, due = Pace(clock), []
    for second in range(36_000):
        clock.now = second
        if pace.is_due():
            due.append(second)
    assert due[:5] == [1, 2, 3, 4, 5]
    assert 200 < len([second for second in due if second < 3600]) < 300
    assert len(due) < 1000
    assert max(b - a for a, b in itertools.pairwise(due)) <= 61


@given(st.lists(st.floats(0, 1e4), max_size=50))
def test_a_pause_is_a_second_to_a_minute_and_nothing_is_due_before_it_has_passed(steps: list[float]) -> None:
    clock = Clock()
    pace, last = Pace(clock), 0.0
    for step in steps:
        clock.now += step
        assert 1 <= pace.pause() <= 60
        if pace.is_due():
            assert clock.now - last >= 1
            last = clock.now
            assert not pace.is_due()


def test_a_phase_is_told_at_once_and_its_counts_while_it_lasts() -> None:
    told: list[Event] = []
    more = threading.Event()

    def emit(event: Event) -> None:
        told.append(event)
        if len(told) > 1:
            more.set()

    with announced(emit, Phase(name="x", text="x", total=9), count=lambda: 7):
        assert told == [Phase(name="x", text="x", total=9)]
        assert more.wait(30)
    assert told == [Phase(name="x", text="x", total=9), Phase(name="x", text="x", done=7, total=9)]


def test_what_is_soon_over_is_not_worth_an_event_and_what_lasts_is() -> None:
    told: list[Event] = []
    with announced(told.append, PHASE, after=30):
        pass
    assert told == []
    with announced(told.append, PHASE, after=0.01):
        end = time.monotonic() + 30
        while not told and time.monotonic() < end:
            time.sleep(0.005)
    assert told == [PHASE]


def test_an_error_passes_and_ends_the_reports() -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match="inside"), announced(lambda _: None, PHASE, count=lambda: 1):
        raise ValueError("inside")
    assert threading.active_count() == before
