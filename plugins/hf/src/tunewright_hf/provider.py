"""The trainer `hf`: what runs on the client, in the init container and on every rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Self

import attrs

from tunewright.providers import (
    DatasetProvider,
    MixturePart,
    ModelProvider,
    Preview,
    TrainedModel,
    TrainRun,
    accept_keywords,
)
from tunewright_hf.config.library_arguments import LoraConfig
from tunewright_hf.config.train_params import CONTINUE, TrainParams, rewrite_keywords
from tunewright_hf.startup import without_garbage_collection


@accept_keywords(rewrite_keywords)
@attrs.frozen(kw_only=True)
class HuggingFaceTrainParams(TrainParams):
    """Fine-tune language models and sequence classifiers with transformers' Trainer and PEFT.

    The fields of TrainingArguments may also be given directly, and `peft_config` for `lora_config`:
    `HuggingFaceTrainParams(learning_rate=1e-4, peft_config={})`.

    Raises:
        RequestError: a field is unknown or has the wrong type.
    """

    extra: ClassVar[str | None] = "train"

    def check_inputs(self, *, model: Path | None, dataset: Path | None, eval_dataset: Path | None) -> None:
        """Refuse a folder without a model, an empty dataset, and a dataset that lacks a configured column."""
        from tunewright_hf.data.rows.formats import check_dataset
        from tunewright_hf.model.files import check_model

        if model is not None:
            check_model(model)
        if dataset is not None:
            self.check_single()
        for field, folder in (("dataset", dataset), ("eval_dataset", eval_dataset)):
            if folder is not None:
                self.check_format(check_dataset(folder, self.data, field))

    def for_adapter(self, adapter: ModelProvider) -> Self:
        """Return this trainer with LoRA, if it continues the adapter; `check` compares it with the model."""
        from tunewright_hf.model.files import adapter_config

        self.check_adapter_mode(given=True)
        if (path := adapter.local_path()) is not None and path.is_dir():
            adapter_config(path)
        continues = self.adapter_mode == CONTINUE and self.lora_config is None
        return attrs.evolve(self, lora_config=LoraConfig()) if continues else self

    def for_part(self, part: MixturePart, dataset: DatasetProvider) -> MixturePart:
        """Return a dataset of a mixture with the configuration, the split and the rows that its provider names."""
        from tunewright_hf.config.mixture import with_provider_part

        return with_provider_part(part, dataset, self.data)

    def check_mixture(self, parts: Sequence[MixturePart]) -> None:
        """Refuse options that are not a dataset's own, other tasks than language modeling, and unusable datasets."""
        from tunewright_hf.config.mixture import check_parts, refuse_pairs
        from tunewright_hf.data.rows.formats import check_dataset

        data = check_parts(parts, self)
        for number, part in enumerate(parts):
            if part.folder is not None:
                refuse_pairs(check_dataset(part.folder, data[part.name], f"dataset[{number}]"), number)

    def import_libraries(self) -> None:
        """Import what `check` and `train` need."""
        with without_garbage_collection():
            import tunewright_hf.check
            import tunewright_hf.train.run  # noqa: F401

    def check(self, run: TrainRun) -> None:
        """Build everything that can be built without a GPU and without weights; see `tunewright_hf.check`."""
        with without_garbage_collection():
            from tunewright_hf.check import check

        check(self, run)

    def preview(self, run: TrainRun) -> Iterator[Preview]:
        """Yield samples as the trainer will see them; see `tunewright_hf.preview` and `tunewright_hf.preview_process`."""
        from tunewright_hf.preview_process import preview

        return preview(self, run)

    def load_result(self, folder: Path, model: Path | None) -> TrainedModel:
        """Load a result to use it; see `tunewright_hf.trained`."""
        from tunewright_hf.trained import load

        return load(folder, model)

    def result_commands(self) -> tuple[str, ...]:
        """Return "chat" for a model that writes, and "merge" for its adapter."""
        if not self.task.writes:
            return ()
        return ("chat",) if self.lora_config is None or self.merge else ("chat", "merge")

    def check_result(self, folder: Path) -> None:
        """Refuse a folder that has neither a whole model nor an adapter, and a checkpoint."""
        from tunewright_hf.model.files import check_result

        check_result(folder)

    def train(self, run: TrainRun) -> None:
        """Train, on every rank; see `tunewright_hf.train.run`."""
        with without_garbage_collection():
            from tunewright_hf.train.run import train

        train(self, run)
