"""Rows that cannot be used: refused with their file and row, or left out and counted by reason."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import pyarrow as pa
import pyarrow.parquet as pq

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DROP, DataParams
from tunewright_hf.data.reading import csv_rows, json_rows, text_rows
from tunewright_hf.data.reading.bad_data import BadFileError, field_hint
from tunewright_hf.data.reading.files import Split
from tunewright_hf.data.reading.load import positions

NOTHING = "nothing to learn"
"""How the reasons begin of rows that are left out whatever `on_bad_row` says."""

EMPTY = f"{NOTHING}, because there is no text or no answer"
"""The reason of a row without content."""

Dropped = dict[str, tuple[int, int]]
"""Rows that were left out, by reason: how many, and the number of the first in the split, from 0."""

_SHOWN = 3  # reasons with the place of their first row


class BadRowError(Exception):
    """A row that cannot be used.

    Args:
        number: its number in the split, from 0.
        error: why.
    """

    def __init__(self, number: int, error: RequestError) -> None:
        super().__init__(number, error)
        self.number = number
        self.error = error


def drop(dropped: Dropped, reason: str, number: int) -> None:
    """Add a row to those that were left out."""
    count, first = dropped.get(reason, (0, number))
    dropped[reason] = (count + 1, min(first, number))


def merged(several: Iterable[Mapping[str, Sequence[int]]]) -> Dropped:
    """Return all rows that were left out."""
    found: Dropped = {}
    for dropped in several:
        for reason, (count, first) in dropped.items():
            before, earliest = found.get(reason, (0, first))
            found[reason] = (before + count, min(earliest, first))
    return found


def refuse_or_drop(error: RequestError, number: int, data: DataParams, dropped: Dropped) -> None:
    """Do with a row that cannot be used as `data` says; the reason of a drop is the problem up to the first colon.

    Raises:
        BadRowError: such rows are not to be dropped.
    """
    if data.on_bad_row != DROP:
        raise BadRowError(number, error) from error
    drop(dropped, error.problem.partition(": ")[0], number)


@attrs.frozen(kw_only=True)
class Place:
    """Where a row stands.

    Attributes:
        file: its file.
        row: its number in the file, from 1.
        line: the line in which it begins, from 1; None for files without lines.
    """

    file: Path
    row: int
    line: int | None = None

    def __str__(self) -> str:
        if self.line is None:
            return f"row {self.row} of {self.file}"
        if self.line == self.row:
            return f"line {self.line} of {self.file}"
        return f"row {self.row} (line {self.line}) of {self.file}"


def places_of(split: Split, numbers: Collection[int], cache: Path, *, streaming: bool = False) -> dict[int, Place]:
    """Return where rows of a split stand. The files are read up to the last of these rows.

    Args:
        split: the split.
        numbers: the rows' numbers in the split, from 0.
        cache: the folder that the split was read with.
        streaming: whether it was streamed.
    """
    wanted = dict(zip(positions(split, list(numbers), cache, streaming=streaming), numbers, strict=True))
    found: dict[int, Place] = {}
    everywhere = ((file, row, line) for file in split.files for row, line in enumerate(_lines(split, file), start=1))
    with contextlib.suppress(BadFileError):  # the fast readers may accept what these do not
        for at, (file, row, line) in enumerate(everywhere):
            if at in wanted:
                found[wanted[at]] = Place(file=file, row=row, line=line)
            if len(found) == len(wanted):
                break
    return found


def _lines(split: Split, file: Path) -> Iterator[int | None]:
    """Yield the line in which each row of a file begins."""
    reading = split.reading
    if split.format == "json":
        yield from (line for line, _ in json_rows.rows(file, reading.encoding))
    elif split.format == "csv":
        table = csv_rows.inspect(file, reading.encoding, reading.delimiter)
        yield from table.lines() if table else ()
    elif split.format == "text":
        by_line = text_rows.unit_of(file, reading.text_unit) == "line"
        rows = enumerate(text_rows.rows(file, reading.text_unit, reading.encoding), start=1)
        yield from (line if by_line else None for line, _ in rows)
    elif split.format == "parquet":
        yield from itertools.repeat(None, pq.read_metadata(file).num_rows)
    elif split.format == "arrow":
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
            yield from itertools.repeat(None, sum(batch.num_rows for batch in reader))
    else:
        yield from itertools.repeat(None)  # all files of the folder are read as one


@contextlib.contextmanager
def located(split: Split, cache: Path, *, streaming: bool = False) -> Iterator[None]:
    """In here, rows of a split are encoded.

    Raises:
        RequestError: a row cannot be used; the message names its file and row.
    """
    try:
        yield
    except BadRowError as bad:
        found = places_of(split, [bad.number], cache, streaming=streaming)
        place = found.get(bad.number, f"row {bad.number + 1} of the split")
        problem = f"{bad.error.problem.rstrip('.')} ({place})"
        between = "\n" if "\n" in bad.error.remedy else " "  # lines of a job file stand by themselves
        remedy = (
            f"{bad.error.remedy}{between}To leave such rows out, and count them: {field_hint('on_bad_row', 'drop')}."
        )
        raise RequestError(problem, field=bad.error.field, remedy=remedy) from bad.error


def counted(dropped: Dropped) -> dict[str, int]:
    """Return by reason how many rows were left out."""
    return {reason: count for reason, (count, _) in dropped.items()}


def described(reasons: Mapping[str, int]) -> str:
    """Return the reasons for which rows were left out, the most frequent first, with their numbers."""
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    return "; ".join(f"{count} {reason}" if len(ordered) > 1 else reason for reason, count in ordered)


def no_sample(name: str, rows: int, reasons: Mapping[str, int]) -> RequestError:
    """Return the error for a split none of whose rows can be trained on."""
    field = "dataset" if name == "train" else "eval_dataset"
    all_ = "its only row leaves nothing" if rows == 1 else f"none of its {rows} rows leaves anything"
    problem = f"{all_} to learn: {described(reasons)}"
    remedy = (
        "Give rows with a text, an answer, or a message of the assistant (trainer.data.roles says who that is, where it has "
        "another name), or a longer DataParams.max_length."
    )
    if any(not reason.startswith(NOTHING) for reason in reasons):
        remedy = "Write trainer.data.on_bad_row: refuse to read where the first of them stands, and what to change."
    return RequestError(problem, field=field, remedy=remedy)


def examples(split: Split, dropped: Dropped, cache: Path, *, streaming: bool = False) -> list[str]:
    """Return the places of the first rows of the most frequent reasons, other than that there is nothing to learn."""
    bad = sorted((-count, row, reason) for reason, (count, row) in dropped.items() if not reason.startswith(NOTHING))
    first = {reason: row for _, row, reason in bad[:_SHOWN]}
    places = places_of(split, first.values(), cache, streaming=streaming) if first else {}
    return [f"{reason}: {places[row]}" for reason, row in first.items() if row in places]
