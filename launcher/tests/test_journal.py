"""The journal: what a killed process had on the disk, and nothing that was not there."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.providers.snapshots import Digest, Entry
from tunewright_launcher import journal as journal_
from tunewright_launcher.journal import FileRecord, Journal, missing

ENTRY = Entry(path="a/b.bin", size=100, digests=(Digest(algorithm="sha256", value="00"),), validator='"v1"')
CHANGED = Entry(path="a/b.bin", size=100, digests=ENTRY.digests, validator='"v2"')


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def reopened(file: Path) -> Journal:
    return Journal(file)


def test_ranges_are_there_after_a_kill(file: Path) -> None:
    first = Journal(file)
    first.wrote(ENTRY, 0, 30)
    first.wrote(ENTRY, 30, 60)
    first.wrote(ENTRY, 80, 100)
    second = reopened(file)
    assert sorted(second.ranges(ENTRY)) == [(0, 60), (80, 100)]
    assert second.resumed


def test_a_finished_file_is_done_and_its_record_comes_back(file: Path) -> None:
    Journal(file).finished(ENTRY, sha256="ab", verified="sha256")
    second = reopened(file)
    assert second.expects(ENTRY)
    [(path, record)] = second.records()
    assert (path, record.size, record.sha256, record.verified) == ("a/b.bin", 100, "ab", "sha256")


def test_another_version_of_a_file_starts_from_nothing(file: Path) -> None:
    first = Journal(file)
    first.wrote(ENTRY, 0, 30)
    first.finished(ENTRY, sha256="ab", verified="sha256")
    second = reopened(file)
    assert not second.expects(CHANGED)
    assert second.ranges(CHANGED) == []
    assert list(second.records()) == [], "the finished version is not wanted any more"


@pytest.mark.parametrize("version", [ENTRY, CHANGED])
def test_what_is_written_over_by_another_version_is_forgotten(file: Path, version: Entry) -> None:
    first = Journal(file)
    first.wrote(version, 0, 30)
    if version is ENTRY:
        first.finished(version, sha256="ab", verified="sha256")
    other = CHANGED if version is ENTRY else ENTRY
    assert not reopened(file).expects(other)
    again = reopened(file)
    assert not again.expects(version)
    assert again.ranges(version) == []


def test_half_a_line_hides_nothing_but_itself(file: Path) -> None:
    Journal(file).wrote(ENTRY, 0, 30)
    with file.open("a") as stream:
        stream.write('{"of":"12')
    reopened(file).wrote(ENTRY, 30, 60)
    assert reopened(file).ranges(ENTRY) == [(0, 60)]


def test_what_was_forgotten_is_fetched_again_and_recorded_once(file: Path) -> None:
    first = Journal(file)
    first.finished(ENTRY, sha256="bad", verified="size")
    first.forget(ENTRY)
    assert not reopened(file).expects(ENTRY)
    again = reopened(file)
    again.expects(ENTRY)
    again.finished(ENTRY, sha256="good", verified="sha256")
    assert [record.sha256 for _, record in again.records()] == ["good"]


def test_what_an_earlier_process_has_written_can_be_forgotten_at_once(file: Path) -> None:
    Journal(file).wrote(ENTRY, 0, 30)
    second = reopened(file)
    second.expects(ENTRY)
    second.forget(ENTRY)
    assert second.ranges(ENTRY) == []
    Journal(file).finished(ENTRY, sha256="ab", verified="size")
    third = reopened(file)
    assert third.expects(ENTRY)
    third.forget_all()
    assert not third.expects(ENTRY)


def test_after_a_new_start_of_the_machine_nothing_counts_as_verified(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Journal(file).finished(ENTRY, sha256="ab", verified="sha256")
    monkeypatch.setattr(journal_, "_boot_id", lambda: "another")
    second = reopened(file)
    assert not second.same_boot(ENTRY)
    assert not second.expects(ENTRY)
    assert second.ranges(ENTRY) == [(0, 100)]
    second.forget(ENTRY)
    second.wrote(ENTRY, 0, 10)
    third = reopened(file)
    assert third.same_boot(ENTRY)
    assert third.ranges(ENTRY) == [(0, 10)]


def test_a_record_reads_what_it_wrote() -> None:
    record = FileRecord(size=1, sha256="ab", verified="md5", version="cd")
    assert FileRecord.of({"size": 1, "sha256": "ab", "verified": "md5", "version": "cd", "more": 1}) == record


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)).map(sorted)), st.integers(0, 200))
def test_gaps_are_exactly_the_bytes_that_no_range_has(ranges: list[list[int]], size: int) -> None:
    pairs = [(a, b) for a, b in ranges if b <= size]
    there = {i for a, b in pairs for i in range(a, b)}
    gaps = missing(pairs, size)
    assert {i for a, b in gaps for i in range(a, b)} == set(range(size)) - there
    assert all(a < b for a, b in gaps)


@pytest.mark.parametrize(("latest", "recorded"), [(60, []), (0, [(0, 10)])], ids=["soon", "late"])
def test_a_range_is_recorded_in_steps_and_what_is_left_when_it_breaks_off(
    file: Path, monkeypatch: pytest.MonkeyPatch, latest: float, recorded: list[tuple[int, int]]
) -> None:
    monkeypatch.setattr(journal_, "_LATEST", latest)
    monkeypatch.setattr(journal_, "_TOGETHER", 50)
    with contextlib.suppress(KeyboardInterrupt), Journal(file).recording(ENTRY, 0) as recording:
        recording.wrote(10)
        assert reopened(file).ranges(ENTRY) == recorded
        recording.wrote(60)
        assert reopened(file).ranges(ENTRY) == [(0, 60)]
        recording.wrote(70)
        raise KeyboardInterrupt
    assert reopened(file).ranges(ENTRY) == [(0, 70)]
