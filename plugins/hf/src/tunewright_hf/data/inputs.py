"""What is read, and how: the dataset's folder, the meaning of its columns, and the longest sample. Nothing here needs torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from tunewright.errors import RequestError
from tunewright.providers import TrainRun
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.config.mixture import named
from tunewright_hf.config.tasks import CAUSAL
from tunewright_hf.data.reading.files import Split, evaluation_split, find_splits, held_out_split, training_split
from tunewright_hf.data.reading.split_names import only_like, usual_name
from tunewright_hf.data.rows.column_reading import ColumnReading
from tunewright_hf.data.rows.formats import read_columns
from tunewright_hf.data.samples.encode import Goal
from tunewright_hf.data.templates.overrides import check_ends

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEFAULT_MAX_LENGTH = 1024

_KINDS = ("validation", "test", "train")  # of a split to evaluate on, in this order


def resolve_max_length(data: DataParams, context: int | None) -> int:
    """The longest sample in tokens.

    Args:
        data: what the user asked for.
        context: the model's context in tokens, if it has a limit.

    Raises:
        RequestError: the requested length is more than the model supports.
    """
    if data.max_length is None:
        return min(DEFAULT_MAX_LENGTH, context or DEFAULT_MAX_LENGTH)
    if context is not None and data.max_length > context:
        remedy = f"Give {context} or less: the model's max_position_embeddings."
        problem, field = "is longer than the model's context", "DataParams.max_length"
        raise RequestError(problem, field=field, value=data.max_length, remedy=remedy)
    return data.max_length


def reading_of(
    columns: Iterable[str], data: DataParams, tokenizer: PreTrainedTokenizerBase, goal: Goal
) -> ColumnReading:
    """Return how the columns of a dataset are read for a goal.

    Raises:
        RequestError: a column is missing, or is not accounted for.
    """
    found = read_columns(columns, data)
    if goal.task is CAUSAL:
        found = found.for_tokenizer(tokenizer.chat_template)
    elif found.format == "prompt_completion":
        found.refuse_system()
    if data.chat_template is not None and found.format in ("text", "classification"):
        problem = f"renders conversations, and the rows are read as {found.format}"
        remedy = "Leave it out, or name the columns that ask and answer: trainer.data.prompt_template and completion_template."
        raise RequestError(problem, field="DataParams.chat_template", remedy=remedy)
    if data.chat_template is not None:
        check_ends(tokenizer)
    return found


def needed_dataset(run: TrainRun) -> Path:
    """Return the dataset's folder.

    Raises:
        RequestError: the job has no dataset.
    """
    if run.dataset is None:
        raise RequestError(
            "is required for training", field="dataset", remedy="Give dataset=…, for example file:///folder."
        )
    return run.dataset


def splits_of(run: TrainRun, data: DataParams) -> dict[str, tuple[str, Split]]:
    """Return the splits to read: by name, the input slot and the files."""
    dataset = needed_dataset(run)
    splits = {"train": ("dataset", training_split(dataset, data))}
    if run.eval_dataset is not None:
        splits["evaluation"] = ("eval_dataset", evaluation_split(run.eval_dataset, data))
    elif held_out := held_out_split(dataset, data):
        splits["evaluation"] = ("dataset", held_out)
    return splits


def datasets_of(run: TrainRun, data: DataParams) -> list[tuple[str, TrainRun, DataParams]]:
    """Return what the user calls each dataset of a run, a run on that dataset by itself, and how it is read."""
    if not run.mixture:
        return [("dataset", run, data)] if run.dataset is not None else []
    options, alone = named(run.mixture, data), attrs.evolve(run, mixture=(), eval_dataset=None)
    found = [
        (f"dataset[{i}]", attrs.evolve(alone, dataset=part.folder), options[part.name])
        for i, part in enumerate(run.mixture)
    ]
    if run.eval_dataset is not None:
        evaluated = evaluation_options(run.eval_dataset, data)
        found.append(("eval_dataset", attrs.evolve(alone, dataset=run.eval_dataset), evaluated))
    return found


def evaluation_options(folder: Path, data: DataParams) -> DataParams:
    """Return how the `eval_dataset` of a mixture is read as a dataset of its own: by the options of the job."""
    names = list(find_splits(folder, data, "eval_dataset"))
    usual = {usual_name(name): name for name in names}
    found = (usual.get(kind) or only_like(names, kind, data.format) for kind in _KINDS)
    chosen = data.eval_split or next(filter(None, found), None)
    return attrs.evolve(
        data,
        train_split=chosen or next(iter(names), "validation"),
        eval_split=None,
        max_samples=None,
        packing=False,
        streaming=False,
        shuffle_buffer=DataParams().shuffle_buffer,
    )


@contextlib.contextmanager
def about_dataset(field: str) -> Iterator[None]:
    """Make errors about the dataset name an item of the list."""
    try:
        yield
    except RequestError as error:
        if error.field != "dataset":
            raise
        raise error.renamed(field) from error
