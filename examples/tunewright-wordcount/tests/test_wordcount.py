"""The conformance kit, which trains for real: on two ranks, with a kill and a continuation."""

from __future__ import annotations

from pathlib import Path

import pytest
from tunewright import RequestError
from tunewright.testing import TrainerProviderTests, TrainInputs
from tunewright_wordcount import WordcountTrainer


class TestWordcountTrainer(TrainerProviderTests):
    name = "wordcount"
    exact_resume = True

    def provider(self) -> WordcountTrainer:
        return WordcountTrainer(epochs=4)

    @pytest.fixture
    def inputs(self, tmp_path: Path) -> TrainInputs:
        folder = tmp_path / "texts"
        folder.mkdir()
        (folder / "a.txt").write_text("to be or not\nto be\n" * 100)
        return TrainInputs(dataset=folder)

    def test_a_dataset_without_text_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="has no text"):
            self.provider().check_inputs(model=None, dataset=tmp_path, eval_dataset=None)
