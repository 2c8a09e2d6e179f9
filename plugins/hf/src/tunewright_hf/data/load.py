"""Rows from the files of a split, whatever its format."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import datasets

from tunewright.errors import RequestError
from tunewright_hf.data.files import Split, csv_columns, delimiter

logger = logging.getLogger(__name__)


def load_rows(
    split: Split, field: str, cache: Path, *, streaming: bool = False
) -> datasets.Dataset | datasets.IterableDataset:
    """The rows of a split, whatever its format.

    Args:
        split: its files.
        field: the slot that they come from, for errors.
        cache: folder for what is made of them.
        streaming: read only what is asked for.

    Raises:
        RequestError: they cannot be read.
    """
    files = [str(f) for f in split.files]
    logger.info("%s: %d file(s) as %s", field, len(files), split.format)
    if split.format == "saved":
        saved = datasets.load_from_disk(files[0])
        return saved.to_iterable_dataset() if streaming else saved
    options: dict[str, object] = {}
    if split.format == "csv":
        # All columns as texts, as they are written: "007" and "NA" are no numbers and no gaps.
        texts = {name: datasets.Value("string") for name in csv_columns(split.files[0])}
        options = {"sep": delimiter(split.files[0]), "features": datasets.Features(texts), "keep_default_na": False}
    with readable(split, field):
        return datasets.load_dataset(
            split.format, data_files=files, split="train", cache_dir=str(cache), streaming=streaming, **options
        )


@contextlib.contextmanager
def readable(split: Split, field: str) -> Iterator[None]:
    """In here, rows are read.

    Raises:
        RequestError: they cannot be.
    """
    try:
        yield
    except (datasets.exceptions.DatasetGenerationError, ValueError, OSError) as error:
        cause = error.__cause__ or error
        remedy = "Repair the files, and give all of them the same columns and types."
        problem = f"cannot be read as {split.format}: {type(cause).__name__}: {cause}"
        raise RequestError(problem, field=field, remedy=remedy) from error
