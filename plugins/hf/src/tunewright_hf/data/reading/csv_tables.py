"""The rows of a CSV file as Arrow tables, parsed in bulk.

pyarrow parses faster than Python's csv module, and accepts what is not CSV: text behind a closing quote, or a quote that is
never closed. So each block is parsed by pyarrow only if its quotes are seen to be where they belong. From the first block
on of which this is not true, or which pyarrow refuses, the csv module reads the file: it names the line of what is wrong.
"""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from tunewright_hf.data.reading.compression import encoding_of, open_bytes, open_text
from tunewright_hf.data.reading.csv_rows import CsvTable, decoded

_BLOCK = 4 << 20  # bytes
_LONGEST = 16  # blocks that one row may reach over
_ROWS = 5000  # of a table that the csv module reads; few enough that those of long texts fit into memory
_QUOTE, _LINE_FEED, _RETURN = b'"\n\r'
_UTF8 = ("utf-8", "utf-8-sig")


class _NotPlainError(Exception):
    """A block is not CSV, or is not seen to be CSV without reading it character by character."""


def tables(table: CsvTable, columns: Sequence[str], *, block: int = _BLOCK) -> Iterator[pa.Table]:
    """Read a CSV file in tables of its columns that hold data, all of them texts.

    Args:
        table: the file.
        columns: the names of these columns in the order wanted.
        block: how much of the file is parsed at a time, in bytes.

    Raises:
        BadFileError: a row cannot be read, as `CsvTable.rows`.
    """
    done = 0
    try:
        for found in _parsed(table, block):
            done += found.num_rows
            yield found.select(columns)
    except _NotPlainError:
        rows = itertools.islice(table.rows(), done, None)
        while (found := _table(table.columns, itertools.islice(rows, _ROWS))).num_rows:
            yield found.select(columns)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> pa.Table:
    values: list[list[str]] = [[] for _ in columns]
    for row in rows:  # which are not kept: the garbage collector would visit each of them
        for column, value in zip(values, row, strict=True):
            column.append(value)
    return pa.table({name: pa.array(column, pa.string()) for name, column in zip(columns, values, strict=True)})


def _parsed(table: CsvTable, block: int) -> Iterator[pa.Table]:
    if not table.delimiter.isascii():
        raise _NotPlainError
    names = [str(i) for i in range(len(table.header))]
    kept = [names[i] for i in table.kept]
    passed_over = {names[i]: f"^(?:{pattern.pattern})$" for i, pattern in table.passed_over.items()}
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), include_columns=[*kept, *passed_over], strings_can_be_null=False
    )
    parse = csv.ParseOptions(delimiter=table.delimiter, newlines_in_values=True)
    header = 1  # rows that are not data
    with decoded(table.file, table.encoding):
        for piece in _pieces(table, block):
            read = csv.ReadOptions(column_names=names, block_size=len(piece) + 1, use_threads=False)
            try:
                found = csv.read_csv(pa.py_buffer(piece), read, parse, convert)
            except pa.ArrowInvalid as error:
                raise _NotPlainError from error
            found, header = found.slice(header), max(header - found.num_rows, 0)
            if not all(
                pc.all(pc.match_substring_regex(found[n], p)).as_py() for n, p in passed_over.items() if len(found)
            ):
                raise _NotPlainError
            yield found.select(kept).rename_columns(table.columns)


def _pieces(table: CsvTable, size: int) -> Iterator[bytes]:
    """Read the file in pieces of whole rows, in UTF-8.

    Raises:
        _NotPlainError: a piece has quotes that are not around a value or doubled within one.
    """
    delimiter, rest = ord(table.delimiter), b""
    for block in _blocks(table, size):
        data = rest + block
        quotes = np.flatnonzero(np.frombuffer(data, np.uint8) == _QUOTE)
        end = _end_of_rows(data, quotes)
        if not end and len(data) > size * _LONGEST:
            raise _NotPlainError
        piece, rest = data[:end], data[end:]
        if piece:
            _check_quotes(piece, quotes[: np.searchsorted(quotes, end)], delimiter)
            yield piece
    if rest:
        _check_quotes(rest, np.flatnonzero(np.frombuffer(rest, np.uint8) == _QUOTE), delimiter)
        yield rest


def _blocks(table: CsvTable, size: int) -> Iterator[bytes]:
    encoding = encoding_of(table.file, table.encoding)
    if encoding in _UTF8:
        with open_bytes(table.file) as raw:
            start = raw.read(len(codecs.BOM_UTF8))
            yield start.removeprefix(codecs.BOM_UTF8)
            yield from _read(raw, size)
    else:
        with open_text(table.file, table.encoding) as text:
            while block := text.read(size):
                yield block.encode()


def _read(raw: IO[bytes], size: int) -> Iterator[bytes]:
    while block := raw.read(size):
        yield block


def _end_of_rows(data: bytes, quotes: np.ndarray) -> int:
    """Return where the last line ends that is not within quotes; 0 if there is none."""
    end = data.rfind(b"\n")
    while end >= 0 and (before := int(np.searchsorted(quotes, end))) % 2:
        end = data.rfind(b"\n", 0, int(quotes[before - 1]))
    return end + 1


def _check_quotes(piece: bytes, quotes: np.ndarray, delimiter: int) -> None:
    """Check that the first, third, … quote begins a value or is the second of two, and that the others end one or are the first.

    Raises:
        _NotPlainError: they do not, or one is left open.
    """
    if len(quotes) % 2:
        raise _NotPlainError
    data = np.frombuffer(b"\n" + piece + b"\n", np.uint8)
    around = np.zeros(256, bool)
    around[[delimiter, _LINE_FEED, _RETURN, _QUOTE]] = True
    if not around[data[quotes[::2]]].all() or not around[data[quotes[1::2] + 2]].all():
        raise _NotPlainError
