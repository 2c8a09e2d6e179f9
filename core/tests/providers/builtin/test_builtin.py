"""The built-in sources: `file://`, which copies, and `pvc://`, which is mounted."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright import ExitCode, FetchError, RequestError
from tunewright.providers.base import ClaimFolder
from tunewright.providers.builtin import file, pvc
from tunewright.providers.builtin.file import FileDataset, FileModel
from tunewright.providers.builtin.pvc import PvcDataset, PvcModel
from tunewright.testing import DatasetProviderTests, ModelProviderTests, OutputTargetTests, Served, Written

CLUSTER = "machine or container that runs the step"
SEGMENT = st.text(st.characters(blacklist_categories=["C", "Z"], blacklist_characters="/\\"), min_size=1).filter(
    lambda s: s not in (".", "..")
)


class TestFileModel(ModelProviderTests):
    name = "file"

    def provider(self) -> FileModel:
        return FileModel(uri="file:///models/tiny", allow_patterns=["*.json", "*.safetensors"])

    @pytest.fixture
    def served(self, source: Path) -> Served:
        provider = FileModel(uri=source.as_uri(), allow_patterns=["*.json", "deep/*"])
        names = ("config.json", "deep/er/a b#%.bin")
        return Served(
            provider=provider, files={name: (source / name).read_bytes() for name in names}, checks_secrets=False
        )


class TestFileDataset(DatasetProviderTests):
    name = "file"

    def provider(self) -> FileDataset:
        return FileDataset(uri="file:///data/train", eval_dataset="file:///data/eval", ignore_patterns="*.tmp")

    @pytest.fixture
    def served(self, source: Path) -> Served:
        return Served(
            provider=FileDataset(uri=source.as_uri(), ignore_patterns="deep/"),
            files={name: (source / name).read_bytes() for name in ("config.json", ".hidden")},
            checks_secrets=False,
        )


class TestFileOutput(OutputTargetTests):
    name = "file"

    @pytest.fixture
    def written(self, tmp_path: Path) -> Written:
        folder = tmp_path / "output"

        def contents() -> dict[str, bytes]:
            files = (path for path in folder.rglob("*") if path.is_file())
            return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

        return Written(provider=FileModel(uri=folder.as_uri()), contents=contents, checks_secrets=False, folder=folder)


class TestPvcModel(ModelProviderTests):
    name = "pvc"

    def provider(self) -> PvcModel:
        return PvcModel(uri="pvc://shared/models/tiny")


class TestPvcDataset(DatasetProviderTests):
    name = "pvc"

    def provider(self) -> PvcDataset:
        return PvcDataset(uri="pvc://shared/train", eval_dataset="pvc://shared/eval")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / ".hidden").write_bytes(b"hidden")
    (folder / "deep" / "er" / "a b#%.bin").write_bytes(bytes(range(256)) * 5000)
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def fetch(source: Path, target: Path, **fields: object) -> dict[str, bytes]:
    FileModel(uri=source.as_uri(), **fields).download_model(target)  # type: ignore[arg-type]
    return {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*") if not p.is_dir()}


def refused(source: Path, target: Path, **fields: object) -> FetchError:
    with pytest.raises(FetchError) as caught:
        fetch(source, target, **fields)
    return caught.value


def test_a_folder_is_copied_with_all_its_files(source: Path, target: Path) -> None:
    copied = fetch(source, target)
    assert copied == {p.relative_to(source).as_posix(): p.read_bytes() for p in source.rglob("*") if p.is_file()}
    assert set(copied) == {"config.json", ".hidden", "deep/er/a b#%.bin"}


def test_a_single_file_is_copied_under_its_name(source: Path, target: Path) -> None:
    FileDataset(uri=(source / "config.json").as_uri()).download_dataset(target)
    assert [p.name for p in target.iterdir()] == ["config.json"]


def test_patterns_choose_what_is_copied(source: Path, target: Path) -> None:
    assert set(fetch(source, target, allow_patterns="*.json")) == {"config.json"}
    assert set(fetch(source, target / "other", ignore_patterns=["deep/", ".*"])) == {"config.json"}


@pytest.mark.parametrize("name", ["missing", "config.json/below-a-file"])
def test_what_is_missing_is_not_found_and_the_message_knows_clusters(source: Path, target: Path, name: str) -> None:
    error = refused(source / name, target)
    assert error.code is ExitCode.NOT_FOUND
    for part in (str(source / name), CLUSTER, "pvc://", "s3://"):
        assert part in str(error)


def test_an_empty_folder_is_bad_data(tmp_path: Path, target: Path) -> None:
    (tmp_path / "empty" / "er").mkdir(parents=True)
    assert refused(tmp_path / "empty", target).code is ExitCode.BAD_DATA


@pytest.mark.parametrize("name", [".", "config.json"])
def test_patterns_that_select_nothing_are_bad_data(source: Path, target: Path, name: str) -> None:
    error = refused(source / name, target, allow_patterns="*.parquet")
    assert error.code is ExitCode.BAD_DATA
    assert "patterns" in error.cause


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Root may read everything, so a test of permissions is somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such permissions")
@pytest.mark.parametrize("locked", ["", "a", "deep"])
def test_what_cannot_be_read_is_no_permission(locked: str) -> None:
    with tempfile.TemporaryDirectory() as base:  # pytest's own folders are closed to others
        source, target = Path(base, "source"), Path(base, "target")
        (source / "deep").mkdir(parents=True)
        target.mkdir()
        (source / "a").write_text("a")
        Path(base).chmod(0o755)
        target.chmod(0o777)
        (source / locked).chmod(0)
        try:
            with as_somebody_else():
                error = refused(source, target)
        finally:
            (source / locked).chmod(0o755)
    assert error.code is ExitCode.NO_PERMISSION
    assert str(source / locked) in str(error)


def test_a_full_disk_is_no_space(source: Path, target: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        error = refused(source, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.code is ExitCode.NO_SPACE


def test_links_inside_the_folder_are_followed(source: Path, target: Path) -> None:
    (source / "file-link").symlink_to("config.json")
    (source / "folder-link").symlink_to(source / "deep")
    copied = fetch(source, target)
    assert copied["file-link"] == b"{}"
    assert copied["folder-link/er/a b#%.bin"] == copied["deep/er/a b#%.bin"]
    assert not [p for p in target.rglob("*") if p.is_symlink()]


def test_a_link_to_the_folder_itself_may_be_what_is_named(source: Path, target: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(source)
    assert "config.json" in fetch(tmp_path / "link", target)


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("/etc/passwd", "leads out of the source folder"),
        ("../outside", "leads out of the source folder"),
        ("missing", "does not exist"),
        ("config.json/below", "does not exist"),
        ("link", "circular link"),
        (".", "folder that contains it"),
        ("deep/../", "folder that contains it"),
    ],
)
def test_other_links_are_bad_data_unless_ignored(source: Path, target: Path, to: str, says: str) -> None:
    (source.parent / "outside").write_text("secret")
    (source / "link").symlink_to(to)
    error = refused(source, target)
    assert error.code is ExitCode.BAD_DATA
    assert says in error.cause
    assert str(source / "link") in error.cause
    assert "config.json" in fetch(source, target, ignore_patterns="link")


def test_links_that_hold_each_other_end(source: Path, target: Path) -> None:
    (source / "deep" / "up").symlink_to(source / "deep" / "er")
    (source / "deep" / "er" / "down").symlink_to(source / "deep")
    assert "folder that contains it" in refused(source, target).cause


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a POSIX system")
@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_what_is_neither_file_nor_folder_is_bad_data(source: Path, target: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(source / "odd")
    else:
        here = Path.cwd()
        os.chdir(source)  # a socket's path is short
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind("odd")
        finally:
            os.chdir(here)
    error = refused(source, target)
    assert error.code is ExitCode.BAD_DATA
    assert "neither a file nor a folder" in error.cause
    assert "config.json" in fetch(source, target, ignore_patterns="odd")


def test_a_target_inside_the_source_is_refused(source: Path) -> None:
    (source / "target").mkdir()
    error = refused(source, source / "target")
    assert error.code is ExitCode.USAGE
    assert not list((source / "target").iterdir())


def test_names_that_are_not_utf8_are_copied_and_can_be_reported(tmp_path: Path, target: Path) -> None:
    folder = tmp_path / os.fsdecode(b"odd-\xff")
    folder.mkdir()
    (folder / os.fsdecode(b"\xfe.txt")).write_text("odd")
    assert fetch(folder, target) == {os.fsdecode(b"\xfe.txt"): b"odd"}
    (folder / "link").symlink_to("missing")
    assert "odd-" in str(refused(folder, target)).encode().decode()


def test_the_local_path_is_known_before_anything_is_fetched(source: Path) -> None:
    assert FileModel(uri=source.as_uri()).local_path() == source
    assert FileModel(uri=source.as_uri()).mounted_claim() is None


@given(st.lists(SEGMENT, min_size=1))
def test_every_path_survives_its_uri(segments: list[str]) -> None:
    path = Path("/", *segments)
    assert file.parse_uri(path.as_uri()) == path


@pytest.mark.parametrize("uri", ["file:///a/b", "file://localhost/a/b", "FILE:///a/b/", "file:///a/%62"])
def test_spellings_of_one_path(uri: str) -> None:
    assert file.parse_uri(uri) == Path("/a/b")


@pytest.mark.parametrize(
    "uri",
    ["file://server/share", "file://a", "file:a", "file:///", "file://", "file:///%2F", "file:///a?b", "file:///a#b", "file:///a%00",
     "file://[a/b", "file://name:pass@/a", "hf://a/b"],
)  # fmt: skip
def test_what_names_no_path_of_this_machine_is_refused(uri: str) -> None:
    with pytest.raises(RequestError, match=r"FileDataset\.uri"):
        FileDataset(uri=uri)
    with pytest.raises(RequestError, match=r"FileDataset\.eval_dataset"):
        FileDataset(uri="file:///a", eval_dataset=uri)


@pytest.mark.parametrize(
    ("uri", "claim", "folder"),
    [
        ("pvc://shared/models/tiny", "shared", "models/tiny"),
        ("pvc://shared/models/", "shared", "models"),
        ("pvc://shared/", "shared", ""),
        ("pvc://my.claim-1", "my.claim-1", ""),
    ],
)
def test_a_claim_and_its_folder_are_mounted(uri: str, claim: str, folder: str) -> None:
    assert (
        PvcModel(uri=uri).mounted_claim()
        == PvcDataset(uri=uri).mounted_claim()
        == ClaimFolder(claim=claim, folder=folder)
    )


@pytest.mark.parametrize(
    "uri",
    ["pvc://", "pvc:///folder", "pvc://Upper/a", "pvc://a_b/c", "pvc://-a/b", "pvc://a-/b", "pvc://a..b/c", "pvc://a/../b",
     "pvc://a/b/..", "pvc://a/./b", "pvc://a//b", "pvc://a/b\\..", "pvc://../a", f"pvc://{'a' * 254}/b", "pvc://a:1/b", "pvc:a"],
)  # fmt: skip
def test_what_is_no_claim_is_refused(uri: str) -> None:
    with pytest.raises(RequestError, match=r"PvcDataset\.uri"):
        PvcDataset(uri=uri)
    with pytest.raises(RequestError, match=r"PvcDataset\.eval_dataset"):
        PvcDataset(uri="pvc://a/b", eval_dataset=uri)


@given(st.text())
def test_no_folder_leads_out_of_its_claim(text: str) -> None:
    try:
        found = pvc.parse_uri(f"pvc://claim/{text}")
    except RequestError:
        return
    inside = os.path.normpath(f"/volume/{found.folder}")
    assert found.claim == "claim"
    assert inside == "/volume" or inside.startswith("/volume/")


def test_a_claim_is_not_fetched(tmp_path: Path) -> None:
    for download in (PvcModel(uri="pvc://a/b").download_model, PvcDataset(uri="pvc://a/b").download_dataset):
        with pytest.raises(FetchError, match=r"pvc://a/b can only be mounted by Kubernetes.*file:///") as caught:
            download(tmp_path)
        assert caught.value.code is ExitCode.USAGE
