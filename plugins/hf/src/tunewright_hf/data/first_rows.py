"""The first rows of each file, encoded before ranks and GPUs are held, so that bad rows come up early."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.data.encode import Goal, encoder_of
from tunewright_hf.data.files import Part, Split
from tunewright_hf.data.load import iterate, load_rows
from tunewright_hf.data.preference import PREFERENCE
from tunewright_hf.data.prepare import reading_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ROWS = 100
_FILES = 20  # opening very many files would take longer than it is worth


def check_first_rows(split: Split, data: DataParams, tokenizer: PreTrainedTokenizerBase, goal: Goal) -> None:
    """Encode the first rows of each file of a split.

    Raises:
        RequestError: a row cannot be encoded; the message names its file and its number.
    """
    for file in split.files[:_FILES]:
        with tempfile.TemporaryDirectory() as cache:
            _check_file(attrs.evolve(split, files=(file,), part=Part()), data, tokenizer, goal, Path(cache))


def _check_file(split: Split, data: DataParams, tokenizer: PreTrainedTokenizerBase, goal: Goal, cache: Path) -> None:
    rows = iterate(load_rows(split, "dataset", cache, streaming=True), split, "dataset")
    first = next(rows, None)
    if first is None:
        return
    reading = reading_of(first, data, tokenizer, goal)
    if reading.format == PREFERENCE:
        return  # its Trainer class tokenises
    encode = encoder_of(tokenizer, reading.format, reading.data, goal)
    for number, row in enumerate(itertools.islice(itertools.chain([first], rows), _ROWS), start=1):
        try:
            encode(row)
        except RequestError as error:
            problem = f"{error.problem} (row {number} of {split.files[0].name})"
            raise RequestError(problem, field=error.field, remedy=error.remedy) from error
