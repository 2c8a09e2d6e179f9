"""What the tests of several packages need."""

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from tests.servers.s3 import Gateway
from tests.servers.tools import Missing

# How long an example takes, Hypothesis's own limit being 0.2 s, depends on what else the machine is doing.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


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
