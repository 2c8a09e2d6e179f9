"""A real server for all tests, a proxy before it for each, and a volume to fetch into."""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.servers.gcs import GoogleStorage, StorageProxy
from tests.servers.tools import Missing
from tests.servers.volume import Volume

from tunewright_gs import GSDatasetParams, GSModelParams


@pytest.fixture(scope="session")
def storage() -> Iterator[GoogleStorage]:
    pytest.importorskip("google.auth", reason="google-auth is not installed: tunewright-gs[fetch]")
    try:
        server = GoogleStorage()
    except Missing as missing:
        pytest.skip(str(missing))
    with server:
        yield server


@pytest.fixture
def proxy(storage: GoogleStorage) -> Iterator[StorageProxy]:
    with StorageProxy(storage.port) as server:
        yield server


@pytest.fixture(autouse=True)
def _nobodys_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a test does must not depend on who runs it, and on what machine."""
    for name in [name for name in os.environ if name.startswith(("GOOGLE_", "CLOUDSDK_", "STORAGE_EMULATOR"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "no-gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


@pytest.fixture
def volume(proxy: StorageProxy, tmp_path: Path) -> Volume:
    make = functools.partial(GSDatasetParams, endpoint=proxy.url, access_token="a-token-for-the-test")
    return Volume(tmp_path / "volume", "gs", make)


@pytest.fixture
def model(proxy: StorageProxy) -> Callable[..., GSModelParams]:
    """Makes a provider of a model, through the proxy."""
    return functools.partial(GSModelParams, endpoint=proxy.url, access_token="a-token-for-the-test")
