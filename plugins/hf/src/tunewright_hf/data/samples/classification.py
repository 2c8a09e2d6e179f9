"""Sequence classification: a dataset's labels, labelled samples, and their batches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import datasets
import numpy as np

from tunewright.errors import RequestError, did_you_mean
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.data.rows.columns import text_of
from tunewright_hf.data.tokenize import IGNORED, trailing_specials, truncate_keeping_tail

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
"""The problem_type in transformers."""

Target = int | float | list[float]

# The label of a regression that is exactly -100 becomes the next float32, since -100 marks samples without a label.
_NEXT_TO_IGNORED = float(np.nextafter(np.float32(IGNORED), np.float32(0)))


@attrs.frozen(kw_only=True)
class Classes:
    """The classes of a classifier.

    Attributes:
        problem: the problem_type in transformers.
        names: names of the labels, in the order of the model's outputs; empty for a regression.
        numbers: the output for each value of the label column, which is written as text.
    """

    problem: str
    names: Sequence[str] = ()
    numbers: Mapping[str, int] = attrs.field(factory=dict)

    def target(self, value: object) -> Target | None:
        """Return the target for a row's label; None if the row has no label.

        Raises:
            RequestError: the label is unknown, or not a number in a regression.
        """
        if not _is_given(value) or (self.numbers.get("-1") is None and value == -1 and self.problem == SINGLE):
            return None  # datasets on the Hub have -1 in splits with hidden labels
        if self.problem == REGRESSION:
            return _number(value)
        if self.problem == SINGLE:
            return self._index(value)
        held = {self._index(item) for item in _listed(value)}
        return [float(i in held) for i in range(len(self.names))]

    def _index(self, value: object) -> int:
        if str(value) not in self.numbers:
            remedy = did_you_mean(str(value), self.numbers)
            raise RequestError(
                f"has a label that does not occur in the training split: {value!r}", field="dataset", remedy=remedy
            )
        return self.numbers[str(value)]

    @property
    def feature(self) -> datasets.Value | datasets.List:
        """The type of the target column."""
        types = {SINGLE: datasets.Value("int64"), REGRESSION: datasets.Value("float32")}
        return types.get(self.problem, datasets.List(datasets.Value("float32")))

    @property
    def blank(self) -> Target:
        """The target of a sample that does not count in the loss."""
        return [float(IGNORED)] * len(self.names) if self.problem == MULTI else IGNORED

    @property
    def config(self) -> dict[str, object]:
        """The fields for the model's configuration."""
        found: dict[str, object] = {"num_labels": max(1, len(self.names)), "problem_type": self.problem}
        if self.names:
            found["id2label"] = dict(enumerate(self.names))
            found["label2id"] = {name: i for i, name in enumerate(self.names)}
        return found


def _is_given(value: object) -> bool:
    """Return whether there is a label, rather than a missing value of any file format."""
    blank = isinstance(value, str) and not value.strip()
    return not (value is None or blank or (isinstance(value, float) and math.isnan(value)))


