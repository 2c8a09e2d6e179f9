"""CSV as people write it: which character separates the columns, which columns there are, and rows of another width.

All values are texts, as they are written: "007" and "NA" are neither numbers nor gaps.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from tunewright_hf.data.reading.bad_data import BadFileError, field_hint
from tunewright_hf.data.reading.compression import open_text, plain_name, undecodable

logger = logging.getLogger(__name__)

DELIMITERS = (",", ";", "\t", "|")
_SAMPLE = 1 << 16  # characters
_FIRST = 100  # rows
_LONGEST = 1 << 26  # characters of a value
_UNNAMED = re.compile(r"(?:Unnamed: \d+(?:[._]\d+)*)?")  # as pandas writes or reads the column of its index
_NUMBER = re.compile(r"\s*-?\d*\s*", re.ASCII)
_BLANK = re.compile(r"\s*", re.ASCII)


@attrs.frozen(kw_only=True)
class CsvTable:
    """A CSV file, and how it is read.

    Attributes:
        file: the file.
        encoding: of its text, if that was given.
        delimiter: what separates the columns.
        header: the names of all columns.
        kept: the numbers of the columns that hold data; the others are empty, or number the rows.
    """

    file: Path
    encoding: str | None
    delimiter: str
    header: tuple[str, ...]
    kept: tuple[int, ...]

    @property
    def columns(self) -> list[str]:
        """The names of the columns that hold data."""
        return [self.header[i] for i in self.kept]

    @property
    def left_out(self) -> list[str]:
        """The names of the other columns that have one."""
        return [name or "without a name" for i, name in enumerate(self.header) if i not in self.kept]

    @property
    def passed_over(self) -> Mapping[int, re.Pattern[str]]:
        """The numbers of the other columns, and what all their values are: numbers of rows, or nothing."""
        left_out = {i: name for i, name in enumerate(self.header) if i not in self.kept}
        return {i: _NUMBER if name or i == 0 else _BLANK for i, name in left_out.items()}

    def rows(self) -> Iterator[Sequence[str]]:
        """Read the values of the columns that hold data, row by row.

        Raises:
            BadFileError: a row has another number of values than the header, or a quote without an end.
        """
        width, select = len(self.header), self.kept
        whole = len(select) == width
        passed_over = self.passed_over
        lines = _records(self.file, self.encoding, self.delimiter)
        next(lines, None)
        for line, row in lines:
            if len(row) != width:
                raise self._other_width(line, row)
            for i, pattern in passed_over.items():
                if not pattern.fullmatch(row[i]):
                    raise _nameless(self.file, line, i, self.header[i])
            yield row if whole else [row[i] for i in select]

    def lines(self) -> Iterator[int]:
        """Yield the line in which each row begins, from 1."""
        lines = _records(self.file, self.encoding, self.delimiter)
        next(lines, None)
        yield from (line for line, _ in lines)

    def _other_width(self, line: int, row: Sequence[str]) -> BadFileError:
        problem = f"has {len(row)} values, and the header has {len(self.header)} columns"
        remedy = (
            f"Write quotes around a value that contains {self.delimiter!r}, or give the header a name for each column."
        )
        if not row[-1].strip() and len(row) == len(self.header) + 1:
            remedy = f"Remove the {self.delimiter!r} at the ends of the rows, or add one to the header."
        elif len(self.header) == 1:
            remedy += f" If another character separates the columns, name it: {field_hint('delimiter', ';')}."
        return BadFileError(self.file, problem, remedy=remedy, line=line)


def inspect(file: Path, encoding: str | None = None, delimiter: str | None = None) -> CsvTable | None:
    """Return how a CSV file is read; None if it is empty.

    Raises:
        BadFileError: its header cannot be read, or names a column twice or not at all.
    """
    found = delimiter or _delimiter(file, encoding)
    records = _records(file, encoding, found)
    _, header = next(records, (0, []))
    if not header:
        return None
    names = tuple(name.strip() for name in header)
    if doubled := next((name for name in names if name and names.count(name) > 1), None):
        remedy = "Give each column a name of its own."
        raise BadFileError(file, f"the header has the column {doubled!r} twice", remedy=remedy, line=1)
    first = [row for _, row in itertools.islice(records, _FIRST) if len(row) == len(names)]
    left_out = {i for i, name in enumerate(names) if _is_no_data(file, i, name, first)}
    kept = tuple(i for i in range(len(names)) if i not in left_out)
    if not kept:
        raise BadFileError(file, "the header names no column", remedy="Write the names into the first line.", line=1)
    return CsvTable(file=file, encoding=encoding, delimiter=found, header=names, kept=kept)


def _is_no_data(file: Path, number: int, name: str, rows: Sequence[Sequence[str]]) -> bool:
    """Whether a column without a name of its own numbers the rows, or is empty."""
    if not _UNNAMED.fullmatch(name):
        return False
    filled = [row[number] for row in rows if row[number].strip()]
    if not filled or ((number == 0 or name) and is_index(filled)):
        return True
    if not name:
        raise _nameless(file, 1, number, name)
    return False


def is_index(values: Sequence[str]) -> bool:
    """Return whether values are an index: whole numbers, none of them twice, but for tables that were put behind each other."""
    if not all(_NUMBER.fullmatch(value) for value in values):
        return False
    numbers = [int(value) for value in values if value.strip(" -")]
    behind = all(second in (first + 1, 0) for first, second in itertools.pairwise(numbers))
    return len(set(numbers)) == len(numbers) or (behind and numbers[:2] == [0, 1])


def _nameless(file: Path, line: int, number: int, name: str) -> BadFileError:
    of_its_own = " of its own" if name else ""
    problem = f"column {number + 1} has values, and no name{of_its_own} in the header"
    return BadFileError(file, problem, remedy="Write its name into the header, or remove the column.", line=line)


def _records(file: Path, encoding: str | None, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Read the records of a file, without blank lines, and the line in which each begins."""
    csv.field_size_limit(
        _LONGEST
    )  # the limit is the process's; the rest behind a quote without an end may be gigabytes
    with decoded(file, encoding), open_text(file, encoding) as stream:
        reader, line = csv.reader(stream, delimiter=delimiter, strict=True), 1
        try:
            for row in reader:
                if row:
                    yield line, row
                line = reader.line_num + 1
        except csv.Error as error:
            raise _unquoted(file, line, error, delimiter) from None


