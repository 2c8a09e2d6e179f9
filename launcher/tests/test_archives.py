"""Archives as a stranger may pack them: what is refused, what is passed over, and what comes out."""

import gzip
import hashlib
import io
import random
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.servers.kaggle import make_tar, make_zip

from tunewright import ExitCode, FetchError
from tunewright_launcher.archives import unpack

FILES = {
    "train/eu/1.csv": b"a,b\n1,2\n" * 1000,
    "train/us/1.csv": random.Random(1).randbytes(3 << 19),
    "empty": b"",
    "Größe/日本.txt": b"text",
    "back\\slash": b"a name like another",
    "exact.bin": random.Random(2).randbytes(1 << 20),  # tar pads it with nothing
    "name with space": b"x",
}


def make_zstd(files: Mapping[str, bytes]) -> bytes:
    zstd = pytest.importorskip("backports.zstd", reason="Python has it from 3.14 on, as compression.zstd")
    return bytes(zstd.compress(make_tar(files, mode="w")))


MAKERS = {
    "zip": make_zip,
    "tar.gz": make_tar,
    "tar": lambda files: make_tar(files, mode="w"),
}
OTHERS = {
    "tar.bz2": lambda files: make_tar(files, mode="w:bz2"),
    "tar.xz": lambda files: make_tar(files, mode="w:xz"),
    "tar.zst": make_zstd,
}


def run(
    folder: Path,
    body: bytes,
    listed: Mapping[str, int] | None = None,
    selects: Callable[[str], bool] = lambda path: True,
) -> dict[str, bytes]:
    (folder / "archive").write_bytes(body)
    (out := folder / "out").mkdir(exist_ok=True)
    digests = unpack(folder / "archive", out, listed or {p: len(b) for p, b in FILES.items()}, selects)
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert digests == {path: hashlib.sha256(body).hexdigest() for path, body in found.items()}
    return found


def refuse(folder: Path, body: bytes, *words: str, listed: Mapping[str, int] | None = None) -> None:
    with pytest.raises(FetchError) as caught:
        run(folder, body, listed)
    assert caught.value.code is ExitCode.BAD_DATA, caught.value
    assert all(word in str(caught.value) for word in words), caught.value
    outside = {p.name for p in folder.iterdir()} - {"archive", "out"}
    assert not outside
    assert not [p for p in folder.rglob("*") if p.is_symlink()]


@pytest.mark.parametrize("kind", MAKERS)
def test_all_files_come_out_as_they_are_with_their_digests(tmp_path: Path, kind: str) -> None:
    assert run(tmp_path, MAKERS[kind](FILES)) == FILES


@pytest.mark.slow
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_of_every_method(tmp_path: Path, method: int) -> None:
    assert run(tmp_path, make_zip(FILES, method)) == FILES


def test_names_with_a_dot_before_them_are_the_listed_ones(tmp_path: Path) -> None:
    body = make_tar({f"./{path}": contents for path, contents in FILES.items()})
    assert run(tmp_path, body) == FILES


@pytest.mark.parametrize("kind", MAKERS)
def test_what_is_not_selected_is_not_written_whatever_it_is(tmp_path: Path, kind: str) -> None:
    body = MAKERS[kind]({**FILES, "../evil": b"x", "unlisted": b"x"})
    found = run(tmp_path, body, selects=lambda path: path.startswith("train/"))
    assert found == {path: contents for path, contents in FILES.items() if path.startswith("train/")}
    assert not (tmp_path / "evil").exists()


HOSTILE = ["../evil", "a/../../evil", "/tmp/evil", "..", "a//b", "./../evil", "complete.json", "n" * 300, "..\\evil"]


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name)[:16])
def test_a_hostile_name_is_refused_even_where_it_is_listed(tmp_path: Path, kind: str, name: str) -> None:
    body = MAKERS[kind]({**FILES, name: b"x"})
    refuse(tmp_path, body, "The source's file")
    if name != "..\\evil":  # which is a name like another where "/" parts folders
        refuse(tmp_path, body, "The source's file", listed={**{p: len(b) for p, b in FILES.items()}, name: 1})


def test_a_nul_in_a_name_does_not_hide_what_follows(tmp_path: Path) -> None:
    body = make_zip({**FILES, "empty#../evil": b"x"}).replace(b"empty#../evil", b"empty\0../evil")
    refuse(tmp_path, body, "does not have the path of a file")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../evil", "empty"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_a_tar_are_refused(tmp_path: Path, kind: bytes, target: str) -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = kind, target
    refuse(tmp_path, make_tar(FILES, link), "'link' is a link")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    device = tarfile.TarInfo("device")
    device.type = kind
    refuse(tmp_path, make_tar(FILES, device), "'device' is a link, or something else that is not a regular file")


def test_a_symbolic_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO(make_zip(FILES))
    with zipfile.ZipFile(buffer, "a") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    refuse(tmp_path, buffer.getvalue(), "'link' is a link")


def test_a_file_under_a_symbolic_link_of_the_folder_does_not_leave_it(tmp_path: Path) -> None:
    link = tarfile.TarInfo("dir")
    link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(link)
        info = tarfile.TarInfo("dir/evil")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    refuse(tmp_path, buffer.getvalue(), "'dir' is a link", listed={"dir/evil": 1})


@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_larger_or_smaller_than_listed_is_refused(tmp_path: Path, kind: str) -> None:
    listed = {path: len(contents) for path, contents in FILES.items()}
    refuse(tmp_path, MAKERS[kind](FILES), "is larger than the 7999 bytes", listed={**listed, "train/eu/1.csv": 7999})
    refuse(tmp_path, MAKERS[kind](FILES), "has 8000 bytes", listed={**listed, "train/eu/1.csv": 8001})


