"""Archives on web servers: unpacked where a URL names one, and kept as they are where that is asked for."""

import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.servers.faulty import Fault, FileServer
from tests.servers.kaggle import make_tar, make_zip
from tests.servers.volume import Volume

from tunewright import ExitCode, ModelProvider
from tunewright._planning.assemble import document_of
from tunewright.plugins.registry import Registry
from tunewright.providers.limits import FetchLimits
from tunewright_http import HttpModelParams
from tunewright_launcher import archives
from tunewright_launcher.fetch import fetch_into

FILES = {"train/a.jsonl": b'{"text": "one"}\n' * 1000, "test/b.jsonl": b'{"text": "two"}\n', "empty": b""}


def zstd(files: dict[str, bytes]) -> bytes:
    module = pytest.importorskip("backports.zstd")
    return bytes(module.compress(make_tar(files, mode="w")))


MAKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "data.zip": make_zip,
    "data.tar": lambda files: make_tar(files, mode="w"),
    "data.tar.gz": make_tar,
    "DATA.TGZ": make_tar,
    "data.tar.bz2": lambda files: make_tar(files, mode="w:bz2"),
    "data.tar.xz": lambda files: make_tar(files, mode="w:xz"),
    "data.tar.zst": zstd,
}


@pytest.mark.parametrize("name", MAKERS)
def test_an_archive_that_is_named_is_unpacked(name: str, volume: Volume) -> None:
    with FileServer({f"/d/{name}": MAKERS[name](FILES)}) as server:
        assert volume.fetch(f"{server.url}/d/{name}") == FILES


def test_patterns_select_its_files_and_it_may_stay_as_it_is(volume: Volume) -> None:
    body = make_tar(FILES)
    with FileServer({"/data.tar.gz": body, "/download": body}) as server:
        assert list(volume.fetch(f"{server.url}/data.tar.gz", allow_patterns="train/*")) == ["train/a.jsonl"]
        volume = volume.another()
        assert volume.fetch(f"{server.url}/data.tar.gz", unpack=False) == {"data.tar.gz": body}
        volume = volume.another()
        assert volume.fetch(f"{server.url}/download?id=7") == {"download": body}
        volume = volume.another()
        assert volume.fetch(f"{server.url}/download?id=7", file_name="data.tgz") == FILES
        volume = volume.another()
        volume.fails(
            ExitCode.NOT_FOUND, "no file that is selected", uri=f"{server.url}/data.tar.gz", allow_patterns="*.csv"
        )


def test_an_archive_that_a_list_names_stays_as_it_is(volume: Volume) -> None:
    body = make_zip(FILES)
    listed = f"{hashlib.sha256(body).hexdigest()}  data.zip\n".encode()
    with FileServer({"/d/data.zip": body, "/d/SHA256SUMS": listed}) as server:
        assert volume.fetch(f"{server.url}/d/") == {"data.zip": body}


def test_the_digest_of_the_archive_is_checked_before_it_is_unpacked(volume: Volume) -> None:
    body = make_zip(FILES)
    with FileServer({"/data.zip": body}) as server:
        uri = f"{server.url}/data.zip"
        volume.fails(ExitCode.BAD_DATA, "sha256", uri=uri, sha256="0" * 64)
        assert not [path for path in volume.folder.rglob("*.jsonl") if path.is_file()]
        assert volume.fetch(uri, sha256=hashlib.sha256(body).hexdigest()) == FILES
        assert set(volume.verified.values()) == {"sha256"}


