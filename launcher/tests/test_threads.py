"""Threads: few where more would be in each other's way, all where the network is far."""

import threading
import time
from collections.abc import Callable

import pytest

from tunewright_launcher import threads as module
from tunewright_launcher.threads import LatencyTracker, Threads

MOST = 12


def counted(*answers: float, busy: bool = False, seconds: float) -> int:
    """How many threads there are after some seconds, of a source with such answers."""
    found = LatencyTracker()
    for answer in answers:
        found.took(answer)
    ended = threading.Event()
    threads = Threads(MOST, found)
    names = set[str]()

    def work() -> None:
        names.add(threading.current_thread().name)
        while not ended.wait(0 if busy else 0.01):
            pass

    threads.start(work)
    time.sleep(seconds)
    ended.set()
    threads.join()
    assert not any(thread.name.startswith("fetch-") for thread in threading.enumerate())
    return len(names)


def test_a_source_that_is_far_away_gets_all_threads_at_once() -> None:
    assert counted(*[0.015] * 4, seconds=0.2) == MOST


def test_two_answers_show_that_a_source_is_very_far_away() -> None:
    assert counted(0.025, 0.025, seconds=0.2) == MOST


@pytest.mark.parametrize(
    "answers",
    [[], [0.2], [0.015] * 3, [0.3, 0.2, 0.001, 0.2, 0.2]],
    ids=["none yet", "one", "too few", "some that waited for the interpreter"],
)
def test_it_is_not_far_away_as_long_as_nothing_shows_it(answers: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cpus", lambda: 8)
    assert counted(*answers, seconds=0.2) == 4


@pytest.mark.parametrize(("cpus", "few"), [(1, 2), (2, 2), (3, 3)])
def test_there_are_no_more_than_processors_but_two(cpus: int, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cpus", lambda: cpus)
    assert counted(seconds=0.05) == few


@pytest.mark.slow
def test_a_near_source_whose_threads_leave_the_processor_idle_gets_all_of_them() -> None:
    assert counted(*[0.001] * 5, seconds=1.5) == MOST


@pytest.mark.slow
def test_a_near_source_that_keeps_the_processor_busy_gets_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE", 0.03)  # whatever else runs on this machine
    monkeypatch.setattr(module, "usable_cpus", lambda: 8)
    assert counted(*[0.001] * 5, busy=True, seconds=1.5) == 4


def test_a_few_are_enough_where_no_more_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    start: Callable[[threading.Thread], None] = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if thread.name.startswith("fetch-") and thread.name.endswith(("6", "7")):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(module.threading.Thread, "start", limited)
    assert counted(*[0.025] * 5, seconds=0.2) == 6