@pytest.mark.parametrize("kind", MAKERS)
def test_a_bomb_stops_at_the_listed_size(tmp_path: Path, kind: str) -> None:
    body = MAKERS[kind]({"bomb": bytes(100 << 20)})
    refuse(tmp_path, body, "'bomb' is larger than the 1000 bytes", listed={"bomb": 1000})
    assert (tmp_path / "out" / "bomb").stat().st_size <= 1000


@pytest.mark.slow
def test_a_bomb_that_nobody_selects_does_not_keep_a_processor_busy(tmp_path: Path) -> None:
    body = make_tar({"bomb": bytes(200 << 20), **FILES})
    (tmp_path / "archive").write_bytes(body)
    (tmp_path / "out").mkdir()
    with pytest.raises(FetchError, match="more than twice"):
        unpack(tmp_path / "archive", tmp_path / "out", {"a": 5, "bomb": 5}, lambda path: path == "a")


def test_members_of_a_zip_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """The bomb that needs no nesting: each entry of the directory points to the same compressed bytes."""
    body = make_zip({"1": bytes(1 << 20), "2": bytes(1 << 20)})
    second = body.rindex(b"PK\x01\x02")
    body = body[: second + 42] + struct.pack("<I", 0) + body[second + 46 :]
    refuse(tmp_path, body, "damaged", listed={"1": 1 << 20, "2": 1 << 20})


@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_that_is_not_listed_is_refused_and_said_how_to_leave_out(tmp_path: Path, kind: str) -> None:
    body = MAKERS[kind]({**FILES, "unlisted": b"x"})
    refuse(tmp_path, body, "'unlisted' is in the archive, but not listed", "ignore_patterns")


@pytest.mark.parametrize("kind", MAKERS)
def test_a_listed_file_that_is_missing_is_refused(tmp_path: Path, kind: str) -> None:
    listed = {**{path: len(contents) for path, contents in FILES.items()}, "gone": 5, "more": 0}
    refuse(tmp_path, MAKERS[kind](FILES), "lacks 2", "'gone'", listed=listed)


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused(tmp_path: Path, kind: str) -> None:
    buffer = io.BytesIO(MAKERS[kind](FILES))
    if kind == "zip":
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.writestr("empty", b"")
    else:
        with tarfile.open(fileobj=buffer, mode="a") as tar:
            tar.addfile(tarfile.TarInfo("empty"))
    refuse(tmp_path, buffer.getvalue(), "'empty' is in the archive twice")


def test_a_file_where_a_folder_should_be_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, make_tar({"a": b"1", "a/b": b"2"}), "'a/b'", listed={"a": 1, "a/b": 1})


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    body = bytearray(make_zip({"empty": b"secret"}))
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        body[body.index(header) + flags] |= 1
    refuse(tmp_path, bytes(body), "encrypted", listed={"empty": 6})


@pytest.mark.parametrize("body", [b"", b"<html>sign in</html>", b"PK\x03\x04", b"\x1f\x8b\x08\x00", bytes(5000)])
def test_what_is_no_archive_is_refused(tmp_path: Path, body: bytes) -> None:
    refuse(tmp_path, body)


@pytest.mark.parametrize("kind", MAKERS)
def test_an_archive_that_ends_early_is_refused(tmp_path: Path, kind: str) -> None:
    body = MAKERS[kind](FILES)
    for share in (0.1, 0.5, 0.9, 0.99):
        refuse(tmp_path, body[: int(share * len(body))])


def test_a_gzip_of_several_parts_and_with_padding_is_read_to_its_end(tmp_path: Path) -> None:
    tar = make_tar(FILES, mode="w")
    parts = b"".join(gzip.compress(tar[i : i + 300_000]) for i in range(0, len(tar), 300_000))
    assert run(tmp_path, parts + bytes(5000)) == FILES
    refuse(tmp_path, parts + b"no gzip", "damaged")
    refuse(tmp_path, parts[:-4], "damaged")


SMALL = {"a/1.csv": b"a,b\n1,2\n" * 400, "2.bin": random.Random(3).randbytes(2000), "empty": b""}


@pytest.mark.parametrize("kind", ["zip", pytest.param("tar.gz", marks=pytest.mark.slow)])
@settings(max_examples=150, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_never_gives_other_contents(
    tmp_path_factory: pytest.TempPathFactory, kind: str, where: float, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("flip")
    body = bytearray(MAKERS[kind](SMALL))
    body[int(where * len(body))] ^= 1 << bit
    try:
        found = run(folder, bytes(body), {p: len(b) for p, b in SMALL.items()})
    except FetchError:
        return
    assert found == SMALL


@pytest.mark.parametrize("kind", OTHERS)
def test_other_compressions_are_read_to_their_end(tmp_path: Path, kind: str) -> None:
    body, listed = OTHERS[kind](SMALL), {path: len(data) for path, data in SMALL.items()}
    assert run(tmp_path, body, listed) == SMALL
    for share in (0.1, 0.5, 0.9, 0.99):
        refuse(tmp_path, body[: int(share * len(body))], listed=listed)


def test_without_a_decompressor_it_is_said_which_package_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = make_zstd(FILES)
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    with pytest.raises(FetchError, match=r"Zstandard.*backports\.zstd") as caught:
        run(tmp_path, body)
    assert caught.value.code is ExitCode.USAGE


def test_a_tar_whose_first_file_is_called_like_a_compressed_one(tmp_path: Path) -> None:
    files = {"BZh9 is no bzip2": b"x"}
    assert run(tmp_path, make_tar(files, mode="w"), {"BZh9 is no bzip2": 1}) == files
