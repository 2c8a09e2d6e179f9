"""Texts are read by line, paragraph or document."""

from pathlib import Path

import pytest

from tunewright_hf.data.reading.bad_data import BadFileError
from tunewright_hf.data.reading.text_rows import has_text, rows

TEXT = "# One\nfirst\n\n \n\nsecond\r\nstill second\n\n"


def test_a_row_is_what_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(TEXT.encode())
    lines = ["# One", "first", "", " ", "", "second", "still second", ""]
    assert list(rows(file)) == lines
    assert list(rows(file, "paragraph")) == ["# One\nfirst", "second\nstill second"]
    assert list(rows(file, "document")) == [TEXT.replace("\r\n", "\n")]
    assert has_text(file)


def test_markdown_is_read_as_documents(tmp_path: Path) -> None:
    file = tmp_path / "a.md"
    file.write_text(TEXT)
    assert len(list(rows(file))) == 1
    assert len(list(rows(file, "line"))) == 8


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b" \n\n")
    assert not has_text(file)
    file.write_bytes(b"fine\nna\xefve\n")
    for unit in ("line", "paragraph", "document"):
        with pytest.raises(BadFileError, match=r"line 2: byte 7 \(0xef\)"):
            list(rows(file, unit))
    assert list(rows(file, encoding="cp1252")) == ["fine", "naïve"]
