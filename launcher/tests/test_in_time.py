"""Listings that never go on, and those that do: in a program of its own, as pytest uses the timer itself."""

import itertools
import subprocess
import sys

import pytest

from tunewright_launcher.in_time import in_time

PROGRAM = """
import itertools, signal, tempfile, threading, time
from pathlib import Path
from tunewright import FetchError
from tunewright.providers import Entry, Snapshot
from tunewright_launcher.engine import fetch_snapshot
from tunewright_launcher.in_time import in_time

def hanging():
    yield 1
    threading.Event().wait()

def slowly_used():
    for number in in_time(iter(range(3)), 1.0, "It"):
        time.sleep(1.5 if number == 1 else 0)
    return "all came"

def never_goes_on():
    try:
        list(in_time(hanging(), 0.2, "The listing"))
    except FetchError as error:
        return f"{error.code!r} {error}"

def in_another_thread():
    found = []
    thread = threading.Thread(target=lambda: found.extend(in_time(iter("ab"), 0.0, "It")))
    thread.start()
    thread.join()
    return "".join(found)

def refused_by_the_engine():
    class Hostile(Snapshot):
        def entries(self):
            yield Entry(path="../x", size=1)
            yield Entry(path="y", size=1)
        def open(self, entry, start, stop):
            raise NotImplementedError
    try:
        with tempfile.TemporaryDirectory() as folder:
            fetch_snapshot(Hostile(), Path(folder))
    except FetchError as error:
        kept.append(error)  # with its traceback, in which the listing still is
        return str(error)

kept = []
print(CALL())
assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("slowly_used", "all came"),
        ("never_goes_on", "TRY_AGAIN: 75> The listing has not gone on for 0 s."),
        ("in_another_thread", "ab"),
        ("refused_by_the_engine", "does not have the path of a file"),
    ],
)
def test_each_item_must_come_in_time(call: str, says: str) -> None:
    command = [sys.executable, "-c", PROGRAM.replace("CALL", call)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout


def test_a_program_that_uses_the_timer_keeps_it() -> None:
    assert list(in_time(itertools.islice(itertools.count(), 3), 0.0, "It")) == [0, 1, 2]
