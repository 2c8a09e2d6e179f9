"""The container half of `az://`, as the conformance kit runs it against a real server."""

import uuid
from collections.abc import Callable

import pytest
from tests.servers.azure import CONTAINER, KEY, Azurite

from tunewright.testing import ModelProviderTests, OutputTargetTests, Served, Written
from tunewright_az import AzureModelParams

FILES = {"config.json": b"{}", "weights/part-1.bin": bytes(range(256)) * 400}


class TestAzureModelServed(ModelProviderTests):
    name = "az"

    def provider(self) -> AzureModelParams:
        return AzureModelParams(uri="az://models/tiny", account="name", account_key=KEY)

    @pytest.fixture
    def served(self, model: Callable[..., AzureModelParams], azurite: Azurite) -> Served:
        for path, data in FILES.items():
            azurite.put(f"kit-model/{path}", data)
        # The kit's wrong key is no base64, and refused as such; test_az_fetch has one that the server refuses.
        return Served(provider=model(uri=f"az://{CONTAINER}/kit-model"), files=FILES, checks_secrets=False)


class TestAzureOutput(OutputTargetTests):
    name = "az"

    @pytest.fixture
    def written(self, model: Callable[..., AzureModelParams]) -> Written:
        return Written(provider=model(uri=f"az://{CONTAINER}/kit-written-{uuid.uuid4().hex[:8]}"), checks_secrets=False)
