"""The conformance kit, which fetches for real from a fake of the service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from service import TOKEN, running
from tunewright.testing import DatasetProviderTests, ModelProviderTests, Served
from tunewright_depot import DepotDataset, DepotModel

FILES = {"config.json": b"{}", "weights/part-1.bin": bytes(range(256)) * 400}


@pytest.fixture
def address() -> Iterator[str]:
    with running({f"kit/{path}": data for path, data in FILES.items()}) as found:
        yield found


class TestDepotModel(ModelProviderTests):
    name = "depot"

    def provider(self) -> DepotModel:
        return DepotModel(uri="depot://example", token="a-token-that-must-not-show")

    @pytest.fixture
    def served(self, address: str) -> Served:
        return Served(provider=DepotModel(uri="depot://kit", server=address, token=TOKEN), files=FILES)


class TestDepotDataset(DatasetProviderTests):
    name = "depot"

    def provider(self) -> DepotDataset:
        return DepotDataset(uri="depot://example", token="a-token-that-must-not-show")

    @pytest.fixture
    def served(self, address: str) -> Served:
        return Served(provider=DepotDataset(uri="depot://kit", server=address, token=TOKEN), files=FILES)
