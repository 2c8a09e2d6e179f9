"""CSV and text files as builders of `datasets`: its own pass over columns that shift, and know no line."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import pyarrow as pa
from datasets.builder import Key

from tunewright_hf.data.reading import csv_rows, csv_tables, text_rows
from tunewright_hf.data.reading.bad_data import BadFileError
from tunewright_hf.data.reading.compression import stamp
from tunewright_hf.data.reading.files import Reading

logger = logging.getLogger(__name__)

_ROWS = 5000  # of a table of texts
_CHARACTERS = 16 << 20  # of such a table, at most, but for its last row
_NO_READING = Reading()


@dataclass
class FilesConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """Which files are read, and how.

    Attributes:
        files: their paths.
        reading: how they are read.
    """

    files: list[str] = field(default_factory=list)
    reading: Reading = _NO_READING


class _Builder(datasets.ArrowBasedBuilder):  # type: ignore[misc]
    BUILDER_CONFIG_CLASS = FilesConfig
    config: FilesConfig

    def _columns(self) -> list[str]:
        raise NotImplementedError

    def _info(self) -> datasets.DatasetInfo:
        columns = {name: datasets.Value("string") for name in self._columns()}
        return datasets.DatasetInfo(features=datasets.Features(columns))

    def _split_generators(self, dl_manager: object) -> list[datasets.SplitGenerator]:  # noqa: ARG002 - of its signature
        return [datasets.SplitGenerator(name="train", gen_kwargs={"files": self.config.files})]

    def _generate_shards(self, files: list[str]) -> Iterator[str]:
        yield from files


class CsvRows(_Builder):
    """The rows of CSV files, all values of which are texts."""

    def _inspect(self, file: str) -> csv_rows.CsvTable | None:
        reading = self.config.reading
        return csv_rows.inspect(Path(file), reading.encoding, reading.delimiter)

    def _columns(self) -> list[str]:
        table = next(filter(None, map(self._inspect, self.config.files)), None)
        if table is not None and table.left_out:
            logger.info("columns without data of their own are left out: %s", ", ".join(table.left_out))
        return table.columns if table else []

    def _generate_tables(self, files: list[str]) -> Iterator[tuple[Key, pa.Table]]:
        expected = list(self.info.features)
        for number, file in enumerate(files):
            table = self._inspect(file)
            if table is None:
                continue
            if set(table.columns) != set(expected):
                problem = f"has the columns {', '.join(table.columns)}, and others have {', '.join(expected)}"
                raise BadFileError(Path(file), problem, remedy="Give all files of a split the same columns.", line=1)
            for batch, rows in enumerate(csv_tables.tables(table, expected)):
                yield Key(number, batch), rows


class TextRows(_Builder):
    """The rows of text files: lines, paragraphs or documents."""

    def _columns(self) -> list[str]:
        return ["text"]

    def _generate_tables(self, files: list[str]) -> Iterator[tuple[Key, pa.Table]]:
        reading = self.config.reading
        for number, file in enumerate(files):
            rows = text_rows.rows(Path(file), reading.text_unit, reading.encoding)
            for batch, values in enumerate(_batches(rows)):
                yield Key(number, batch), pa.table({"text": pa.array(values, pa.string())})


def _batches(rows: Iterator[str]) -> Iterator[list[str]]:
    batch, size = [], 0
    for row in rows:
        batch.append(row)
        size += len(row)
        if len(batch) == _ROWS or size >= _CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def build(
    kind: str, files: list[str], reading: Reading, cache: Path, *, streaming: bool
) -> datasets.Dataset | datasets.IterableDataset:
    """Return the rows of CSV or text files.

    Raises:
        BadFileError: they cannot be read.
    """
    made_of = hashlib.sha256("".join(stamp(Path(file), kind, reading) for file in files).encode()).hexdigest()[:16]
    builder = {"csv": CsvRows, "text": TextRows}[kind](
        cache_dir=str(cache),
        config_name=f"{kind}-{made_of}",  # which names the folder in the cache, and the fingerprint of the rows
        files=files,
        reading=reading,
    )
    if streaming:
        return builder.as_streaming_dataset(split="train")
    builder.download_and_prepare()
    return builder.as_dataset(split="train")
