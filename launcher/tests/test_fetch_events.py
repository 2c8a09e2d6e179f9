"""What a fetch says while it waits: for an answer, for a source that is away, for another worker."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tests.servers.faulty import Fault
from tests.servers.served import FetchStep, IndexedServer

from tunewright.errors import ExitCode, FetchError
from tunewright.events import Event, Phase, Progress, Retry
from tunewright.providers.limits import FetchLimits
from tunewright_launcher.fetch import _Told

Step = Callable[..., FetchStep]
FILES = {"/config.json": b"{}", "/weights.bin": bytes(1 << 20)}


@pytest.fixture
def server() -> Iterator[IndexedServer]:
    with IndexedServer(FILES) as running:
        yield running


def first(process: subprocess.Popen[str], name: str) -> tuple[dict[str, object], float]:
    """The first event of a name, and the seconds since the line before it."""
    assert process.stdout
    before = time.monotonic()
    for line in process.stdout:
        now = time.monotonic()
        event = json.loads(line)
        if event["event"] == name:
            return event, now - before
        before = now
    raise AssertionError(f"no {name}")


def test_a_file_that_a_server_refuses_for_a_while_is_told_with_its_cause_at_once(
    server: IndexedServer, fetch_step: Step
) -> None:
    server.faults.append(Fault(path="weights", status=503, times=2))
    process = fetch_step(server).start()
    listing, _ = first(process, "phase")
    assert (listing["name"], str(listing["text"]).startswith("model: asking served://")) == ("list", True)
    retry, seconds = first(process, "retry")
    assert (retry["about"], retry["attempt"]) == ("model", 1)
    assert "503" in str(retry["cause"])
    assert 0 < float(str(retry["seconds"])) < 3
    assert seconds < 3
    assert first(process, "fetched")
    process.communicate(timeout=30)


def test_a_download_that_stands_still_is_told_once_and_never_in_the_place_of_a_cause() -> None:
    events: list[Event] = []
    told = _Told("model", events.append, FetchLimits(stall=30))
    for numbers in ((0, None), (0, None), (1, 9), (1, 9), (1, 9), (2, 9)):
        told.report(*numbers)
    told.retried(FetchError("It is away.", remedy="Wait.", code=ExitCode.UNAVAILABLE), 1, 0.5)
    told.report(2, 9)
    told.report(9, 9)
    told.report(9, 9)
    assert [type(event) for event in events] == [Progress, Progress, Phase, Progress, Retry, Progress]


@pytest.mark.slow
def test_a_source_that_is_away_as_a_whole_is_told_with_each_try_and_without_the_token(
    server: IndexedServer, fetch_step: Step
) -> None:
    server.faults.append(Fault(path="index", status=503, times=-1))
    process = fetch_step(server).start({"SERVED_TOKEN": "s3cr3t-s3cr3t"})
    (one, seconds), (two, _) = (first(process, "retry") for _ in range(2))
    process.terminate()
    out, err = process.communicate(timeout=30)
    assert seconds < 3
    assert (one["attempt"], two["attempt"]) == (1, 2)
    assert "The index is away (503)" in str(one["cause"])
    assert "s3cr3t" not in f"{one} {two} {out} {err}"


def test_connections_that_fail_again_and_again_are_told_of_once_a_second() -> None:
    told: list[Event] = []
    retries = _Told("model", told.append, FetchLimits()).retried
    error = FetchError("It is away.", remedy="Wait.", code=ExitCode.UNAVAILABLE)
    threads = [threading.Thread(target=lambda: [retries(error, n, 0.5) for n in range(1, 100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told[0] == Retry(about="model", cause="It is away.", attempt=1, seconds=0.5)
    assert len(told) < 5


@pytest.mark.slow
def test_a_worker_that_waits_for_another_one_says_so(server: IndexedServer, fetch_step: Step) -> None:
    server.faults.append(Fault(path="weights", rate=150_000))
    one = fetch_step(server).start()
    first(one, "progress")
    other = fetch_step(server, "pod-1").start()
    event, _ = first(other, "phase")
    event, _ = first(other, "phase")
    assert event == {
        "event": "phase",
        "name": "wait",
        "text": "model: waiting for another worker, which is fetching it",
    }
    assert first(other, "fetched")[0]["cached"] is True
    for process in (one, other):
        process.communicate(timeout=60)
