"""The container half of `hf://`, as the conformance kit runs it against a Hub on the loopback interface."""

import random
from collections.abc import Iterator

import attrs
import pytest
from tests.servers.git import Lfs
from tests.servers.hub import Hub

from tunewright.testing import DatasetProviderTests, ModelProviderTests, OutputTargetTests, Served, Written
from tunewright_hf import HuggingFaceDatasetParams, HuggingFaceModelParams

pytest.importorskip("huggingface_hub")
pytestmark = pytest.mark.slow

TOKEN = "hf-token-of-the-test"
WEIGHTS = random.Random(0).randbytes(300_000)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        running.tokens = {TOKEN: "write"}
        yield running


class TestModelServed(ModelProviderTests):
    name = "hf"

    def provider(self) -> HuggingFaceModelParams:
        return HuggingFaceModelParams(uri="hf://org/model", access_token=TOKEN)

    @pytest.fixture
    def served(self, hub: Hub) -> Served:
        files = {"config.json": b"{}", "sub folder/ä.json": b"[]", "model.safetensors": Lfs(WEIGHTS)}
        repo = hub.repo("org/model", files, private=True, members={TOKEN})
        return Served(provider=attrs.evolve(self.provider(), endpoint=hub.url), files=repo.contents)


class TestDatasetServed(DatasetProviderTests):
    name = "hf"

    def provider(self) -> HuggingFaceDatasetParams:
        return HuggingFaceDatasetParams(uri="hf://datasets/org/data", access_token=TOKEN)

    @pytest.fixture
    def served(self, hub: Hub) -> Served:
        files = {"train.jsonl": b'{"text": "a"}\n' * 50, "data/part-1.parquet": Lfs(WEIGHTS)}
        repo = hub.repo("org/data", files, kind="datasets", private=True, members={TOKEN})
        return Served(provider=attrs.evolve(self.provider(), endpoint=hub.url), files=repo.contents)


class TestOutput(OutputTargetTests):
    name = "hf"

    @pytest.fixture
    def written(self, hub: Hub) -> Written:
        provider = HuggingFaceModelParams(uri="hf://org/result", access_token=TOKEN, endpoint=hub.url)
        return Written(
            provider=provider,
            contents=lambda: hub.models["org/result"].contents,
            own_files={".gitattributes"},
        )
