"""What the tests of several packages need."""

from collections.abc import Iterator

import pytest
from tests.servers.s3 import Gateway
from tests.servers.tools import Missing


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
