"""The trainer `wordcount` for Tunewright: it counts words, where yours trains a model."""

from __future__ import annotations

from pathlib import Path

import attrs
from tunewright import RequestError, TrainerProvider, TrainRun, hookimpl


@attrs.frozen(kw_only=True)
class WordcountTrainer(TrainerProvider):
    """Counts the words of .txt files.

    Attributes:
        epochs: passes over the data.
    """

    extra = "container"

    epochs: int = attrs.field(default=3, validator=attrs.validators.ge(1))

    def check_inputs(self, *, model: Path | None, dataset: Path | None, eval_dataset: Path | None) -> None:
        """Refuse a dataset without text; called on the client if the data is there, and in an init container."""
        del model, eval_dataset
        if dataset is not None and not any(dataset.glob("*.txt")):
            remedy = "Give a folder with .txt files."
            raise RequestError("has no text", field="dataset", value=str(dataset), remedy=remedy)

    def train(self, run: TrainRun) -> None:
        """Train; called on every rank."""
        from tunewright_wordcount.container import train

        train(run, epochs=self.epochs)


@hookimpl
def tunewright_trainer_provider() -> type[TrainerProvider]:
    """Return the class for trainer="wordcount"."""
    return WordcountTrainer
