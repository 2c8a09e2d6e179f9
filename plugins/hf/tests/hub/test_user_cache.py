"""Files that the user's cache of huggingface_hub has already, filled by huggingface_hub itself."""

import random
from pathlib import Path

import pytest
from tests.servers.git import Lfs
from tests.servers.hub import Hub

from tunewright._planning.assemble import document_of
from tunewright.plugins.registry import Registry
from tunewright.providers.limits import FetchLimits
from tunewright_hf import HuggingFaceModelParams
from tunewright_launcher.fetch import fetch_into

FILES = {
    "config.json": b'{"a": 1}',
    "model.safetensors": Lfs(random.Random(0).randbytes(9_000_000)),
    "small.bin": Lfs(b"weights" * 1000),
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "user" / "hub"
    monkeypatch.setenv("TUNEWRIGHT_HUB_CACHE", str(folder))
    return folder


def fill(cache: Path, hub: Hub) -> None:
    """Download the repository into the cache, as whoever uses transformers does."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    for name in FILES:
        huggingface_hub.hf_hub_download("org/model", name, cache_dir=cache, endpoint=hub.url)
    hub.log.clear()


def fetch(hub: Hub, volume: Path) -> dict[str, bytes]:
    provider = HuggingFaceModelParams(uri="hf://org/model", endpoint=hub.url)
    document = document_of("model", Registry().get("hf"), provider)
    limits = FetchLimits(connections=4, stall=2, tries=3)
    fetch_into(provider, document, volume, "model", lambda _: None, limits=limits)
    return {p.name: p.read_bytes() for p in (volume / "model").iterdir() if p.name != "complete.json"}


def downloads(hub: Hub) -> set[str]:
    return {request.path.rpartition("/")[2] for request in hub.log if "/resolve/" in request.path}


def test_what_the_user_has_is_not_downloaded_again(tmp_path: Path, cache: Path) -> None:
    with Hub() as hub:
        repo = hub.repo("org/model", FILES)
        fill(cache, hub)
        assert fetch(hub, tmp_path / "volume") == repo.contents
        assert downloads(hub) == set()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_is_damaged_there_is_downloaded(tmp_path: Path, cache: Path, name: str) -> None:
    with Hub() as hub:
        repo = hub.repo("org/model", FILES)
        fill(cache, hub)
        (link,) = cache.glob(f"models--org--model/snapshots/*/{name}")
        blob = link.resolve()
        blob.chmod(0o644)
        blob.write_bytes(blob.read_bytes()[:-1] + b"!")
        assert fetch(hub, tmp_path / "volume") == repo.contents
        assert downloads(hub) == {name}


def test_files_that_have_changed_on_the_hub_are_downloaded(tmp_path: Path, cache: Path) -> None:
    with Hub() as hub:
        hub.repo("org/model", FILES)
        fill(cache, hub)
        changed = hub.repo("org/model", {**FILES, "config.json": b'{"a": 2}'})
        assert fetch(hub, tmp_path / "volume") == changed.contents
        assert downloads(hub) == {"config.json"}


def test_a_cache_without_the_repository_changes_nothing(tmp_path: Path, cache: Path) -> None:
    with Hub() as hub:
        repo = hub.repo("org/model", FILES)
        assert fetch(hub, tmp_path / "volume") == repo.contents
        assert downloads(hub) == set(FILES)