@pytest.mark.slow
def test_a_new_version_is_unpacked_where_it_is_asked_for_and_an_old_one_kept(volume: Volume) -> None:
    with FileServer({"/data.zip": make_zip(FILES)}) as server:
        uri = f"{server.url}/data.zip"
        volume.fetch(uri, policy="Always")
        before = (volume.slot / "train/a.jsonl").stat().st_mtime_ns
        assert volume.fetch(uri, policy="Always") == FILES
        assert (volume.slot / "train/a.jsonl").stat().st_mtime_ns == before
        server.files["/data.zip"] = make_zip({"other": b"x"})
        assert volume.fetch(uri, policy="Always") == {"other": b"x"}


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"../../escape": b"x"}, "escape"),
        ({"/etc/escape": b"x"}, "escape"),
        ({"complete.json": b"x"}, "marker"),
        ({".tunewright-archive": b"x"}, "temporary name"),
    ],
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_what_leads_out_of_the_folder_is_refused(
    make: Callable[..., bytes], files: dict[str, bytes], says: str, volume: Volume
) -> None:
    with FileServer({"/data.tar": make({**FILES, **files})}) as server:
        volume.fails(ExitCode.BAD_DATA, says, uri=f"{server.url}/data.tar")
    assert not list(volume.folder.parent.rglob("*escape*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused_unless_they_are_left_out(kind: bytes, volume: Volume) -> None:
    other = tarfile.TarInfo("other")
    other.type, other.linkname = kind, "/etc/hostname"
    with FileServer({"/data.tgz": make_tar(FILES, other)}) as server:
        volume.fails(ExitCode.BAD_DATA, "'other' is a link, or", "ignore_patterns", uri=f"{server.url}/data.tgz")
        assert volume.another().fetch(f"{server.url}/data.tgz", ignore_patterns="other") == FILES


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused(kind: str, volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"bomb-{number}": bytes(1 << 20) for number in range(40)}
    body = make_zip(files) if kind == "zip" else make_tar(files)
    with FileServer({f"/bomb.{kind}": body}) as server:
        assert volume.fetch(f"{server.url}/bomb.{kind}") == files, "small ones are no danger"
        monkeypatch.setattr(archives, "_MOST_MORE", 10 << 20)
        volume = volume.another()
        volume.fails(ExitCode.BAD_DATA, "unpacks to more than 100 times its size", uri=f"{server.url}/bomb.{kind}")
        written = sum(path.stat().st_size for path in volume.folder.rglob("bomb-*"))
        assert written < 40 << 20


def test_what_macos_adds_to_a_zip_is_left_out(volume: Volume) -> None:
    with FileServer({"/data.zip": make_zip({**FILES, "__MACOSX/train/._a.jsonl": b"\0\5\26\7"})}) as server:
        assert volume.fetch(f"{server.url}/data.zip") == FILES


def test_what_is_no_archive_says_so(volume: Volume) -> None:
    with FileServer({"/data.zip": b"no archive", "/data.tar.gz": make_tar(FILES)[:-40]}) as server:
        volume.fails(ExitCode.BAD_DATA, "damaged, encrypted, or of an unknown kind", uri=f"{server.url}/data.zip")
        volume.fails(ExitCode.BAD_DATA, "damaged", uri=f"{server.url}/data.tar.gz")
        server.faults.append(Fault(path="/data", times=-1, status=404))
        volume.fails(ExitCode.NOT_FOUND, "404", uri=f"{server.url}/data.zip")


@pytest.mark.slow
def test_an_archive_that_breaks_off_is_resumed(volume: Volume) -> None:
    body = make_tar({"large": bytes(range(256)) * (40 << 10)}, mode="w")
    with FileServer({"/data.tar": body}) as server:
        server.faults.append(Fault(path="/data.tar", cut_after=3 << 20, times=2))
        assert set(volume.fetch(f"{server.url}/data.tar")) == {"large"}
        assert server.sent < 2 * len(body)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"tiny/config.json": b"{}", "tiny/tiny/x": b"x"}, {"config.json", "tiny/x"}),
        ({"config.json": b"{}", "sub/x": b"x"}, {"config.json", "sub/x"}),
        ({"a/config.json": b"{}", "b/x": b"x"}, {"a/config.json", "b/x"}),
    ],
)
def test_a_models_files_may_be_in_a_folder_of_the_archive(
    files: dict[str, bytes], expected: set[str], tmp_path: Path
) -> None:
    with FileServer({"/model.tar.gz": make_tar(files)}) as server:
        provider: ModelProvider = HttpModelParams(uri=f"{server.url}/model.tar.gz")
        document = document_of("model", Registry().get("http"), provider)
        fetch_into(provider, document, tmp_path / "volume", "model", lambda _: None, limits=FetchLimits())
    slot = tmp_path / "volume" / "model"
    found = {path.relative_to(slot).as_posix() for path in slot.rglob("*") if path.is_file()}
    assert found == {*expected, "complete.json"}
