"""The container half of `kaggle://`, as the conformance kit runs it against a Kaggle on the loopback interface."""

import random

import pytest
from tests.servers.kaggle import TOKEN, Archive, FakeKaggle, Thing

from tunewright.testing import DatasetProviderTests, ModelProviderTests, Served
from tunewright_kaggle import KaggleDatasetParams, KaggleModelParams

pytestmark = pytest.mark.slow

FILES = {"config.json": b"{}", "sub/weights.bin": random.Random(0).randbytes(200_000)}


@pytest.fixture(autouse=True)
def _asks_the_fake(kaggle: FakeKaggle, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in kaggle.environment.items():
        monkeypatch.setenv(name, value)


class TestModelServed(ModelProviderTests):
    name = "kaggle"

    def provider(self) -> KaggleModelParams:
        return KaggleModelParams(uri="kaggle://models/google/gemma/transformers/2b/1", api_token=TOKEN)

    @pytest.fixture
    def served(self, kaggle: FakeKaggle) -> Served:
        kaggle.things["models/google/gemma/transformers/2b"] = Thing(archives={1: Archive.tarred(FILES)}, private=True)
        missing = KaggleModelParams(uri="kaggle://models/google/gemma/transformers/none/1", api_token=TOKEN)
        return Served(provider=self.provider(), files=FILES, missing=missing)


class TestDatasetServed(DatasetProviderTests):
    name = "kaggle"

    def provider(self) -> KaggleDatasetParams:
        return KaggleDatasetParams(uri="kaggle://datasets/owner/name", api_token=TOKEN)

    @pytest.fixture
    def served(self, kaggle: FakeKaggle) -> Served:
        kaggle.things["datasets/owner/name"] = Thing(archives={1: Archive.zipped(FILES)}, private=True)
        return Served(provider=self.provider(), files=FILES)
