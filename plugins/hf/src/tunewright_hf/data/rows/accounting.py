"""Columns that say nothing of their own beside those that are used: by their names, or by the first values in them.

A value that is a number, an identifier or a path cannot be trained on; one that is also in a column that is used need not
be. What may rate, label or belong to the other columns is never passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from tunewright_hf.data.reading.csv_rows import is_index
from tunewright_hf.data.rows.vocabulary import (
    LABELS,
    MEANINGFUL,
    NAMELESS,
    PROMPTS,
    has_no_meaning,
    is_rating,
    plain,
)

Columns = dict[str, list[object]]
"""The names of a dataset's columns, and the first values of each."""

_LONG = 16  # characters; a shorter text may stand in a longer one by chance
_DOCUMENT = 500  # characters; what is longer is rarely classified
_REFERENCES = ("answer", "solution")
_SCORE = re.compile(r"(\w+_)?(scores?|quality)(_\w+)?")
_SHARE = 0.9  # of the rows that must agree
_IDENTIFIER = re.compile(
    r"[0-9a-f]{8,}|[\w.+\-]+@[\w.\-]+|[0-9a-f]{8}-[0-9a-f-]{20,}|\S+://\S+|[\w.\-]+(/[\w.\-]+)+|\d{4}-\d\d-\d\d([T ][\d:.+Z\-]*)?|\d{6,}",
    re.IGNORECASE,
)


def columns_in(rows: Iterable[Mapping[str, object]], names: Iterable[str] = ()) -> Columns:
    """Return the columns of some rows; those of `names` too, if no row has them."""
    read = list(rows)
    found = dict.fromkeys(name for row in read for name in row) | dict.fromkeys(names)
    return {name: [row.get(name) for row in read] for name in found}


