"""From rows to samples, and what becomes of them on the way: the same for data on disk and for data that is streamed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import datasets
import pyarrow.compute

from tunewright.errors import RequestError
from tunewright_hf.classification import Classifier
from tunewright_hf.labels import Encoder
from tunewright_hf.seq2seq import PairEncoder

logger = logging.getLogger(__name__)

AnyEncoder = Encoder | PairEncoder | Classifier
_ROWS_PER_PROCESS = 20_000  # below that, starting a process takes longer than tokenising


@attrs.frozen(kw_only=True)
class Counts:
    """What became of the rows of a split.

    Attributes:
        rows: rows in the files.
        samples: rows that are trained on.
        dropped: rows with nothing to learn: empty, or cut off before anything that is learnt.
        truncated: samples that were cut at `max_length`; None where the Trainer class cuts them.
        tokens: tokens in all samples; None where the Trainer class makes them.
        learnt_tokens: those of them that are learnt; of a classifier, the labels; None likewise.
        packed_rows: rows that the samples are packed into; None where they are not.
    """

    rows: int
    samples: int
    dropped: int
    truncated: int | None = None
    tokens: int | None = None
    learnt_tokens: int | None = None
    packed_rows: int | None = None

    def plus(self, more: Counts) -> Counts:
        """Of both; what only one of them knows is taken from that."""
        ours, theirs = attrs.asdict(self), attrs.asdict(more)
        known = {name: [n for n in (ours[name], theirs[name]) if n is not None] for name in ours}
        return Counts(**{name: sum(numbers) if numbers else None for name, numbers in known.items()})  # type: ignore[arg-type]


def tokenise(rows: datasets.Dataset, encoder: AnyEncoder, max_length: int, cache_file: Path) -> datasets.Dataset:
    """One sample for each row that leaves something to learn."""
    processes = min(len(os.sched_getaffinity(0)), len(rows) // _ROWS_PER_PROCESS)
    return rows.map(
        tokenise_batch,
        batched=True,
        fn_kwargs={"encoder": encoder, "max_length": max_length},
        remove_columns=rows.column_names,
        features=features_of(encoder),
        num_proc=processes if processes > 1 else None,
        # The dataset's own folder is read-only, and hashing a tokenizer to find a cached result takes long.
        cache_file_name=str(cache_file),
        new_fingerprint=cache_file.stem,
        load_from_cache_file=False,
    )


def features_of(encoder: AnyEncoder) -> datasets.Features:
    """The columns that `tokenise_batch` makes."""
    ids = datasets.List(datasets.Value("int32"))
    numbers = dict.fromkeys(("length", "learnt"), datasets.Value("int64"))
    labels = encoder.classes.feature if isinstance(encoder, Classifier) else ids
    return datasets.Features({"input_ids": ids, "labels": labels, **numbers, "cut": datasets.Value("bool")})


def tokenise_batch(batch: Mapping[str, list[object]], encoder: AnyEncoder, max_length: int) -> dict[str, list[object]]:
    """The samples of some rows, as columns."""
    columns: dict[str, list[object]] = {name: [] for name in ("input_ids", "labels", "length", "learnt", "cut")}
    for row in _rows(batch):
        whole = encoder(row)
        sample = whole and whole.cut(max_length)
        if whole and sample and sample.learnt:
            columns["input_ids"].append(sample.ids)
            columns["labels"].append(sample.labels)
            columns["length"].append(sample.tokens)
            columns["learnt"].append(sample.learnt)
            columns["cut"].append(sample.tokens < whole.tokens)
    return columns


def _rows(batch: Mapping[str, list[object]]) -> Iterator[dict[str, object]]:
    for values in zip(*batch.values(), strict=True):
        yield dict(zip(batch, values, strict=True))


def count(name: str, rows: int, samples: datasets.Dataset, max_length: int) -> Counts:
    """What became of a split's rows; see `told`."""
    return told(name, counts_of(rows, samples), f"nothing to learn within max_length={max_length}")


def counts_of(rows: int, samples: datasets.Dataset) -> Counts:
    """What became of rows, from the columns that `tokenise_batch` made of them."""

    def total(column: str) -> int:
        return int(pyarrow.compute.sum(samples.data.column(column)).as_py() or 0)

    return Counts(
        rows=rows,
        samples=len(samples),
        dropped=rows - len(samples),
        truncated=total("cut"),
        tokens=total("length"),
        learnt_tokens=total("learnt"),
    )


def count_pairs(name: str, rows: int, pairs: datasets.Dataset) -> Counts:
    """What became of the rows of a split of preference pairs; see `told`."""
    counts = Counts(rows=rows, samples=len(pairs), dropped=rows - len(pairs))
    return told(name, counts, "no two answers that differ, or no prompt")


def told(name: str, counts: Counts, why: str) -> Counts:
    """Log what became of a split's rows.

    Raises:
        RequestError: none is left.
    """
    logger.info("%s: %s", name, counts)
    lost = counts.truncated or 0
    if counts.dropped or lost:
        text = "%s: %d of %d rows dropped (%s), %d cut at their end"
        logger.warning(text, name, counts.dropped, counts.rows, why, lost)
    if not counts.samples:
        field = "dataset" if name == "train" else "eval_dataset"
        problem = f"none of its {counts.rows} rows leaves anything to learn: {why}"
        raise RequestError(
            problem, field=field, remedy="Give rows with something to learn, or a longer DataParams.max_length."
        )
    return counts
