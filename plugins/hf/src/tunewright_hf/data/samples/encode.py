"""Encode rows as samples and count what becomes of them, for data on disk and for streamed data."""

from __future__ import annotations

import collections
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import datasets
import pyarrow.compute

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.config.tasks import CAUSAL, CLASSIFICATION, SEQ2SEQ, Task
from tunewright_hf.data.reading.files import SAMPLE
from tunewright_hf.data.rows.accounting import Columns, columns_in
from tunewright_hf.data.samples.bad_rows import (
    EMPTY,
    NOTHING,
    Dropped,
    counted,
    described,
    drop,
    merged,
    no_sample,
    refuse_or_drop,
)
from tunewright_hf.data.samples.classification import Classifier, find_classes
from tunewright_hf.data.samples.language_modeling import Encoder
from tunewright_hf.data.samples.seq2seq import PairEncoder
from tunewright_hf.data.templates.turn_ends import Stops

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

AnyEncoder = Encoder | PairEncoder | Classifier
_ROWS_PER_PROCESS = 20_000  # with fewer rows, starting a process takes longer than tokenising

Sample = Mapping[str, Any]

IDS = ("input_ids", "labels")
"""The columns of a sample that hold token ids."""

LEFT_OUT = {
    "thoughts_left_out": "answers whose thoughts the template drops",
    "answers_left_out": "unsupervised answers",
    "further_answers": "further answers to the same question",
}
"""What a sample may say that is not trained on: the name of its count, and what to call it."""


@attrs.frozen(kw_only=True)
class Counts:
    """Counts of a split's rows and samples.

    Attributes:
        rows: rows in the files.
        samples: rows that are trained on.
        dropped: rows that are not: with nothing to learn (empty, or truncated before the first supervised token), or that
            cannot be used, if `on_bad_row` is "drop".
        reasons: why rows were dropped → how many.
        truncated: samples that were truncated to `max_length`; None if the Trainer class truncates them.
        tokens: tokens in all samples; None if the Trainer class tokenises them.
        supervised_tokens: tokens that count in the loss, or a classifier's labels; None as `tokens`.
        packed_rows: rows that the samples are packed into; None without packing.
        thoughts_left_out: supervised answers whose thoughts the chat template leaves out; None if there are none.
        answers_left_out: the assistant's messages that are not supervised: by their weight, or as part of a prompt or history;
            None if there are none.
        further_answers: other answers to a question of which the first is trained on; None if there are none.
    """

    rows: int
    samples: int
    dropped: int
    truncated: int | None = None
    tokens: int | None = None
    supervised_tokens: int | None = None
    packed_rows: int | None = None
    reasons: Mapping[str, int] = attrs.field(factory=dict, hash=False)
    thoughts_left_out: int | None = None
    answers_left_out: int | None = None
    further_answers: int | None = None

    def plus(self, more: Counts) -> Counts:
        """Return the sums of both; a count that only one of them has is taken from that one."""
        ours, theirs = (attrs.asdict(counts, filter=_is_number) for counts in (self, more))
        reasons = collections.Counter(self.reasons) + collections.Counter(more.reasons)
        known = {name: [n for n in (ours[name], theirs[name]) if n is not None] for name in ours}
        sums = {name: sum(numbers) if numbers else None for name, numbers in known.items()}
        return Counts(**sums, reasons=dict(reasons))  # type: ignore[arg-type]


def _is_number(field: attrs.Attribute[object], _: object) -> bool:
    return field.name != "reasons"


