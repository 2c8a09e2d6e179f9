"""The conformance kit, which downloads and uploads for real with a fake of the service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from service import TOKEN, running
from tunewright.testing import ModelProviderTests, OutputTargetTests, Served, Written
from tunewright_shelf import ShelfModel

FILES = {"config.json": b"{}", "weights/part-1.bin": bytes(range(256)) * 400}


class TestShelfModel(ModelProviderTests):
    name = "shelf"

    def provider(self) -> ShelfModel:
        return ShelfModel(uri="shelf://example", token="a-token-that-must-not-show")

    @pytest.fixture
    def served(self) -> Iterator[Served]:
        with running({f"kit/{path}": data for path, data in FILES.items()}) as address:
            yield Served(provider=ShelfModel(uri="shelf://kit", server=address, token=TOKEN), files=FILES)


class TestShelfOutput(OutputTargetTests):
    name = "shelf"

    @pytest.fixture
    def written(self) -> Iterator[Written]:
        files: dict[str, bytes] = {}
        with running(files) as address:
            yield Written(
                provider=ShelfModel(uri="shelf://results", server=address, token=TOKEN),
                beside=ShelfModel(uri="shelf://results-of-others", server=address, token=TOKEN),
                contents=lambda: {p.removeprefix("results/"): d for p, d in files.items() if p.startswith("results/")},
            )
