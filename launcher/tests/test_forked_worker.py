"""The second process for small files: it does its part, its errors count, and its death costs nothing."""

import hashlib
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import attrs
import psutil
import pytest
from tests.servers.faulty import Fault, FileServer

from tunewright.errors import ExitCode, FetchError
from tunewright.providers.limits import FetchLimits
from tunewright.providers.snapshots import Digest, Entry
from tunewright_launcher.engine import fetch_snapshot
from tunewright_launcher.forked_worker import Answer, ForkedWorker
from tunewright_launcher.http import Http, HttpRequest, HttpSnapshot

MIB = 1 << 20
FILES = {f"small/{i}": f"file {i}".encode() * 50 for i in range(300)}
LIMITS = FetchLimits(connections=4, processes=2, stall=5.0, tries=3)


class Files(HttpSnapshot):
    forkable = True

    def __init__(self, server: FileServer) -> None:
        super().__init__(Http())
        self.url = server.url

    def entries(self) -> Iterator[Entry]:
        for path, body in FILES.items():
            digest = Digest(algorithm="sha256", value=hashlib.sha256(body).hexdigest())
            yield Entry(path=path, size=len(body), digests=(digest,))

    def request(self, entry: Entry) -> HttpRequest:
        return HttpRequest(url=f"{self.url}/{entry.path}")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer({f"/{path}": body for path, body in FILES.items()}) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (made := tmp_path / "files").mkdir()
    return made


def is_whole(folder: Path) -> bool:
    return all((folder / path).read_bytes() == body for path, body in FILES.items())


def children() -> list[psutil.Process]:
    return psutil.Process().children()


def test_two_processes_bring_every_file_once(server: FileServer, folder: Path) -> None:
    told: list[tuple[int, int | None]] = []
    before = children()
    records = dict(fetch_snapshot(Files(server), folder, limits=LIMITS, report=lambda *now: told.append(now)))
    assert is_whole(folder)
    assert set(records) == set(FILES)
    assert sorted(request.path[1:] for request in server.log) == sorted(FILES)
    assert told[-1][0] == sum(map(len, FILES.values()))
    assert children() == before


def test_an_error_of_the_second_process_ends_the_fetch_with_its_code(server: FileServer, folder: Path) -> None:
    server.faults.append(Fault(path="small", status=403, times=-1))
    before = children()
    with pytest.raises(FetchError, match="403") as caught:
        fetch_snapshot(Files(server), folder, limits=LIMITS)
    assert caught.value.code is ExitCode.NO_PERMISSION
    assert children() == before


@pytest.mark.slow
def test_an_error_of_the_first_process_does_not_wait_for_the_second(folder: Path) -> None:
    with FileServer({"/large": b"x" * MIB} | {f"/{path}": body for path, body in FILES.items()}) as server:
        server.faults += [Fault(path="large", status=403, delay=0.5), Fault(path="small", stall_after=1, times=-1)]

        class WithLarge(Files):
            def entries(self) -> Iterator[Entry]:
                yield Entry(path="large", size=MIB)
                yield from super().entries()

        before, began = children(), time.monotonic()
        with pytest.raises(FetchError, match="403"):
            fetch_snapshot(WithLarge(server), folder, limits=attrs.evolve(LIMITS, stall=2.0, tries=8))
        # The first process gives its own connections up after 2 seconds; the second one's tries would take minutes.
        assert time.monotonic() - began < 20
        assert children() == before


@pytest.mark.slow
def test_what_a_killed_second_process_had_is_done_by_the_first(server: FileServer, folder: Path) -> None:
    server.faults.append(Fault(path="small", delay=0.01, times=-1))
    before = {child.pid for child in children()}
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not killed:
            if len(server.log) > 40 and (new := [c.pid for c in children() if c.pid not in before]):
                os.kill(new[0], signal.SIGKILL)
                killed.append(new[0])
            time.sleep(0.005)

    thread = threading.Thread(target=kill)
    thread.start()
    fetch_snapshot(Files(server), folder, limits=LIMITS)
    thread.join()
    assert killed
    assert is_whole(folder)


@pytest.mark.slow
def test_an_answer_that_is_cut_off_counts_as_the_helpers_death(server: FileServer, folder: Path) -> None:
    server.faults.append(Fault(path="small", delay=0.01, times=-1))

    class Cut(ForkedWorker):
        answers = 0

        def receive(self) -> list[Answer]:
            Cut.answers += 1
            if Cut.answers == 3:
                whole, self._stream = self._stream, BytesIO(pickle.dumps([("small/1", None)])[:-4])
                try:
                    return super().receive()
                finally:
                    self._stream = whole
            return super().receive()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tunewright_launcher.forked_worker.ForkedWorker", Cut)
        fetch_snapshot(Files(server), folder, limits=LIMITS)
    assert Cut.answers == 3
    assert is_whole(folder)


def test_a_snapshot_that_learns_while_it_lists_is_read_by_one_process(server: FileServer, folder: Path) -> None:
    class Learning(Files):
        forkable = False

        def entries(self) -> Iterator[Entry]:
            self.listed: list[str] = []
            for entry in super().entries():
                self.listed.append(entry.path)
                yield entry

        def request(self, entry: Entry) -> HttpRequest:
            return HttpRequest(url=f"{self.url}/{self.listed[self.listed.index(entry.path)]}")

    fetch_snapshot(Learning(server), folder, limits=LIMITS)
    assert is_whole(folder)