@attrs.frozen(kw_only=True)
class Beside:
    """The columns that are used, beside which others are looked at.

    Attributes:
        format: how the rows are read.
        used: the names of the columns that are used.
        columns: all columns.
    """

    format: str
    used: Sequence[str]
    columns: Mapping[str, Sequence[object]]

    def objection(self, column: str) -> str | None:
        """Return why a column may not be passed over in silence; None if it may."""
        if self._repeats(column) or self._is_of_pairs(column) or self._is_about_another(column):
            return None
        if why := MEANINGFUL.get(plain(column)):
            return why
        if self._may_be_label(column):
            return "may be the label of the text"
        if NAMELESS.fullmatch(plain(column)) and not self._numbers_rows(column):
            return "has values, and no name of its own"
        if has_no_meaning(column) or (not is_rating(column) and self._cannot_be_trained_on(column)):
            return None
        return "may rate or label the others" if is_rating(column) else "is not used"

    def _is_of_pairs(self, column: str) -> bool:
        """Whether a column is one that the Trainer classes for preference pairs do not read."""
        is_about = is_rating(column) or has_no_meaning(column)
        return self.format == "preference" and is_about and plain(column) not in ("label", "labels")

    def _is_about_another(self, column: str) -> bool:
        """Whether a column is about what is not trained on, or about a document that is trained on as it is."""
        if self.format == "text":
            return _SCORE.fullmatch(plain(column)) is not None and self._scores_document(column)
        return self.format == "chat" and (self._is_reference(column) or self._rates_another(column))

    def _scores_document(self, column: str) -> bool:
        """Whether numbers say how good a document is, as a filter of web pages does."""
        texts = [text for name in self.used for value in self.columns[name] for text in _texts(value)]
        numbers = [value for value in self.columns[column] if not _is_empty(value)]
        return all(isinstance(n, int | float) for n in numbers) and any(len(text) >= _DOCUMENT for text in texts)

    def _is_reference(self, column: str) -> bool:
        """Whether a column is an answer to compare with, beside a conversation that asks the same and answers it."""
        if plain(column) not in _REFERENCES or not self._rows:
            return False
        asked = [name for name in self.columns if plain(name) in PROMPTS and name not in self.used]
        said = [[text for name in self.used for text in _asked(self.columns[name][row])] for row in range(self._rows)]
        return any(
            all(set(_texts(self.columns[name][row])) & set(said[row]) for row in range(self._rows)) for name in asked
        )

    @property
    def _rows(self) -> int:
        return min((len(values) for values in self.columns.values()), default=0)

    def _rates_another(self, column: str) -> bool:
        """Whether a column has a value for each element of another column that is not trained on, of all rows."""
        rest = [name for name in self.columns if name not in (column, *self.used) and not is_rating(name)]
        return any(_are_parallel(self.columns[column], self.columns[name]) for name in rest)

    def _may_be_label(self, column: str) -> bool:
        """Whether a column may be what a short text is to be classified as."""
        if self.format != "text" or plain(column).rpartition("_")[2] not in LABELS:
            return False
        texts = [text for name in self.used for value in self.columns[name] for text in _texts(value)]
        return all(len(text) < _DOCUMENT for text in texts)

    def _numbers_rows(self, column: str) -> bool:
        """Whether the values of a column are an index, or nothing."""
        values = (value for value in self.columns.get(column, ()) if not _is_empty(value) and value == value)  # noqa: PLR0124 - NaN
        return is_index([str(value).removesuffix(".0") for value in values])

    def _cannot_be_trained_on(self, column: str) -> bool:
        """Whether the values of a column are identifiers, or numbers about a text."""
        values = [value for value in self.columns.get(column, ()) if not _is_empty(value)]
        if not values:
            return False
        if plain(column) == "turns" and all(isinstance(value, int) for value in values):
            return True  # how many there are
        return (
            all(map(_is_identifier, values))
            or all(map(are_numbers, values))
            or (self.format == "text" and all(isinstance(value, int | float) for value in values))
        )

    def _repeats(self, column: str) -> bool:
        """Whether a column says again what is used, or is written from it, in nearly all rows that fill it."""
        values = self.columns.get(column, ())
        filled = [i for i, value in enumerate(values) if not _is_empty(value)]
        agreeing = sum(self._repeats_in(i, values[i]) for i in filled)
        return bool(filled) and agreeing >= _SHARE * len(filled)

    def _repeats_in(self, row: int, value: object) -> bool:
        used = [text for name in self.used for text in _texts(self.columns[name][row])]
        whole = "\n".join(used)
        said = [text for text in _texts(value) if text]
        again = [text in used or (len(text) >= _LONG and text in whole) for text in said]
        if said and (all(again) or (isinstance(value, list) and any(again) and all(isinstance(v, str) for v in value))):
            return True
        written_from = [text for text in used if text]  # as alpaca's `text` is from its instruction and output
        return isinstance(value, str) and len(written_from) > 1 and all(text in value for text in written_from)


def _texts(value: object) -> Iterator[str]:
    """Yield the texts in a value, however deep, without surrounding whitespace."""
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _is_empty(value: object) -> bool:
    return value is None or value in ("", [], {}) or (isinstance(value, str) and not value.strip())


def are_numbers(value: object) -> bool:
    """Return whether a value is a list of numbers, such as token ids or an embedding."""
    return isinstance(value, list) and bool(value) and all(type(one) in (int, float) for one in value)


def _are_parallel(values: Sequence[object], others: Sequence[object]) -> bool:
    """Whether two columns hold lists, of texts in the second, that are equally long in every row that has them."""
    rows = [(mine, theirs) for mine, theirs in zip(values, others, strict=True) if mine]
    return bool(rows) and all(
        isinstance(mine, list)
        and isinstance(theirs, list)
        and len(mine) == len(theirs)
        and all(isinstance(one, str) for one in theirs)
        for mine, theirs in rows
    )


def _asked(value: object) -> Iterator[str]:
    """Yield what the user says in a conversation."""
    for message in value if isinstance(value, list) else ():
        if isinstance(message, Mapping) and message.get("role", message.get("from")) in ("user", "human"):
            yield from _texts(message)


def _is_identifier(value: object) -> bool:
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value.strip()) is not None
