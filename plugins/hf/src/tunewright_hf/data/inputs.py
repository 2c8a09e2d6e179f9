"""What is read, and how: the dataset's folder, the meaning of its columns, and the longest sample. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tunewright.errors import RequestError
from tunewright.providers import TrainRun
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.config.tasks import CAUSAL
from tunewright_hf.data.rows.column_reading import ColumnReading
from tunewright_hf.data.rows.formats import read_columns
from tunewright_hf.data.samples.encode import Goal
from tunewright_hf.data.templates.overrides import check_ends

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEFAULT_MAX_LENGTH = 1024


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
