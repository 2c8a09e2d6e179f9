"""The container half of `gs://`, as the conformance kit runs it against a real server."""

import uuid
from collections.abc import Callable

import pytest
from tests.servers.gcs import BUCKET, GoogleStorage

from tunewright.testing import ModelProviderTests, OutputTargetTests, Served, Written
from tunewright_gs import GSModelParams

TOKEN = "a-token-for-the-test"
FILES = {"config.json": b"{}", "weights/part-1.bin": bytes(range(256)) * 400}


class TestGSModelServed(ModelProviderTests):
    name = "gs"

    def provider(self) -> GSModelParams:
        return GSModelParams(uri="gs://bucket/model", access_token=TOKEN)

    @pytest.fixture
    def served(self, model: Callable[..., GSModelParams], storage: GoogleStorage) -> Served:
        for path, data in FILES.items():
            storage.put(f"kit-model/{path}", data)
        return Served(
            provider=model(uri=f"gs://{BUCKET}/kit-model"), files=FILES, checks_secrets=False
        )  # the fake takes any


class TestGSOutput(OutputTargetTests):
    name = "gs"

    @pytest.fixture
    def written(self, model: Callable[..., GSModelParams]) -> Written:
        return Written(provider=model(uri=f"gs://{BUCKET}/kit-written-{uuid.uuid4().hex[:8]}"), checks_secrets=False)
