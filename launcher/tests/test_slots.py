"""Slots: what a crash leaves, and what a commit leaves to those who still read what it replaces."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunewright.runner import MARKER
from tunewright_launcher import slots
from tunewright_launcher.journal import FileRecord
from tunewright_launcher.slots import Marker, Slot, Staging

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
    marker = Marker(provider="p", uri="p://x", request=REQUEST, revision=text, fetched_at="")
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