def _number(value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        remedy = "Give a column of numbers, or leave num_labels out to train on classes."
        problem = f"has a label that is not a number: {value!r}"
        raise RequestError(problem, field="dataset", remedy=remedy) from None
    return _NEXT_TO_IGNORED if number == IGNORED else number


def _listed(value: object) -> list[object]:
    if not isinstance(value, list):
        remedy = "Make the label column one of lists, or one of single labels."
        raise RequestError(f"has a label that is not a list: {value!r}", field="dataset", remedy=remedy)
    return value


def find_classes(
    rows: datasets.Dataset | datasets.IterableDataset, column: str, num_labels: int | None, known: Sequence[str] = ()
) -> Classes:
    """Return the classes of a split.

    Numbers with a fraction, or any numbers with `num_labels` 1, mean regression; lists mean multi-label classification.
    Whole numbers from 0 on are used as they are; all other labels are sorted and numbered.

    Args:
        rows: the split.
        column: the label column.
        num_labels: the number of labels that the user gave, if any.
        known: names of the labels that the model has already; they are kept if they include the dataset's.

    Raises:
        RequestError: there are no labels, labels of different types, or not `num_labels` of them.
    """
    values, several = _values(rows, column)
    if not values:
        raise _bad(column, "holds no labels", "Name another one with DataParams(label_column=…).")
    if num_labels == 1 or (any(isinstance(v, float) for v in values) and not several):
        if num_labels not in (None, 1):
            raise _bad(
                column, f"holds numbers with a fraction, but num_labels is {num_labels}", "Leave num_labels out."
            )
        return Classes(problem=REGRESSION)
    pairs = _numbered(values, _names(rows, column), num_labels, known)
    if num_labels is not None and len(pairs) != num_labels:
        raise _bad(column, f"holds {len(pairs)} labels, but num_labels is {num_labels}", "Leave num_labels out.")
    if len(pairs) < 2 and not several:  # noqa: PLR2004 - a classifier needs two
        raise _bad(column, f"holds only one label, {pairs[0][0]!r}", "Give rows with different labels.")
    numbers = {value: i for i, (_, value) in enumerate(pairs) if value is not None}
    return Classes(problem=MULTI if several else SINGLE, names=tuple(name for name, _ in pairs), numbers=numbers)


def check_same_names(
    rows: datasets.Dataset | datasets.IterableDataset, train: datasets.Dataset | datasets.IterableDataset, column: str
) -> None:
    """Refuse a split that numbers its labels differently than the training split.

    Raises:
        RequestError: names both.
    """
    here, there = (_names(split, column) for split in (rows, train))
    if here != there:
        problem = f"numbers its labels differently than the training split: {here} and {there}"
        raise _bad(column, problem, "Give both splits the same ClassLabel, or labels as text.")


def _names(rows: datasets.Dataset | datasets.IterableDataset, column: str) -> list[str] | None:
    feature = (rows.features or {}).get(column)  # a stream may not know its features
    return getattr(getattr(feature, "feature", feature), "names", None)


def _bad(column: str, problem: str, remedy: str) -> RequestError:
    return RequestError(f"column {column!r} {problem}", field="dataset", remedy=remedy)


def _values(rows: datasets.Dataset | datasets.IterableDataset, column: str) -> tuple[set[object], bool]:
    """Return the labels that a column holds, and whether a row has several: a list of them."""
    feature = (rows.features or {}).get(column)
    several = getattr(feature, "feature", feature) is not feature
    found: set[object] = set()
    for batch in rows.select_columns([column]).iter(1000):
        for value in batch[column]:
            if isinstance(value, dict):
                raise _bad(column, "holds objects", "Make it a column of text or numbers, or name another one.")
            several = several or isinstance(value, list)
            found.update(value if isinstance(value, list) else (value,))
    return {value for value in found if _is_given(value)}, several


def _numbered(
    values: set[object], named: Sequence[str] | None, num_labels: int | None, known: Sequence[str]
) -> list[tuple[str, str | None]]:
    """Return the labels in the order of the model's outputs: each one's name, and its value in the column."""
    whole = all(isinstance(v, int) and not isinstance(v, bool) for v in values)
    if named is not None:
        pairs: list[tuple[str, str | None]] = [(name, str(i)) for i, name in enumerate(named)]
    elif whole and (known or num_labels) and values <= set(range(len(known) or num_labels or 0)):
        return [(name, str(i)) for i, name in enumerate(known or map(str, range(num_labels or 0)))]
    else:
        pairs = [(str(v), str(v)) for v in sorted(values, key=_order)]
    written = dict(pairs)
    return [(name, written.get(name)) for name in known] if written.keys() <= set(known) else pairs


def _order(value: object) -> tuple[float, str]:
    """Sort numbers by size, even if they are written as text, as in a CSV file; then text alphabetically."""
    try:
        return float(str(value)), ""
    except ValueError:
        return float("inf"), str(value)


@attrs.frozen
class Classified:
    """A text with its target.

    Attributes:
        ids: token ids, including the tokenizer's special tokens.
        labels: the target.
        tail: number of special tokens at the end.
    """

    ids: list[int]
    labels: Target
    tail: int = 0

    def cut(self, length: int) -> Classified:
        """Truncate the text to at most `length` tokens; the special tokens after it are kept."""
        return attrs.evolve(self, ids=truncate_keeping_tail(self.ids, length, self.tail))

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return len(self.ids)

    @property
    def supervised(self) -> int:
        """Number of labels."""
        return 1


@attrs.frozen
class Classifier:
    """Makes samples from rows, as `tunewright_hf.data.samples.language_modeling.Encoder` does for language models.

    Attributes:
        tokenizer: the model's tokenizer.
        data: the names of the columns.
        classes: the training split's classes.
    """

    tokenizer: PreTrainedTokenizerBase
    data: DataParams
    classes: Classes

    def __call__(self, row: Mapping[str, object]) -> Classified | None:
        """Return the whole sample; None if the row has no text or no label.

        Raises:
            RequestError: a column holds values of a wrong type.
        """
        text = text_of(row, "text", self.data)
        target = self.classes.target(row[self.data.label_column])
        if text is None or not text.strip() or target is None:
            return None
        return Classified(list(self.tokenizer(text)["input_ids"]), target, trailing_specials(self.tokenizer))
