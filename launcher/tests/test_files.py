"""The files that a fetch writes, and only where they belong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright.errors import ExitCode, FetchError
from tunewright_launcher import files
from tunewright_launcher.files import Files
from tunewright_launcher.journal import short


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (made := tmp_path / "files").mkdir()
    return made


def create(files: Files, path: str) -> None:
    with files.create(path):
        pass


WAYS = {
    "create": lambda files: create(files, "a/b"),
    "create beside": lambda files: create(files, "new/b"),
    "create_large": lambda files: files.create_large("a/b", 3),
    "keep_only": lambda files: files.keep_only({short("other")}),
}


@pytest.mark.parametrize("successor", [False, True])
@pytest.mark.parametrize("write", WAYS.values(), ids=WAYS)
def test_a_folder_that_was_taken_over_is_left_alone(
    folder: Path, tmp_path: Path, write: Callable[[Files], None], successor: bool
) -> None:
    with Files(folder) as files:
        create(files, "a/b")
        folder.rename(tmp_path / "slot")
        (tmp_path / "slot/a/b").write_bytes(b"whole")
        if successor:
            folder.mkdir()
        with pytest.raises(FetchError, match=r"taken .* over") as caught:
            write(files)
    assert caught.value.code is ExitCode.TRY_AGAIN
    assert (tmp_path / "slot/a/b").read_bytes() == b"whole"
    assert {path.name for path in tmp_path.rglob("*")} == {"slot", "a", "b", *(["files"] if successor else [])}


def test_small_files_are_flushed_on_their_way_once_there_are_many(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[int, int]] = []
    monkeypatch.setattr(files, "begin_to_flush", lambda _, start, stop: flushed.append((start, stop)))
    monkeypatch.setattr(files, "_LEFT", 250)
    with Files(folder) as written:
        for size in (100, 150, 7, 9):
            written.begin_to_flush(0, size)
    assert flushed == [(0, 7), (0, 9)]
