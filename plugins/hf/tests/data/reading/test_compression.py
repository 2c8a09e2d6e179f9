"""Compressed files and members of archives are read as the files that they were."""

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import pytest

from tunewright_hf.data.reading.bad_data import BadFileError
from tunewright_hf.data.reading.compression import members, open_bytes, open_text, plain_name, undecodable

TEXT = "one\r\ntwo ä\n" * 5000


def write(file: Path, content: bytes) -> Path:
    if file.suffix == ".zst":
        pa = pytest.importorskip("pyarrow")
        with pa.CompressedOutputStream(str(file), "zstd") as stream:
            stream.write(content)
    else:
        opener = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}[file.suffix]
        with opener(file, "wb") as stream:
            stream.write(content)
    return file


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_a_compressed_file_is_read(suffix: str, tmp_path: Path) -> None:
    file = write(tmp_path / f"data.jsonl{suffix}", TEXT.encode())
    assert plain_name(file) == "data.jsonl"
    with open_bytes(file) as stream:
        assert stream.read() == TEXT.encode()
    with open_text(file) as stream:
        assert stream.read() == TEXT
    with open_text(write(file, TEXT.encode("utf-16")), newline=None) as stream:
        assert list(stream) == ["one\n", "two ä\n"] * 5000


def test_members_of_an_archive_are_files_below_it(tmp_path: Path) -> None:
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("sub/train.jsonl", TEXT)
        opened.writestr("test.jsonl.gz", gzip.compress(TEXT.encode()))
        opened.writestr("__MACOSX/._test.jsonl", "x")
    assert members(archive) == [archive / "sub/train.jsonl", archive / "test.jsonl.gz"]
    for member in members(archive):
        with open_text(member) as stream:
            assert stream.read() == TEXT
    archive.write_text("no archive")
    with pytest.raises(BadFileError, match=r"all\.zip: is not a zip archive"):
        members(archive)


@pytest.mark.parametrize("at", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_a_byte_that_is_no_text_is_found_behind_any_block(at: int, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    content = io.BytesIO()
    content.write(("ä" * ((1 << 20) + 8)).encode()[: at // 2 * 2].rjust(at, b"\n"))
    content.write(b"\xff rest")
    file.write_bytes(content.getvalue())
    found = undecodable(file, None)
    assert f"byte {at} (0xff) is not UTF-8" in str(found)
    assert found.line == 1 + at % 2
    assert undecodable(file, "cp1252" if at < 1 else "latin-1") is None
