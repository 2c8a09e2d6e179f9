"""A stream: whatever the pieces, what is on the disk is hashed once, in order, and an error of either thread ends it."""

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.providers.snapshots import Digest, Entry
from tunewright_launcher.digests import SIZE, Checks
from tunewright_launcher.stream import LargeStream, Stream
from tunewright_launcher.transfer import Stopped


def sent(stream: Stream, pieces: Iterable[bytes], *digests: Digest) -> Checks:
    with stream:
        position = 0
        for piece in pieces:
            stream.sink(memoryview(piece), position, digests)
            position += len(piece)
    return stream.checks


def sha256(data: bytes) -> Digest:
    return Digest(algorithm="sha256", value=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=60), st.integers(1, 100))
def test_what_is_written_is_what_was_sent_and_it_is_hashed_whatever_the_pieces(
    large: bool, pieces: list[bytes], piece: int
) -> None:
    data = b"".join(pieces)
    entry = Entry(path="a", size=len(data))
    with TemporaryFile() as file:
        handle = file.fileno()
        stream = LargeStream(handle, entry, (), lambda: False, piece) if large else Stream(handle, entry, ())
        checks = sent(stream, pieces, *([sha256(data)] if data else []))
        assert os.pread(handle, len(data) + 1, 0) == data
    assert checks.sha256 == sha256(data).value
    assert checks.verify("a") == ("sha256" if data else SIZE)


@pytest.fixture
def write_only(tmp_path: Path) -> Iterator[int]:
    handle = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    yield handle
    os.close(handle)


@pytest.mark.parametrize("count", [2, 100], ids=["at the end", "while it is sent"])
def test_an_error_of_the_thread_that_hashes_is_raised(write_only: int, count: int) -> None:
    told: list[int] = []

    def pieces() -> Iterator[bytes]:
        for position in range(count):
            told.append(position)
            yield b"x"

    stream = LargeStream(write_only, Entry(path="a", size=count), (), lambda: False, 1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        sent(stream, pieces())
    assert len(told) <= 33
    assert not hashing()


def test_an_error_of_the_source_does_not_wait_for_the_hashes(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise ConnectionError

    with (tmp_path / "file").open("w+b") as file:
        stream = LargeStream(file.fileno(), Entry(path="a", size=9), (), lambda: True, 1)
        with pytest.raises(ConnectionError):
            sent(stream, broken())
    assert not hashing()


def test_what_is_not_hashed_when_another_thread_ends_the_download_counts_as_no_digest(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        stream = LargeStream(file.fileno(), Entry(path="a", size=9), (), lambda: True, 1)
        with pytest.raises(Stopped):
            sent(stream, [b"x" * 9])
    assert not hashing()


def hashing() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fetch-hash")]
