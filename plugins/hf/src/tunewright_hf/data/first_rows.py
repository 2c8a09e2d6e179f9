"""The first rows of each file, encoded before ranks and GPUs are held, so that bad rows come up early."""

from __future__ import annotations

import itertools
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DROP, DataParams
from tunewright_hf.data.inputs import reading_of
from tunewright_hf.data.reading.files import SAMPLE, Part, Split
from tunewright_hf.data.reading.load import iterate, load_rows, readable
from tunewright_hf.data.rows.accounting import columns_in
from tunewright_hf.data.samples.bad_rows import (
    EMPTY,
    NOTHING,
    Dropped,
    counted,
    described,
    drop,
    examples,
    located,
    merged,
    no_sample,
    refuse_or_drop,
)
from tunewright_hf.data.samples.classification import Classes, Classifier, check_same_names, find_classes
from tunewright_hf.data.samples.encode import AnyEncoder, Goal, encoder_of
from tunewright_hf.data.samples.preference import NO_PAIR, PREFERENCE, pair_of
from tunewright_hf.data.templates.chat_template import check_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_ROWS = 100
_FILES = 20  # opening very many files would take longer than it is worth


def check_first_rows(
    split: Split,
    data: DataParams,
    tokenizer: PreTrainedTokenizerBase,
    goal: Goal,
    name: str = "train",
    *,
    classes: Classes | None = None,
) -> None:
    """Encode the first rows of each file of a split; of a slice of it, the first rows of that.

    Args:
        split: the split.
        data: the names of the columns.
        tokenizer: the model's tokenizer.
        goal: what samples are made for.
        name: "train" or "evaluation".
        classes: a classifier's classes, which only the whole training split tells.

    Raises:
        RequestError: a row cannot be used, and the message names its file and number; or, where such rows are dropped, none
            of these rows can be used.
    """
    rows, dropped, make = 0, Dropped(), _Make(tokenizer=tokenizer, goal=goal, classes=classes)
    uncertain = split.part.slice is not None and split.part.slice.needs_total
    kept = (
        attrs.evolve(data, on_bad_row=DROP) if uncertain else data
    )  # the slice may leave out the rows that are read here
    for part in _parts(split):
        with tempfile.TemporaryDirectory() as folder:
            cache, found = Path(folder), Dropped()
            with located(part, cache, streaming=True):
                rows += _encode_first(part, kept, make, cache=cache, dropped=found)
            for example in examples(part, found, cache, streaming=True):
                logger.warning("%s: would be dropped, for example: %s", name, example)
        dropped = merged([dropped, found])
    reasons = counted(dropped)
    if rows and sum(reasons.values()) == rows and not uncertain and not all(r.startswith(NOTHING) for r in reasons):
        raise no_sample(name, rows, reasons)
    if reasons:
        text = "%s: %d of the first %d rows would be dropped (%s)"
        logger.warning(text, name, sum(reasons.values()), rows, described(reasons))


def _parts(split: Split) -> list[Split]:
    """Return the splits whose first rows are encoded."""
    part = split.part
    if (part.slice or part.limit) and not (part.slice and part.slice.needs_total):
        return [attrs.evolve(split, part=attrs.evolve(part, held_out=None))]
    return [attrs.evolve(split, files=(file,), part=Part()) for file in split.files[:_FILES]]


def classes_of(splits: Mapping[str, Split], data: DataParams, goal: Goal) -> Classes:
    """Return a classifier's classes, by the labels of all rows to train on: those that are held out are among them.

    Raises:
        RequestError: there are no usable labels, or the evaluation split numbers them differently.
    """
    with tempfile.TemporaryDirectory() as folder:
        rows = {name: load_rows(split, "dataset", Path(folder), streaming=True) for name, split in splits.items()}
        if "evaluation" in rows:
            check_same_names(rows["evaluation"], rows["train"], data.label_column)
        with readable(splits["train"], "dataset"):
            return find_classes(rows["train"], data.label_column, goal.num_labels, goal.known)


@attrs.frozen(kw_only=True)
class _Make:
    """What samples are made with."""

    tokenizer: PreTrainedTokenizerBase
    goal: Goal
    classes: Classes | None

    def encoder(self, form: str, data: DataParams) -> AnyEncoder | None:
        """Return the encoder; None for preference pairs, which their Trainer class tokenises."""
        if form == PREFERENCE:
            return None
        if self.classes is not None:
            return Classifier(self.tokenizer, data, self.classes)
        return encoder_of(self.tokenizer, form, data, self.goal)


def _encode_first(split: Split, data: DataParams, make: _Make, *, cache: Path, dropped: Dropped) -> int:
    """Encode the first rows of a split, and return how many there are."""
    rows = iterate(load_rows(split, "dataset", cache, streaming=True), split, "dataset")
    first = list(itertools.islice(rows, SAMPLE))
    if not first:
        return 0
    reading = reading_of(columns_in(first), data, make.tokenizer, make.goal)
    encoder, count = make.encoder(reading.format, reading.data), 0
    for row in itertools.islice(itertools.chain(first, rows), _ROWS):
        try:
            found = pair_of(row, reading.data) if encoder is None else encoder(row)
            if found is None:
                drop(dropped, EMPTY if encoder else NO_PAIR, count)
        except RequestError as error:
            found = None
            refuse_or_drop(error, count, data, dropped)
        if isinstance(found, dict) and isinstance(found.get("chosen", found.get("completion")), list):
            check_template(make.tokenizer)  # which the Trainer class writes these messages with
        count += 1
    return count
