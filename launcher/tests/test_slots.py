"""Slots: what a crash leaves, and what a commit leaves to those who still read what it replaces."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunewright.errors import ExitCode, FetchError
from tunewright.runner.checkpoints import MARKER
from tunewright_launcher import slots
from tunewright_launcher.journal import FileRecord
from tunewright_launcher.slots import CompletionMarker, Slot, Staging

REQUEST = "0123456789abcdef" * 4


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    return Slot(tmp_path / "volume", "model")


def records(folder: Path) -> Iterator[tuple[str, FileRecord]]:
    for path in sorted(folder.iterdir()):
        body = path.read_bytes()
        yield path.name, FileRecord(size=len(body), sha256=hashlib.sha256(body).hexdigest())


def commit(staging: Staging, text: str) -> None:
    (staging.files / "a").write_text(text)
    marker = CompletionMarker(provider="p", uri="p://x", request=REQUEST, revision=text, fetched_at="")
    staging.commit(marker, records(staging.files))


def put(slot: Slot, text: str) -> None:
    with slot.staged(REQUEST, replace=True) as staging:
        assert staging is not None
        commit(staging, text)


class PowerCut(BaseException):
    """The machine stops."""


def cut(*_: object) -> None:
    raise PowerCut


def test_a_marker_is_among_the_files_only_once_they_are_on_the_disk(
    slot: Slot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "_flush", cut)
    with pytest.raises(PowerCut):
        put(slot, "hello")
    assert list(slot.workspace.rglob("files/a"))
    assert not list(slot.workspace.rglob(f"files/{MARKER}"))


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_where_a_slot_is_to_be_is_refused(slot: Slot, tmp_path: Path, kind: str) -> None:
    slot.workspace.mkdir()
    if kind == "file":
        slot.folder.touch()
    else:
        (tmp_path / "elsewhere").mkdir()
        slot.folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FetchError, match=f"model is a {kind}, where a folder") as caught:
        put(slot, "one")
    assert caught.value.code is ExitCode.USAGE


def test_what_was_marked_before_a_crash_is_put_in_place(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "_swap_in", cut)
        with pytest.raises(PowerCut):
            put(slot, "hello")
    with slot.staged(REQUEST) as staging:
        assert staging is not None
        assert staging.recover()
    assert (slot.folder / "a").read_text() == "hello"


@pytest.mark.parametrize("left", ["", "\0" * 5], ids=["empty", "zeros"])
def test_what_was_marked_and_is_not_what_the_marker_says_is_fetched_again(
    slot: Slot, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "_swap_in", cut)
        with pytest.raises(PowerCut):
            put(slot, "hello")
    [damaged] = slot.workspace.rglob("files/a")
    damaged.write_text(left)
    with slot.staged(REQUEST) as staging:
        assert staging is not None
        assert not staging.recover()
        assert list(staging.files.iterdir()) == []
        commit(staging, "hello")
    assert (slot.folder / "a").read_text() == "hello"


def test_what_a_killed_removal_has_left_goes_with_the_next_fetch(slot: Slot) -> None:
    doomed = slot.workspace / ".staging" / "doomed-0011223344556677"
    doomed.mkdir(parents=True)
    (doomed / "big").write_bytes(bytes(1000))
    put(slot, "hello")
    assert not (slot.workspace / ".staging").exists()


def test_a_job_reads_on_in_what_another_one_has_replaced(slot: Slot) -> None:
    put(slot, "old")
    mounted = os.open(slot.folder, os.O_RDONLY)  # a mount holds on to the folder, as this does
    try:
        put(slot, "new")
        assert sorted(os.listdir(mounted)) == ["a", MARKER]  # noqa: PTH208 - a descriptor
        put(slot, "newer")
        assert os.listdir(mounted) == []  # noqa: PTH208 - as above
    finally:
        os.close(mounted)
    assert (slot.folder / "a").read_text() == "newer"
    assert (slot.former / "a").read_text() == "new"


@pytest.mark.parametrize("renames", [2, 3, 4, 5])
def test_a_commit_over_another_one_that_is_killed_between_its_renames_is_gone_on_with(
    slot: Slot, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    put(slot, "old")
    rename, left = Path.rename, renames

    def count(path: Path, target: Path) -> Path:
        nonlocal left
        if not left:
            raise PowerCut
        left -= 1
        return rename(path, target)

    with slot.staged(REQUEST, replace=True) as staging:
        assert staging is not None
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", count)
            with pytest.raises(PowerCut):
                commit(staging, "new")
    with slot.staged(REQUEST, replace=True) as staging:
        assert staging is not None
        if not staging.recover():
            commit(staging, "newer")
    expected = "new" if renames <= 3 else "newer"  # from then on it is in its place
    assert (slot.folder / "a").read_text() == expected
    assert [path.name for path in (slot.workspace / ".staging").iterdir()] == ["model-former"]
