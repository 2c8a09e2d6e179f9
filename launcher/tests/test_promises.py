"""Snapshots that break their contract: each ends with an error that says how, and nothing wrong is stored."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from tunewright.errors import ExitCode, FetchError
from tunewright.providers.limits import FetchLimits
from tunewright.providers.snapshots import Digest, Entry, Snapshot
from tunewright_launcher.engine import fetch_snapshot
from tunewright_launcher.promises import Calls, checked_snapshot

DATA = bytes(range(256)) * 4
SHA256 = hashlib.sha256(DATA).hexdigest()
GOOD = Entry(path="a", size=len(DATA))
LIMITS = FetchLimits(connections=2, tries=2)


@attrs.define
class Bytes:
    """A reader; `says` is added to each count."""

    data: bytes
    digests: Any = ()
    says: Any = 0

    def readinto(self, buffer: memoryview) -> Any:
        count = min(len(buffer), len(self.data))
        buffer[:count], self.data = self.data[:count], self.data[count:]
        return count + self.says if count and self.says is not None else self.says or count or None


@attrs.define
class Memory(Snapshot):
    """Entries, and a reader for all of them."""

    listed: Any = (GOOD,)
    digests: Any = ()
    says: Any = 0
    made: Any = None

    def entries(self) -> Iterator[Any]:
        yield from self.listed

    def open(self, entry: Entry, start: int, stop: int) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext(Bytes(DATA[start:stop], self.digests, self.says))

    def finish(self, folder: Path) -> Any:
        return self.made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (made := tmp_path / "files").mkdir()
    return made


def digest(**fields: Any) -> Entry:
    return attrs.evolve(GOOD, digests=(Digest(**{"algorithm": "sha256", "value": SHA256, **fields}),))


def test_what_keeps_its_word_is_stored(folder: Path) -> None:
    made = {"a": SHA256.upper()}
    records = dict(fetch_snapshot(Memory(listed=[digest(value=SHA256.upper())], made=made), folder, limits=LIMITS))
    assert records["a"].sha256 == SHA256


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"says": 10}, "readinto() of a says that it has read 1034 bytes into a buffer of 1024"),
        ({"says": -5000}, "says that it has read -3976 bytes"),
        ({"listed": [{"path": "a"}]}, "which is not an Entry"),
        ({"listed": [Entry(path=Path("a"), size=1)]}, "whose path is PosixPath('a')"),  # type: ignore[arg-type]
        ({"listed": [Entry(path="a", size=None)]}, "'a' has None bytes"),  # type: ignore[arg-type]
        ({"listed": [Entry(path="a", size=-1)]}, "'a' has -1 bytes"),
        ({"listed": [Entry(path="a", size=1.0)]}, "'a' has 1.0 bytes"),  # type: ignore[arg-type]
        ({"listed": [attrs.evolve(GOOD, digests=(SHA256,))]}, "which is not a Digest"),
        ({"listed": [digest(value="3fHLY1WjS9HBjSI=")]}, "which is not 64 hexadecimal digits"),
        ({"listed": [digest(value=f"sha256:{SHA256}")]}, "which is not 64 hexadecimal digits"),
        ({"listed": [digest(value=None)]}, "the sha256 digest None"),
        ({"listed": [digest(algorithm="sha3", value="0" * 128)]}, "of the kind 'sha3', which is not one of sha256"),
        ({"listed": [digest(part_size=0)]}, "a digest of parts of 0 bytes"),
        ({"digests": (Digest(algorithm="md5", value="abc"),)}, "The reader of a has the md5 digest 'abc'"),
        ({"made": ["a"]}, "it has to return a mapping"),
        ({"made": {"../a": SHA256}}, "names '../a', which is not the path of a file within the folder"),
        ({"made": {"/etc/hostname": SHA256}}, "is not the path of a file within the folder"),
        ({"made": {"b": SHA256}}, "names 'b', which is not a file in the folder"),
        ({"made": {"a": "0"}}, "which is not 64 hexadecimal digits"),
    ],
)  # fmt: skip
def test_a_broken_promise_is_named(broken: Mapping[str, Any], says: str, folder: Path) -> None:
    with pytest.raises(FetchError) as caught:
        fetch_snapshot(Memory(**broken), folder, limits=LIMITS)
    assert says in caught.value.cause
    assert caught.value.code is ExitCode.SOFTWARE
    assert "tell its author" in caught.value.remedy


def test_a_reader_without_digests_is_read(folder: Path) -> None:
    class Bare(Memory):
        def open(self, entry: Entry, start: int, stop: int) -> contextlib.AbstractContextManager[Any]:
            reader = Bytes(DATA[start:stop])
            return contextlib.nullcontext(type("Reader", (), {"readinto": lambda _, buffer: reader.readinto(buffer)})())

    assert dict(fetch_snapshot(Bare(), folder, limits=LIMITS))["a"].sha256 == SHA256


@pytest.mark.parametrize(("revision", "space", "says"), [(7, 0, "revision is 7"), (None, None, "extra_space is None")])
def test_attributes_of_a_snapshot_are_checked(revision: Any, space: Any, says: str, folder: Path) -> None:
    snapshot = Memory()
    snapshot.revision, snapshot.extra_space = revision, space
    with pytest.raises(FetchError, match=says):
        fetch_snapshot(checked_snapshot(snapshot), folder, limits=LIMITS)


def test_what_is_no_snapshot_is_refused() -> None:
    with pytest.raises(FetchError, match="which is not a Snapshot"):
        checked_snapshot(None)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["open", "readinto"])
def test_a_call_that_never_returns_ends_the_download(method: str, folder: Path) -> None:
    over = threading.Event()

    class Hanging(Memory):
        def open(self, entry: Entry, start: int, stop: int) -> contextlib.AbstractContextManager[Any]:
            if method == "open":
                over.wait()
            reader = type("Reader", (), {"digests": (), "readinto": lambda _, buffer: over.wait()})()
            return contextlib.nullcontext(reader)

    began = time.monotonic()
    try:
        with pytest.raises(FetchError, match=rf"{method}\(\) of a has not returned for 1 s") as caught:
            fetch_snapshot(Hanging(), folder, limits=attrs.evolve(LIMITS, listing=1.0))
    finally:
        over.set()
    assert caught.value.code is ExitCode.TRY_AGAIN
    assert time.monotonic() - began < 10


def test_a_call_that_returns_is_not_waited_for() -> None:
    calls = Calls(limit=0)
    calls.begins("open", GOOD)
    assert calls.hangs(threading.get_ident())
    calls.ends()
    assert not calls.hangs(threading.get_ident())
