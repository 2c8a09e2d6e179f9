"""Encode rows as samples and count what becomes of them, for data on disk and for streamed data."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import datasets
import pyarrow.compute

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.config.tasks import CAUSAL, CLASSIFICATION, SEQ2SEQ, Task
from tunewright_hf.data.classification import Classifier, find_classes
from tunewright_hf.data.language_modeling import Encoder
from tunewright_hf.data.seq2seq import PairEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

AnyEncoder = Encoder | PairEncoder | Classifier
_ROWS_PER_PROCESS = 20_000  # with fewer rows, starting a process takes longer than tokenising

Sample = Mapping[str, Any]

IDS = ("input_ids", "labels")
"""The columns of a sample that hold token ids."""


@attrs.frozen(kw_only=True)
class Counts:
    """Counts of a split's rows and samples.

    Attributes:
        rows: rows in the files.
        samples: rows that are trained on.
        dropped: rows with nothing to learn: empty, or truncated before the first supervised token.
        truncated: samples that were truncated to `max_length`; None if the Trainer class truncates them.
        tokens: tokens in all samples; None if the Trainer class tokenises them.
        supervised_tokens: tokens that count in the loss, or a classifier's labels; None as `tokens`.
        packed_rows: rows that the samples are packed into; None without packing.
    """

    rows: int
    samples: int
    dropped: int
    truncated: int | None = None
    tokens: int | None = None
    supervised_tokens: int | None = None
    packed_rows: int | None = None

    def plus(self, more: Counts) -> Counts:
        """Return the sums of both; a count that only one of them has is taken from that one."""
        ours, theirs = attrs.asdict(self), attrs.asdict(more)
        known = {name: [n for n in (ours[name], theirs[name]) if n is not None] for name in ours}
        return Counts(**{name: sum(numbers) if numbers else None for name, numbers in known.items()})  # type: ignore[arg-type]


def tokenise(rows: datasets.Dataset, encoder: AnyEncoder, max_length: int, cache_file: Path) -> datasets.Dataset:
    """Return one sample for each row that leaves something to learn."""
    processes = min(len(os.sched_getaffinity(0)), len(rows) // _ROWS_PER_PROCESS)
    return rows.map(
        tokenise_batch,
        batched=True,
        fn_kwargs={"encoder": encoder, "max_length": max_length},
        remove_columns=rows.column_names,
        features=features_of(encoder),
        num_proc=processes if processes > 1 else None,
        # The dataset's own folder is read-only, and hashing a tokenizer for the cache takes long.
        cache_file_name=str(cache_file),
        new_fingerprint=cache_file.stem,
        load_from_cache_file=False,
    )


def features_of(encoder: AnyEncoder) -> datasets.Features:
    """Return the types of the columns that `tokenise_batch` makes."""
    ids = datasets.List(datasets.Value("int32"))
    numbers = dict.fromkeys(("length", "supervised"), datasets.Value("int64"))
    labels = encoder.classes.feature if isinstance(encoder, Classifier) else ids
    return datasets.Features({"input_ids": ids, "labels": labels, **numbers, "cut": datasets.Value("bool")})


def tokenise_batch(batch: Mapping[str, list[object]], encoder: AnyEncoder, max_length: int) -> dict[str, list[object]]:
    """Return the samples of some rows, as columns."""
    columns: dict[str, list[object]] = {name: [] for name in ("input_ids", "labels", "length", "supervised", "cut")}
    for row in _rows(batch):
        whole = encoder(row)
        sample = whole and whole.cut(max_length)
        if whole and sample and sample.supervised:
            columns["input_ids"].append(sample.ids)
            columns["labels"].append(sample.labels)
            columns["length"].append(sample.tokens)
            columns["supervised"].append(sample.supervised)
            columns["cut"].append(sample.tokens < whole.tokens)
    return columns


def _rows(batch: Mapping[str, list[object]]) -> Iterator[dict[str, object]]:
    for values in zip(*batch.values(), strict=True):
        yield dict(zip(batch, values, strict=True))


def count(name: str, rows: int, samples: datasets.Dataset, max_length: int) -> Counts:
    """Count a split's rows and samples; see `report`."""
    return report(name, counts_of(rows, samples), f"nothing to learn within max_length={max_length}")


def counts_of(rows: int, samples: datasets.Dataset) -> Counts:
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
    )


def count_pairs(name: str, rows: int, pairs: datasets.Dataset) -> Counts:
    """Count a split's rows and preference pairs; see `report`."""
    counts = Counts(rows=rows, samples=len(pairs), dropped=rows - len(pairs))
    return report(name, counts, "no two different answers, or no prompt")


def report(name: str, counts: Counts, why: str) -> Counts:
    """Log a split's counts, and return them.

    Raises:
        RequestError: no sample is left.
    """
    logger.info("%s: %s", name, counts)
    lost = counts.truncated or 0
    if counts.dropped or lost:
        text = "%s: %d of %d rows dropped (%s), %d truncated"
        logger.warning(text, name, counts.dropped, counts.rows, why, lost)
    if not counts.samples:
        field = "dataset" if name == "train" else "eval_dataset"
        problem = f"none of its {counts.rows} rows leaves anything to learn: {why}"
        raise RequestError(
            problem, field=field, remedy="Give rows with something to learn, or a longer DataParams.max_length."
        )
    return counts


@attrs.frozen(kw_only=True)
class Goal:
    """What samples are made for.

    Attributes:
        task: the task.
        num_labels: a classifier's number of labels, if the user gave it.
        known: names of the labels that a classifier has already.
    """

    task: Task = CAUSAL
    num_labels: int | None = None
    known: tuple[str, ...] = ()


LANGUAGE_MODELING = Goal()


def columns_of(rows: datasets.Dataset | datasets.IterableDataset) -> list[str]:
    """Return the names of the columns; for a stream without a schema, those of its first row."""
    return list(rows.column_names or next(iter(rows), {}))


def encoder_of(
    tokenizer: PreTrainedTokenizerBase,
    form: str,
    data: DataParams,
    goal: Goal,
    train: datasets.Dataset | None = None,
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
    return PairEncoder(tokenizer, data) if goal.task is SEQ2SEQ else Encoder(tokenizer, form, data)


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
