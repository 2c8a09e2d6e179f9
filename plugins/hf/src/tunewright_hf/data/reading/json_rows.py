"""JSON rows, read one by one: the columns of the first ones, and the place where a file is broken.

Rows are read so from the beginning of a file, and after the fast reader has failed; never while training.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from tunewright_hf.data.reading.bad_data import BadFileError
from tunewright_hf.data.reading.compression import open_text, undecodable
from tunewright_hf.data.reading.json_stream import JsonStream
from tunewright_hf.data.reading.json_wrapper import key_of_rows


def rows(file: Path, encoding: str | None = None) -> Iterator[tuple[int, dict[str, object]]]:
    """Read the rows of JSON lines, of a list, or of the list under an object's only key.

    A text in a list is a row with the column `text`.

    Yields:
        The line in which a row begins, from 1, and the row.

    Raises:
        BadFileError: a row is broken, or is not an object.
    """
    try:
        key = key_of_rows(file, encoding)
        with open_text(file, encoding) as text:
            stream = JsonStream(file, text)
            for line, value in _values(stream) if key is None else _under_key(stream):
                if not isinstance(value, dict):
                    raise BadFileError(file, f"its rows are not objects: {json.dumps(value)[:40]}", line=line)
                yield line, value
    except UnicodeDecodeError as error:
        raise undecodable(file, encoding) or BadFileError(file, str(error)) from None


def _values(stream: JsonStream) -> Iterator[tuple[int, object]]:
    if stream.next() == "[":
        for line, value in stream.elements():
            yield line, {"text": value} if isinstance(value, str) else value
        return
    while stream.next():
        yield stream.value()


def _under_key(stream: JsonStream) -> Iterator[tuple[int, object]]:
    stream.next()
    stream.at += 1
    stream.next()
    stream.value()
    stream.next()
    stream.at += 1  # behind the colon
    stream.next()
    yield from stream.elements()


def first_columns(file: Path, encoding: str | None = None, *, limit: int = 100) -> list[str] | None:
    """Return the columns of the first rows, which are checked; None if there is no row."""
    columns: dict[str, None] | None = None
    for _, row in itertools.islice(rows(file, encoding), limit):
        columns = {**(columns or {}), **dict.fromkeys(row)}
    return None if columns is None else list(columns)


def find_problem(file: Path, encoding: str | None = None) -> BadFileError | None:
    """Return the error of the first row that is broken; None if all can be read."""
    try:
        for _ in rows(file, encoding):
            pass
    except BadFileError as error:
        return error
    return None
