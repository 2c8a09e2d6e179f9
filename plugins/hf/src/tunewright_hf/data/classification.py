"""Sequence classification: the labels of a dataset, samples with one, and what is computed of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import attrs
import datasets
import torch
import transformers

from tunewright.errors import RequestError, did_you_mean
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.data.collators import padded
from tunewright_hf.data.columns import text_of
from tunewright_hf.data.tokenize import IGNORED, trailing_specials, truncate_keeping_tail

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
"""transformers' problem_type."""

Target = int | float | list[float]


@attrs.frozen(kw_only=True)
class Classes:
    """What a classifier tells apart.

    Attributes:
        problem: transformers' problem_type.
        names: of the labels, in the order of the model's outputs; empty for a regression.
        numbers: which output stands for a value of the label column, written as text.
    """

    problem: str
    names: Sequence[str] = ()
    numbers: Mapping[str, int] = attrs.field(factory=dict)

    def target(self, value: object) -> Target | None:
        """What a row's label is to the model; None where the row has no label.

        Raises:
            RequestError: it is none of the labels, or no number.
        """
        if not _is_given(value) or (self.numbers.get("-1") is None and value == -1 and self.problem == SINGLE):
            return None  # -1 is what the Hub's datasets have in splits whose labels are secret
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
                f"has a label that the training split does not have: {value!r}", field="dataset", remedy=remedy
            )
        return self.numbers[str(value)]

    @property
    def feature(self) -> datasets.Value | datasets.List:
        """The type of the column of targets."""
        types = {SINGLE: datasets.Value("int64"), REGRESSION: datasets.Value("float32")}
        return types.get(self.problem, datasets.List(datasets.Value("float32")))

    @property
    def blank(self) -> Target:
        """The target of a sample that is not learnt."""
        return [float(IGNORED)] * len(self.names) if self.problem == MULTI else IGNORED

    @property
    def config(self) -> dict[str, object]:
        """The fields of the model's configuration."""
        found: dict[str, object] = {"num_labels": max(1, len(self.names)), "problem_type": self.problem}
        if self.names:
            found["id2label"] = dict(enumerate(self.names))
            found["label2id"] = {name: i for i, name in enumerate(self.names)}
        return found


def _is_given(value: object) -> bool:
    """Whether there is a label: no gap, whatever the file format writes for one."""
    blank = isinstance(value, str) and not value.strip()
    return not (value is None or blank or (isinstance(value, float) and math.isnan(value)))


