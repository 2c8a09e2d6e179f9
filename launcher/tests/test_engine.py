"""The engine and its HTTP, in one process: what is asked for, what is taken as an answer, and what is kept."""

import contextlib
import email.utils
import hashlib
import io
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tests.servers.faulty import ODD_RANGES, Answer, Fault, FaultyServer, FileServer, Request, ranged

from tunewright.errors import ExitCode, FetchError, SourceChanged
from tunewright.providers.limits import FetchLimits
from tunewright.providers.snapshots import Digest, Entry, Reader, Snapshot
from tunewright_launcher import journal as journal_
from tunewright_launcher.answers import retry_after
from tunewright_launcher.engine import fetch_snapshot
from tunewright_launcher.http import Http, HttpRequest, HttpSnapshot
from tunewright_launcher.journal import Journal
from tunewright_launcher.tasks import range_length

MIB = 1 << 20
LIMITS = FetchLimits(connections=4, stall=1.0, tries=3)
LARGE = bytes(range(256)) * (20 * MIB // 256)
CHUNKED = {"Transfer-Encoding": "chunked", "Content-Length": ""}


class Files(HttpSnapshot):
    """The files of a server, with digests; `sizes` says otherwise."""

    def __init__(
        self,
        server: FaultyServer,
        files: Mapping[str, bytes],
        *,
        headers: Mapping[str, str] | None = None,
        validators: Mapping[str, str] | None = None,
        digests: bool = True,
    ) -> None:
        super().__init__(Http(timeout=1))
        self.server = server
        self.files = files
        self.headers = headers or {}
        self.validators = validators or {}
        self.digests = digests

    def entries(self) -> Iterator[Entry]:
        for path, body in self.files.items():
            digest = Digest(algorithm="sha256", value=hashlib.sha256(body).hexdigest())
            digests = (digest,) if self.digests else ()
            yield Entry(path=path, size=len(body), digests=digests, validator=self.validators.get(path))

    def request(self, entry: Entry) -> HttpRequest:
        condition = {"If-Match": entry.validator} if entry.validator else {}
        return HttpRequest(url=f"{self.server.url}/{entry.path}", headers={**self.headers, **condition})


def serve(files: Mapping[str, bytes]) -> FileServer:
    return FileServer({f"/{path}": body for path, body in files.items()})


def fetched(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (made := tmp_path / "files").mkdir()
    return made


class Redirecting(FaultyServer):
    """Redirects everything to another server."""

    def __init__(self, target: Callable[[Request], str]) -> None:
        super().__init__()
        self.target = target

    def answer(self, request: Request) -> Answer:
        return Answer(status=302, headers={"Location": self.target(request)})


def test_a_large_file_is_asked_for_in_ranges_and_small_ones_whole(folder: Path) -> None:
    files = {"large": LARGE, "small": b"x" * 1000, "empty": b""}
    with serve(files) as server:
        records = dict(fetch_snapshot(Files(server, files), folder, limits=LIMITS))
        asked = sorted(request.headers.get("range", "") for request in server.log)
    assert fetched(folder) == files
    assert records["large"].sha256 == hashlib.sha256(LARGE).hexdigest()
    assert asked == ["", "bytes=0-8388607", "bytes=16777216-20971519", "bytes=8388608-16777215"]


def test_progress_is_told_up_to_the_last_byte(folder: Path) -> None:
    told: list[tuple[int, int | None]] = []
    with serve({"large": LARGE}) as server:
        fetch_snapshot(Files(server, {"large": LARGE}), folder, limits=LIMITS, report=lambda *now: told.append(now))
    assert told[-1] == (len(LARGE), len(LARGE))


def test_what_a_journal_has_is_not_asked_for_and_what_it_has_no_more_is_removed(tmp_path: Path, folder: Path) -> None:
    files = {"large": LARGE, "kept": b"kept", "gone": b"gone"}
    with serve(files) as server:
        list(fetch_snapshot(Files(server, files), folder, journal=Journal(tmp_path / "journal"), limits=LIMITS))
        files = {"large": LARGE, "kept": b"kept", "new": b"new"}
        server.files["/new"] = b"new"
        server.log.clear()
        journal = Journal(tmp_path / "journal")
        records = dict(fetch_snapshot(Files(server, files), folder, journal=journal, limits=LIMITS))
        assert [request.path for request in server.log] == ["/new"]
    assert fetched(folder) == files
    assert set(records) == set(files)


def test_a_credential_does_not_follow_a_redirect_to_another_host(folder: Path) -> None:
    files = {"large": LARGE, "small": b"small"}
    with serve(files) as store, Redirecting(lambda request: store.url + request.target) as server:
        snapshot = Files(server, files, headers={"Authorization": "Bearer secret", "X-Key": "secret"})
        fetch_snapshot(snapshot, folder, limits=FetchLimits(connections=1))
        assert all(request.headers["authorization"] == "Bearer secret" for request in server.log)
        assert store.log
        assert not [r for r in store.log if {"authorization", "x-key"} & set(r.headers)]
        assert len(server.log) < len(store.log), "a range should not cost a redirect each"
    assert fetched(folder) == files


def test_a_redirect_that_no_longer_works_is_asked_for_again(folder: Path) -> None:
    with serve({"large": LARGE}) as store, Redirecting(lambda request: store.url + request.target) as server:
        store.faults.append(Fault(path="large", status=403, times=2))
        store.faults[0].times = 0
        first = Files(server, {"large": LARGE})
        entry = next(first.entries())
        for expired in (False, True):
            store.faults[0].times = int(expired)
            with first.open(entry, 0, 1000) as reader:
                assert reader.readinto(memoryview(bytearray(1000))) == 1000
        assert len(server.log) == 2


def test_redirects_without_end_are_refused(folder: Path) -> None:
    with (
        Redirecting(lambda request: f"{request.target}x") as server,
        pytest.raises(FetchError, match="without end") as caught,
    ):
        fetch_snapshot(Files(server, {"a": b"a"}), folder, limits=LIMITS)
    assert caught.value.code is ExitCode.BAD_DATA


@pytest.mark.slow
@pytest.mark.parametrize("digests", [True, False], ids=["digests", "no digests"])
@pytest.mark.parametrize("odd", [key for key in ODD_RANGES if key != "wrapped"])
def test_whatever_becomes_of_ranges_the_file_is_right(folder: Path, odd: str, digests: bool) -> None:
    with serve({"large": LARGE}) as server:
        server.ranges = odd
        snapshot = Files(server, {"large": LARGE}, digests=digests)
        fetch_snapshot(snapshot, folder, limits=FetchLimits(connections=4, tries=1))
    assert fetched(folder) == {"large": LARGE}


def test_where_ranges_are_other_bytes_than_they_say_the_digest_decides(folder: Path) -> None:
    with serve({"large": LARGE}) as server:
        server.ranges = "wrapped"
        fetch_snapshot(Files(server, {"large": LARGE}), folder, limits=LIMITS)
    assert fetched(folder) == {"large": LARGE}


def test_a_server_that_knows_no_ranges_sends_a_file_once(folder: Path) -> None:
    files = {name: name.encode() * (10 * MIB) for name in "ab"}
    with serve(files) as server:
        server.ranges = "ignored"
        fetch_snapshot(Files(server, files), folder, limits=FetchLimits(connections=16))
        assert server.sent == 20 * MIB
        assert len(server.log) == 2
    assert fetched(folder) == files


def test_a_stream_that_breaks_off_begins_again_and_what_has_arrived_is_skipped(folder: Path) -> None:
    with serve({"large": LARGE}) as server:
        server.ranges = "ignored"
        server.faults += [Fault(path="large", cut_after=n * MIB) for n in (9, 12, 15)]
        limits = FetchLimits(connections=4, tries=2)
        told: list[tuple[int, int | None]] = []
        fetch_snapshot(Files(server, {"large": LARGE}), folder, limits=limits, report=lambda *now: told.append(now))
        assert len(server.log) == 4
    assert fetched(folder) == {"large": LARGE}
    assert told[-1] == (len(LARGE), len(LARGE))


class Ending(Snapshot):
    """Sends so many bytes of each range, and no more, as a careless reader does."""

    def __init__(self, body: bytes, most: int) -> None:
        self.body, self.most, self.opened = body, most, 0

    def entries(self) -> Iterator[Entry]:
        yield Entry(path="a", size=len(self.body))

    @contextlib.contextmanager
    def open(self, entry: Entry, start: int, stop: int) -> Iterator[Reader]:
        self.opened += 1
        yield Sending(self.body[start : min(stop, start + self.most)])


class Sending:
    """A reader of bytes."""

    digests: tuple[Digest, ...] = ()

    def __init__(self, body: bytes) -> None:
        self.stream = io.BytesIO(body)

    def readinto(self, buffer: memoryview, /) -> int:
        return self.stream.readinto(buffer)


@pytest.mark.parametrize("size", [1000, len(LARGE)], ids=["small", "large"])
def test_a_reader_without_bytes_is_tried_again_as_often_as_the_limits_say(folder: Path, size: int) -> None:
    snapshot, told = Ending(LARGE[:size], 0), []
    limits = FetchLimits(connections=1, tries=2)
    with pytest.raises(FetchError, match=f"none of the bytes 0 to .* of a, which has {size}") as caught:
        fetch_snapshot(snapshot, folder, limits=limits, retried=lambda error, *_: told.append(error.cause))
    assert caught.value.code is ExitCode.TRY_AGAIN
    assert (snapshot.opened, len(told)) == (2, 1)


def test_a_reader_that_ends_early_is_opened_where_it_ended(folder: Path) -> None:
    snapshot = Ending(LARGE, 3 * MIB)
    fetch_snapshot(snapshot, folder, limits=FetchLimits(connections=1, tries=1))
    assert fetched(folder) == {"a": LARGE}


def test_another_range_than_was_asked_for_is_not_taken(folder: Path) -> None:
    class Shifted(FileServer):
        def answer(self, request: Request) -> Answer:
            headers = {"Content-Range": f"bytes 5-{len(LARGE) - 1}/{len(LARGE)}"}
            return Answer(status=206, headers=headers, body=LARGE[5:])

    with Shifted({}) as server, pytest.raises(FetchError, match="another range"):
        fetch_snapshot(Files(server, {"large": LARGE}), folder, limits=LIMITS)


@pytest.mark.parametrize("now", [b"longer than it was", b"new"], ids=["size", "entity tag"])
def test_a_file_that_changed_after_it_was_listed_is_not_taken(folder: Path, now: bytes) -> None:
    with serve({"a": now}) as server, pytest.raises(SourceChanged, match="a "):
        fetch_snapshot(Files(server, {"a": b"old"}, validators={"a": '"old"'}), folder, limits=LIMITS)


def test_a_chunked_answer_that_is_longer_than_was_listed_is_not_cut_and_taken(folder: Path) -> None:
    longer = Answer(headers=CHUNKED, body=b"a\r\nNEWCONTENT\r\n0\r\n\r\n")
    with Breaking({}, longer, Fault()) as server, pytest.raises(SourceChanged, match="longer than the 5 bytes"):
        fetch_snapshot(Files(server, {"a": b"hello"}), folder, limits=LIMITS)


def test_a_connection_that_the_server_closed_while_idle_is_no_failure(folder: Path) -> None:
    class Closing(FileServer):
        def answer(self, request: Request) -> Answer:
            return ranged(self.files[request.path], request, {"Connection": "close"})

    files = {f"{i}": b"x" * 100 for i in range(50)}
    with Closing({f"/{p}": b for p, b in files.items()}) as server:
        fetch_snapshot(Files(server, files), folder, limits=FetchLimits(connections=2, tries=1))
    assert fetched(folder) == files


class Breaking(FileServer):
    """Answers once in a way that a fault cuts, stalls or ends; then as it should."""

    def __init__(self, files: Mapping[str, bytes], first: Answer, fault: Fault) -> None:
        super().__init__({f"/{path}": body for path, body in files.items()})
        self.first: Answer | None = first
        self.faults.append(fault)

    def answer(self, request: Request) -> Answer:
        first, self.first = self.first, None
        return first or super().answer(request)


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [
        Answer(status=503, body=bytes(1000)),
        Answer(status=302, headers={"Location": "/a"}, body=bytes(1000)),
        Answer(headers=CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"),
    ],
    ids=["503", "302", "the end of chunks"],
)
@pytest.mark.parametrize("how", ["cut_after", "end_after", "stall_after"])
def test_an_answer_that_breaks_off_beside_the_bytes_of_the_file_may_pass(folder: Path, first: Answer, how: str) -> None:
    fault = Fault(**{how: len(first.body) - 5})  # type: ignore[arg-type] # all three are numbers
    with Breaking({"a": b"hello"}, first, fault) as server:
        fetch_snapshot(Files(server, {"a": b"hello"}), folder, limits=LIMITS)
        assert len(server.log) > 1
    assert fetched(folder) == {"a": b"hello"}


@pytest.mark.slow
def test_a_drip_counts_as_a_stall(folder: Path) -> None:
    with serve({"a": b"x" * 2000}) as server:
        server.faults.append(Fault(path="a", rate=100))
        fetch_snapshot(Files(server, {"a": b"x" * 2000}), folder, limits=LIMITS)
        assert len(server.log) == 2, "it was asked for again"
    assert fetched(folder) == {"a": b"x" * 2000}


def test_a_rate_limit_holds_for_all_connections_together(folder: Path) -> None:
    files = {str(i): b"x" * 100_000 for i in range(8)}
    with serve(files) as server:
        began = time.monotonic()
        fetch_snapshot(Files(server, files), folder, limits=FetchLimits(connections=8, rate=800_000))
        assert time.monotonic() - began > 0.5  # 800 kB at 800 kB a second, less the first pieces
    assert fetched(folder) == files


def test_the_first_error_that_waiting_cannot_mend_ends_all_threads(folder: Path) -> None:
    files = {str(i): b"x" * 1000 for i in range(500)}
    with serve(files) as server:
        server.faults.append(Fault(path="/3$", status=403, times=-1))
        with pytest.raises(FetchError, match="403") as caught:
            fetch_snapshot(Files(server, files), folder, limits=LIMITS)
    assert caught.value.code is ExitCode.NO_PERMISSION


def test_a_proxy_of_the_environment_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Proxy(FileServer):
        def answer(self, request: Request) -> Answer:
            return Answer(body=self.files[request.target])

    with Proxy({"http://files.invalid/a": b"through"}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        snapshot = Files(proxy, {"a": b"through"})
        snapshot.request = lambda entry: HttpRequest(url=f"http://files.invalid/{entry.path}")  # type: ignore[method-assign]
        fetch_snapshot(snapshot, folder, limits=LIMITS)
    assert fetched(folder) == {"a": b"through"}


def test_nobody_listening_is_unavailable_and_the_message_has_no_query(folder: Path) -> None:
    with serve({}) as server:
        pass
    snapshot = Files(server, {"a": b"a"})
    snapshot.request = lambda entry: HttpRequest(url=f"{server.url}/a?X-Amz-Signature=secret")  # type: ignore[method-assign]
    with pytest.raises(FetchError, match="does not respond") as caught:
        fetch_snapshot(snapshot, folder, limits=FetchLimits(tries=1))
    assert caught.value.code is ExitCode.UNAVAILABLE
    assert "secret" not in str(caught.value)


def test_retry_after_is_a_number_or_a_date() -> None:
    def headers(value: str) -> email.message.Message:
        message = email.message.Message()
        message["Retry-After"] = value
        return message

    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert retry_after(headers("120")) == 120
    assert 55 < (retry_after(headers(in_a_minute)) or 0) <= 60
    assert retry_after(headers("soon")) is None


@pytest.mark.parametrize("size", [9 * MIB, 400 * MIB, 70 << 30])
def test_ranges_are_few_and_enough_for_all_connections(size: int) -> None:
    length = range_length(size, 16)
    assert 8 * MIB <= length <= 64 * MIB
    assert length == 8 * MIB or size // length >= 16


class Unknown(Files):
    """The files of a server, without digests."""

    def entries(self) -> Iterator[Entry]:
        for path, body in self.files.items():
            yield Entry(path=path, size=len(body))


class Packed(Unknown):
    """A file whose last bytes tell whether it is whole, and which is unpacked into another."""

    def finish(self, folder: Path) -> Mapping[str, str]:
        packed = (folder / "packed").read_bytes()
        (folder / "left").write_bytes(b"")
        if packed[-32:] != hashlib.sha256(packed[:-32]).digest():
            raise FetchError("damaged", remedy="", code=ExitCode.BAD_DATA)
        (folder / "left").unlink()
        (folder / "packed").unlink()
        (folder / "unpacked").write_bytes(packed[:-32])
        return {"unpacked": hashlib.sha256(packed[:-32]).hexdigest()}


PACKED = {"packed": LARGE + hashlib.sha256(LARGE).digest()}


def test_what_a_snapshot_finishes_is_recorded_without_being_read_again(folder: Path, tmp_path: Path) -> None:
    with serve(PACKED) as server:
        records = dict(fetch_snapshot(Packed(server, PACKED), folder, journal=Journal(tmp_path / "journal")))
    assert list(records) == ["unpacked"]
    assert (records["unpacked"].sha256, records["unpacked"].size) == (hashlib.sha256(LARGE).hexdigest(), len(LARGE))
    assert records["unpacked"].version is not None


def test_what_cannot_be_finished_is_fetched_once_more_where_no_digest_has_vouched_for_it(
    folder: Path, tmp_path: Path
) -> None:
    with serve(PACKED) as server:
        server.faults.append(Fault(path="packed", flip=100))
        fetch_snapshot(Packed(server, PACKED), folder, journal=Journal(tmp_path / "journal"))
        assert fetched(folder) == {"unpacked": LARGE}


def test_what_can_never_be_finished_is_not_kept_for_the_next_process(folder: Path, tmp_path: Path) -> None:
    with serve(PACKED) as server:
        server.faults.append(Fault(path="packed", flip=100, times=-1))
        with pytest.raises(FetchError, match="damaged"):
            fetch_snapshot(Packed(server, PACKED), folder, journal=Journal(tmp_path / "journal"))
        server.faults.clear()
        fetch_snapshot(Packed(server, PACKED), folder, journal=Journal(tmp_path / "journal"))
        assert fetched(folder) == {"unpacked": LARGE}


def test_a_resumed_file_that_was_damaged_before_is_mended_at_once(folder: Path, tmp_path: Path) -> None:
    files = {"large": LARGE}
    with serve(files) as server:
        snapshot = Files(server, files)
        [entry] = snapshot.entries()
        (folder / "large").write_bytes(bytes(MIB))
        Journal(tmp_path / "journal").wrote(entry, 0, MIB)
        list(fetch_snapshot(snapshot, folder, journal=Journal(tmp_path / "journal"), limits=LIMITS))
    assert fetched(folder) == files


@pytest.mark.parametrize("there", [0, MIB, len(LARGE)])
def test_after_a_new_start_of_the_machine_a_large_file_without_a_digest_is_fetched_whole(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: int
) -> None:
    files = {"large": LARGE, "small": b"small", "empty": b""}
    with serve(files) as server:
        snapshot = Unknown(server, files)
        before = Journal(tmp_path / "journal")
        for entry in snapshot.entries():
            size = min(there, entry.size)
            (folder / entry.path).write_bytes(bytes(size))  # what was written has not got to the disk
            if there:
                before.wrote(entry, 0, size)
            if there >= entry.size:
                before.finished(entry, sha256="", verified="size")
        monkeypatch.setattr(journal_, "_boot_id", lambda: "another")
        records = dict(fetch_snapshot(snapshot, folder, journal=Journal(tmp_path / "journal"), limits=LIMITS))
        assert fetched(folder) == files
        assert set(records) == set(files)
        server.log.clear()
        list(fetch_snapshot(snapshot, folder, journal=Journal(tmp_path / "journal"), limits=LIMITS))
        assert not server.log, "what was fetched since then counts"


def attempt(snapshot: Files, folder: Path) -> None:
    """Fetch one file after another, the largest first, with a journal; it may break off."""
    journal = Journal(folder.with_name("journal"))
    with contextlib.closing(journal), contextlib.suppress(FetchError):
        list(fetch_snapshot(snapshot, folder, journal=journal, limits=FetchLimits(connections=1)))


@pytest.mark.parametrize("size", [1000, len(LARGE)])
def test_a_version_that_another_one_has_written_over_does_not_count(folder: Path, size: int) -> None:
    for letter, breaks in ((b"1", 1), (b"2", 1), (b"1", 0)):
        files = {"a": letter * size, "b": b"b"}
        with serve(files) as server:
            server.faults.append(Fault(path="b", status=403, times=breaks))
            attempt(Files(server, files), folder)
        assert fetched(folder)["a"] == files["a"]
    assert fetched(folder) == files


def test_a_file_that_lost_its_bytes_counts_no_more_when_it_is_begun_again(folder: Path) -> None:
    files = {"large": LARGE}
    with serve(files) as server:
        attempt(Files(server, files), folder)
        (folder / "large").write_bytes(b"")
        server.faults += [Fault(path="large", cut_after=MIB), Fault(path="large", status=403)]
        attempt(Files(server, files), folder)
        assert fetched(folder) != files
        attempt(Files(server, files), folder)
    assert fetched(folder) == files


def test_what_an_empty_journal_does_not_tell_of_is_removed_and_without_a_journal_nothing_is(folder: Path) -> None:
    files = {"a": b"a", "b/c": b"c"}
    (folder / "stray").mkdir()
    (folder / "stray/part").write_bytes(b"part")
    (folder / "link").symlink_to("stray")
    with serve(files) as server:
        fetch_snapshot(Files(server, files), folder)
        assert (folder / "stray/part").exists()
        attempt(Files(server, files), folder)
    assert fetched(folder) == files
    assert not (folder / "link").is_symlink()
