"""The step that fetches from a loopback server, with folders of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.servers.served import FetchStep, IndexedServer, install


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("site"))


@pytest.fixture
def fetch_step(tmp_path: Path, site: Path) -> Callable[..., FetchStep]:
    """Makes a step of a pod; all of them share a volume."""

    def make(server: IndexedServer, pod: str = "pod-0", volume: Path | None = None) -> FetchStep:
        folder, workspace = tmp_path / pod, volume or tmp_path / "volume"
        for path in (folder, workspace):
            path.mkdir(exist_ok=True)
        return FetchStep(server, workspace, folder, site)

    return make