def tokenise(
    rows: datasets.Dataset, encoder: AnyEncoder, max_length: int, cache_file: Path
) -> tuple[datasets.Dataset, Dropped]:
    """Return one sample for each row that leaves something to learn, and the rows that were dropped.

    Raises:
        BadRowError: a row cannot be used, and such rows are not to be dropped.
    """
    cache_file.parent.mkdir(parents=True, exist_ok=True)  # reading makes it, but not where the rows are a saved dataset
    processes = min(len(os.sched_getaffinity(0)), len(rows) // _ROWS_PER_PROCESS)
    samples = rows.map(
        _tokenise_and_note,
        batched=True,
        with_indices=True,
        fn_kwargs={"encoder": encoder, "max_length": max_length, "notes": cache_file},
        remove_columns=rows.column_names,
        features=features_of(encoder),
        num_proc=processes if processes > 1 else None,
        # The dataset's own folder is read-only, and hashing a tokenizer for the cache takes long.
        cache_file_name=str(cache_file),
        new_fingerprint=cache_file.stem,
        load_from_cache_file=False,
    )
    return samples, _noted(cache_file)


def _tokenise_and_note(
    batch: Mapping[str, list[object]], numbers: Sequence[int], encoder: AnyEncoder, max_length: int, notes: Path
) -> dict[str, list[object]]:
    """As `tokenise_batch`; what was done and dropped is noted in files of this process, as there may be several."""
    columns, dropped = tokenise_batch(batch, encoder, max_length, numbers)
    with notes.with_name(f"{notes.name}-done-{os.getpid()}").open("a", encoding="utf-8") as file:
        file.write(f"{len(numbers)}\n")
    if dropped:
        with notes.with_name(f"{notes.name}-dropped-{os.getpid()}").open("a", encoding="utf-8") as file:
            file.write(json.dumps(dropped) + "\n")
    return columns


def tokenised_rows(notes: Path) -> int:
    """Return how many rows `tokenise` has seen so far, in all of its processes."""
    return sum(int(n) for file in notes.parent.glob(f"{notes.name}-done-*") for n in file.read_text("utf-8").split())


def _noted(notes: Path) -> Dropped:
    lines = (line for file in notes.parent.glob(f"{notes.name}-dropped-*") for line in file.open(encoding="utf-8"))
    return merged(json.loads(line) for line in lines)


def features_of(encoder: AnyEncoder) -> datasets.Features:
    """Return the types of the columns that `tokenise_batch` makes."""
    ids = datasets.List(datasets.Value("int32"))
    numbers = dict.fromkeys(("length", "supervised", *LEFT_OUT), datasets.Value("int64"))
    labels = encoder.classes.feature if isinstance(encoder, Classifier) else ids
    return datasets.Features({"input_ids": ids, "labels": labels, **numbers, "cut": datasets.Value("bool")})


def tokenise_batch(
    batch: Mapping[str, list[object]], encoder: AnyEncoder, max_length: int, numbers: Sequence[int]
) -> tuple[dict[str, list[object]], Dropped]:
    """Return the samples of some rows, as columns, and the rows that were dropped.

    Args:
        batch: the rows, as columns.
        encoder: makes samples from rows.
        max_length: tokens in the longest sample.
        numbers: the rows' numbers in the split, from 0.

    Raises:
        BadRowError: a row cannot be used, and such rows are not to be dropped.
    """
    names = ("input_ids", "labels", "length", "supervised", "cut", *LEFT_OUT)
    columns: dict[str, list[object]] = {name: [] for name in names}
    dropped: Dropped = {}
    for number, row in zip(numbers, _rows(batch), strict=True):
        try:
            whole = encoder(row)
        except RequestError as error:
            refuse_or_drop(error, number, encoder.data, dropped)
            continue
        sample = whole and whole.cut(max_length)
        if not (whole and sample and sample.supervised):
            drop(dropped, f"{NOTHING} within max_length={max_length}" if whole else EMPTY, number)
            continue
        columns["input_ids"].append(sample.ids)
        columns["labels"].append(sample.labels)
        columns["length"].append(sample.tokens)
        columns["supervised"].append(sample.supervised)
        columns["cut"].append(sample.tokens < whole.tokens)
        for name in LEFT_OUT:
            columns[name].append(getattr(whole, name, 0))
    return columns, dropped


def _rows(batch: Mapping[str, list[object]]) -> Iterator[dict[str, object]]:
    for values in zip(*batch.values(), strict=True):
        yield dict(zip(batch, values, strict=True))


def counts_of(rows: int, samples: datasets.Dataset, dropped: Dropped) -> Counts:
    """Count samples by the columns that `tokenise_batch` made."""

    def total(column: str) -> int:
        return int(pyarrow.compute.sum(samples.data.column(column)).as_py() or 0)

    return Counts(
        rows=rows,
        samples=len(samples),
        dropped=rows - len(samples),
        truncated=total("cut"),
        tokens=total("length"),
        supervised_tokens=total("supervised"),
        reasons=counted(dropped),
        **{name: total(name) or None for name in LEFT_OUT},
    )


def counts_of_pairs(rows: int, pairs: datasets.Dataset, dropped: Dropped) -> Counts:
    """Count preference pairs, which their Trainer class tokenises."""
    return Counts(rows=rows, samples=len(pairs), dropped=rows - len(pairs), reasons=counted(dropped))


def report(name: str, counts: Counts, examples: Iterable[str] = ()) -> Counts:
    """Log a split's counts, and return them.

    Args:
        name: the split.
        counts: its counts.
        examples: rows that were dropped, for the log.

    Raises:
        RequestError: no sample is left.
    """
    logger.info("%s: %s", name, counts)
    lost, why = counts.truncated or 0, described(counts.reasons)
    if counts.dropped or lost:
        reasons = f" ({why})" if why else ""
        logger.warning("%s: %d of %d rows dropped%s, %d truncated", name, counts.dropped, counts.rows, reasons, lost)
    for example in examples:
        logger.warning("%s: dropped, for example: %s", name, example)
    if left_out := left_out_in(counts):
        logger.warning("%s: not trained on: %s", name, left_out)
    if not counts.samples:
        raise no_sample(name, counts.rows, counts.reasons)
    return counts


def left_out_in(counts: object) -> str:
    """Return what the samples say that is not trained on, in words; "" if there is nothing."""
    found = {words: getattr(counts, name, None) for name, words in LEFT_OUT.items()}
    return ", ".join(f"{words}: {number}" for words, number in found.items() if number)


@attrs.frozen(kw_only=True)
class Goal:
    """What samples are made for.

    Attributes:
        task: the task.
        num_labels: a classifier's number of labels, if the user gave it.
        known: names of the labels that a classifier has already.
        stops: where generation stops.
    """

    task: Task = CAUSAL
    num_labels: int | None = None
    known: tuple[str, ...] = ()
    stops: Stops = attrs.field(factory=Stops)


LANGUAGE_MODELING = Goal()


def columns_of(rows: datasets.Dataset | datasets.IterableDataset) -> Columns:
    """Return the columns, and the first values of each."""
    return columns_in(rows.take(SAMPLE), rows.column_names or ())


def encoder_of(
    tokenizer: PreTrainedTokenizerBase,
    form: str,
    data: DataParams,
    goal: Goal,
    train: datasets.Dataset | datasets.IterableDataset | None = None,
) -> AnyEncoder:
    """Return the encoder that makes samples for a goal.

    Args:
        tokenizer: the model's tokenizer.
        form: the resolved format.
        data: the names of the columns.
        goal: what the samples are for.
        train: the training split, which determines a classifier's labels.

    Raises:
        RequestError: the training split has no usable labels.
    """
    if goal.task is CLASSIFICATION:
        classes = find_classes(train, data.label_column, goal.num_labels, goal.known)
        logger.info("labels: %s, %s", classes.problem, ", ".join(classes.names))
        return Classifier(tokenizer, data, classes)
    return PairEncoder(tokenizer, data) if goal.task is SEQ2SEQ else Encoder(tokenizer, form, data, goal.stops)


def check_tokens(samples: Sequence[Sample], vocabulary: int) -> None:
    """Raise RequestError if a sample has a token that the model does not have; see `check_highest`."""
    check_highest(max((max(map(int, s[name]), default=0) for s in samples for name in IDS), default=0), vocabulary)


def check_highest(token: int, vocabulary: int) -> None:
    """Refuse a token that the model does not have: the embedding layer would fail, on a GPU without a useful message.

    Args:
        token: the highest token id in the data.
        vocabulary: the size of the model's vocabulary.

    Raises:
        RequestError: the token is not in the vocabulary.
    """
    if token >= vocabulary:
        problem = f"has a tokenizer that produces token {token}, but embeddings for only {vocabulary} tokens"
        remedy = "Give the tokenizer that belongs to the model, or resize the model with resize_token_embeddings()."
        raise RequestError(problem, field="model", remedy=remedy)
