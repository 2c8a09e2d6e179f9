"""Real web servers, and fetches from them into a volume."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.volume import Volume
from tests.servers.web import KINDS, Web

from tunewright_http import HttpDatasetParams


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "volume", "http", HttpDatasetParams)


@pytest.fixture(scope="session")
def web_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the web servers serve; each test has a folder of its own in it."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="session", params=sorted(KINDS))
def web(request: pytest.FixtureRequest, web_folder: Path) -> Iterator[str]:
    """The URL of a real web server."""
    if request.param == "aiohttp":
        pytest.importorskip("aiohttp")
    with Web(web_folder, request.param) as server:
        yield server.url
