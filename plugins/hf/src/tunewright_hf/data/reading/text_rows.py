"""Rows of text files: a line, a paragraph or a document each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from tunewright_hf.data.reading.bad_data import BadFileError
from tunewright_hf.data.reading.compression import open_text, plain_name, undecodable

MARKDOWN = (".md", ".markdown")


def unit_of(file: Path, given: str | None) -> str:
    """Return what a row of a text file is: the unit given, or a document of Markdown, or a line of another text."""
    return given or ("document" if plain_name(file).endswith(MARKDOWN) else "line")


def rows(file: Path, unit: str | None = None, encoding: str | None = None) -> Iterator[str]:
    """Read the texts of a file.

    Raises:
        BadFileError: it has bytes that are not text.
    """
    try:
        with open_text(file, encoding, newline=None) as stream:
            chosen = unit_of(file, unit)
            if chosen == "document":
                yield stream.read()
            elif chosen == "paragraph":
                for filled, lines in itertools.groupby(stream, key=lambda line: bool(line.strip())):
                    if filled:
                        yield "".join(lines).rstrip("\n")
            else:
                yield from (line.rstrip("\n") for line in stream)
    except UnicodeError as error:
        raise undecodable(file, encoding) or BadFileError(file, str(error)) from None


def has_text(file: Path, encoding: str | None = None) -> bool:
    """Whether a file has anything but space; bytes that are not text are found up to the first text."""
    return any(line.strip() for line in rows(file, "line", encoding))