def _number(value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = IGNORED
    if number == IGNORED:  # which says in a batch that a sample is not learnt
        remedy = f"Give a column of numbers other than {IGNORED}, or leave num_labels out to train on classes."
        raise RequestError(f"has a label that is no number to learn: {value!r}", field="dataset", remedy=remedy)
    return number


def _listed(value: object) -> list[object]:
    if not isinstance(value, list):
        remedy = "Make the label column one of lists, or one of single labels."
        raise RequestError(f"has a label that is no list: {value!r}", field="dataset", remedy=remedy)
    return value


def find_classes(rows: datasets.Dataset, column: str, num_labels: int | None, known: Sequence[str] = ()) -> Classes:
    """The labels of a split.

    Numbers with a fraction, or any with `num_labels` 1, make a regression; lists, several labels at once. Whole numbers
    from 0 stand for themselves; everything else is numbered in its order.

    Args:
        rows: the split.
        column: with the labels.
        num_labels: how many the user says that there are.
        known: names of the labels that the model has already; kept where the dataset's are among them.

    Raises:
        RequestError: there are no labels, of different types, or not as many as the user says.
    """
    values = {value for value in _values(rows, column) if _is_given(value)}
    feature = rows.features[column]
    inner = getattr(feature, "feature", feature)
    if not values:
        raise _bad(column, "holds no labels", "Name another one with DataParams(label_column=…).")
    several = inner is not feature
    if num_labels == 1 or (any(isinstance(v, float) for v in values) and not several):
        if num_labels not in (None, 1):
            raise _bad(
                column, f"holds numbers with a fraction, and num_labels is {num_labels}", "Leave num_labels out."
            )
        return Classes(problem=REGRESSION)
    pairs = _numbered(values, _names(rows, column), num_labels, known)
    if num_labels is not None and len(pairs) != num_labels:
        raise _bad(column, f"holds {len(pairs)} labels, and num_labels is {num_labels}", "Leave num_labels out.")
    if len(pairs) < 2 and not several:  # noqa: PLR2004 - one cannot be told apart
        raise _bad(column, f"holds one label alone, {pairs[0][0]!r}", "Give rows of several labels.")
    numbers = {value: i for i, (_, value) in enumerate(pairs) if value is not None}
    return Classes(problem=MULTI if several else SINGLE, names=tuple(name for name, _ in pairs), numbers=numbers)


def check_same_names(rows: datasets.Dataset, train: datasets.Dataset, column: str) -> None:
    """Refuse a split whose numbers stand for other labels than those of the training split.

    Raises:
        RequestError: naming both.
    """
    here, there = (_names(split, column) for split in (rows, train))
    if here != there:
        problem = f"numbers its labels otherwise than the training split: {here} and {there}"
        raise _bad(column, problem, "Give both the same ClassLabel, or labels as texts.")


def _names(rows: datasets.Dataset, column: str) -> list[str] | None:
    feature = rows.features[column]
    return getattr(getattr(feature, "feature", feature), "names", None)


def _bad(column: str, problem: str, remedy: str) -> RequestError:
    return RequestError(f"column {column!r} {problem}", field="dataset", remedy=remedy)


def _values(rows: datasets.Dataset, column: str) -> Iterator[object]:
    for batch in rows.select_columns([column]).iter(1000):
        for value in batch[column]:
            if isinstance(value, dict):
                raise _bad(column, "holds objects", "Make it a column of texts or numbers, or name another one.")
            yield from value if isinstance(value, list) else (value,)


def _numbered(
    values: set[object], named: Sequence[str] | None, num_labels: int | None, known: Sequence[str]
) -> list[tuple[str, str | None]]:
    """The labels in the order of the model's outputs: the name of each, and how the column writes it."""
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
    """Numbers by size, also where they are written as texts, as in a CSV file; then texts by the alphabet."""
    try:
        return float(str(value)), ""
    except ValueError:
        return float("inf"), str(value)


@attrs.frozen
class Classified:
    """A text with its target.

    Attributes:
        ids: token ids, with the tokenizer's special tokens around them.
        labels: the target.
        tail: how many tokens at the end are special ones.
    """

    ids: list[int]
    labels: Target
    tail: int = 0

    def cut(self, length: int) -> Classified:
        """At most `length` tokens: the text's end is left out, and the special tokens behind it are kept."""
        return attrs.evolve(self, ids=truncate_keeping_tail(self.ids, length, self.tail))

    @property
    def tokens(self) -> int:
        """How many there are."""
        return len(self.ids)

    @property
    def learnt(self) -> int:
        """The label is."""
        return 1


@attrs.frozen
class Classifier:
    """Makes samples from rows, as `tunewright_hf.data.language_modeling.Encoder` does for language models.

    Attributes:
        tokenizer: the model's own.
        data: the names of the columns.
        classes: of the training split.
    """

    tokenizer: transformers.PreTrainedTokenizerBase
    data: DataParams
    classes: Classes

    def __call__(self, row: Mapping[str, object]) -> Classified | None:
        """The whole sample; None if the row has no text or no label.

        Raises:
            RequestError: a column does not hold what is needed.
        """
        text = text_of(row, "text", self.data)
        target = self.classes.target(row[self.data.label_column])
        if text is None or not text.strip() or target is None:
            return None
        return Classified(list(self.tokenizer(text)["input_ids"]), target, trailing_specials(self.tokenizer))


@attrs.frozen
class Collator:
    """Makes a batch: texts padded to the longest, and their targets.

    Attributes:
        pad_id: what to fill up with.
    """

    pad_id: int

    def __call__(self, samples: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` of (samples, longest), and `labels` of (samples[, labels])."""
        return {**padded(samples, self.pad_id), "labels": torch.tensor([s["labels"] for s in samples])}
