"""Progress of a download, as it is reported."""

import threading

import pytest

from tunewright_launcher import progress
from tunewright_launcher.progress import Progress


def test_what_stands_still_is_reported_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "STILL", 0.1)
    monkeypatch.setattr(progress, "_TICK", 0.02)
    reports: list[tuple[int, int | None]] = []
    twice = threading.Event()

    def report(done: int, total: int | None) -> None:
        reports.append((done, total))
        if reports.count((done, total)) == 2:
            twice.set()

    with Progress(report) as counted:
        counted.total = 9
        for _ in range(2):
            counted.add(2)
            assert twice.wait(10)
            twice.clear()
        counted.add(5)
    assert reports == [(2, 9), (2, 9), (4, 9), (4, 9), (9, 9)]


def test_one_report_of_the_end_is_enough() -> None:
    reports: list[tuple[int, int | None]] = []
    with Progress(lambda done, total: reports.append((done, total))) as counted:
        counted.total = 9
        counted.add(9)
    assert reports == [(9, 9)]