def _unquoted(file: Path, line: int, error: csv.Error, delimiter: str) -> BadFileError:
    problem, remedy = str(error), 'Write a quote within a quoted value twice: "He said ""yes""".'
    if problem.startswith("field larger than field limit"):
        problem = f"a value has more than {_LONGEST:,} characters: the quote that opens it may never be closed"
    elif "unexpected end of data" in problem:
        problem = "the quote that opens in this row is never closed"
    elif "expected after" in problem:
        problem = f"a quoted value goes on after its closing quote, where {delimiter!r} is expected"
    return BadFileError(file, problem, remedy=remedy, line=line)


@contextlib.contextmanager
def decoded(file: Path, encoding: str | None) -> Iterator[None]:
    """In here, the text of a file is read.

    Raises:
        BadFileError: it has bytes that its encoding has no character for.
    """
    try:
        yield
    except UnicodeError as error:
        raise undecodable(file, encoding) or BadFileError(file, str(error)) from None


def _delimiter(file: Path, encoding: str | None) -> str:
    """Return what separates the columns: what gives the header several, and the first rows as many."""
    if plain_name(file).endswith(".tsv"):
        return "\t"
    with decoded(file, encoding), open_text(file, encoding) as stream:
        sample = stream.read(_SAMPLE)
    lines = list(io.StringIO(sample, newline=""))
    if len(sample) == _SAMPLE:
        lines = lines[:-1] or lines
    best = max(DELIMITERS, key=lambda candidate: _fit(lines, candidate))
    return best if _fit(lines, best)[1] > 1 else ","


def _fit(lines: Sequence[str], delimiter: str) -> tuple[float, int]:
    """Return the share of rows that are as wide as the header, and the header's width; nothing for a single column."""
    try:
        first = list(itertools.islice((row for row in csv.reader(lines, delimiter=delimiter) if row), _FIRST))
    except csv.Error:
        return 0.0, 0
    width = len(first[0]) if first else 0
    if width <= 1:
        return 0.0, 0
    return sum(len(row) == width for row in first) / len(first), width


def check_first(file: Path, encoding: str | None = None, delimiter: str | None = None) -> list[str] | None:
    """Return the columns of a CSV file whose first rows are checked; None if it has no row."""
    table = inspect(file, encoding, delimiter)
    if table is None:
        return None
    first = list(itertools.islice(table.rows(), _FIRST))
    return table.columns if first else None
