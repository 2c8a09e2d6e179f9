"""The container half of `https://`, as the conformance kit runs it against real web servers."""

from pathlib import Path

import pytest

from tunewright.testing import DatasetProviderTests, Served
from tunewright_http import HttpDatasetParams

ROWS = b'{"text": "a row"}\n' * 1000


class TestHttpDatasetServed(DatasetProviderTests):
    name = "http"

    def provider(self) -> HttpDatasetParams:
        return HttpDatasetParams(uri="http://data.example/a.jsonl", token="a-token-for-the-test")

    @pytest.fixture
    def served(self, web: str, web_folder: Path) -> Served:
        (web_folder / "kit.jsonl").write_bytes(ROWS)
        return Served(
            provider=HttpDatasetParams(uri=f"{web}/kit.jsonl"), files={"kit.jsonl": ROWS}, checks_secrets=False
        )
