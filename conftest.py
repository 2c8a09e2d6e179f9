"""What the tests of several packages need."""

import gc
from collections.abc import Iterator

import pytest
from tests.servers.s3 import Gateway
from tests.servers.tools import Missing


def pytest_collection_finish() -> None:
    """Spare what is imported by now from garbage collection: with torch that takes longer than a small training."""
    gc.freeze()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A real S3 server."""
    try:
        server = Gateway(tmp_path_factory.mktemp("gateway"))
    except Missing as missing:
        pytest.skip(str(missing))
    with server:
        server.keys()  # makes the bucket
        yield server
