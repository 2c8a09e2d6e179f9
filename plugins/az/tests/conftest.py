"""A real server for all tests, a proxy before it for each, and a volume to fetch into."""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.servers.azure import ACCOUNT, KEY, Azurite
from tests.servers.passing import PassingProxy
from tests.servers.tools import Missing
from tests.servers.volume import Volume

from tunewright_az import AzureDatasetParams, AzureModelParams


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    pytest.importorskip("azure.storage.blob", reason="azure-storage-blob, of the group dev, fills the server")
    try:
        server = Azurite(tmp_path_factory.mktemp("azurite"))
    except Missing as missing:
        pytest.skip(str(missing))
    with server:
        yield server


@pytest.fixture
def proxy(azurite: Azurite) -> Iterator[PassingProxy]:
    with PassingProxy(azurite.port) as server:
        yield server


@pytest.fixture
def endpoint(proxy: PassingProxy) -> str:
    return f"{proxy.url}/{ACCOUNT}"


@pytest.fixture(autouse=True)
def _nobodys_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test does must not depend on who runs it, and on what machine."""
    for name in [name for name in os.environ if name.startswith(("AZURE_", "IDENTITY_", "MSI_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def volume(endpoint: str, tmp_path: Path) -> Volume:
    make = functools.partial(AzureDatasetParams, account=ACCOUNT, account_key=KEY, endpoint=endpoint)
    return Volume(tmp_path / "volume", "az", make)


@pytest.fixture
def model(endpoint: str) -> Callable[..., AzureModelParams]:
    """Makes a provider of a model, through the proxy."""
    return functools.partial(AzureModelParams, account=ACCOUNT, account_key=KEY, endpoint=endpoint)
