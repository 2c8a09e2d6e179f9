"""Several datasets in one training: each is read and tokenised by itself, and their samples take turns.

The samples of all datasets are concatenated, with a column that says where each comes from. `tunewright_hf.data.mixing.mixture_order`
says in which order they are taken.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import attrs
import datasets
import numpy as np
import numpy.typing as npt

from tunewright.errors import RequestError
from tunewright.providers import TrainRun
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.config.mixture import named, refuse_pairs
from tunewright_hf.data.inputs import about_dataset, evaluation_options
from tunewright_hf.data.mixed_stream import StreamedMixture
from tunewright_hf.data.mixing.mixture_order import SOURCE, Mixture
from tunewright_hf.data.mixing.turns import as_integers
from tunewright_hf.data.prepare import Prepared, prepare, report_counts
from tunewright_hf.data.samples.encode import LANGUAGE_MODELING, Counts, Goal
from tunewright_hf.data.samples.packing import SEGMENTS
from tunewright_hf.data.streaming import Streamed
from tunewright_hf.data.unused_options import refuse_unused
from tunewright_hf.phases import phases_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


def prepare_all(
    run: TrainRun,
    data: DataParams,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    goal: Goal = LANGUAGE_MODELING,
) -> Prepared:
    """Return the tokenised data of a run with a single dataset or with a mixture; see `prepare`."""
    if run.local_rank == 0:
        refuse_unused(run, data, tokenizer, goal)
    if not run.mixture:
        return prepare(run, data, tokenizer, max_length, goal)
    options = named(run.mixture, data)
    _check_evaluation(run, options)
    parts: dict[str, Prepared] = {}
    for number, part in enumerate(run.mixture):
        own = attrs.evolve(run, dataset=part.folder, mixture=(), eval_dataset=None, emit=phases_of(run, part.name))
        with about_dataset(f"dataset[{number}]"):
            parts[part.name] = prepare(own, options[part.name], tokenizer, max_length, goal)
            refuse_pairs(parts[part.name].format, number)
        report_counts({f"{part.name}: {split}": c for split, c in parts[part.name].counts.items()}, run)
    evaluation = _evaluation(run, data, tokenizer, max_length, goal) if run.eval_dataset else None
    found = _mixed(run, data, parts, evaluation)
    report_counts(found.counts, run)
    return found


def _check_evaluation(run: TrainRun, options: Mapping[str, DataParams]) -> None:
    """Refuse to hold rows out for an evaluation beside an `eval_dataset`."""
    for number, data in enumerate(options.values()):
        if run.eval_dataset is not None and data.eval_fraction is not None:
            problem, remedy = "stands beside eval_dataset", "Leave one of them out: both say what to evaluate on."
            raise RequestError(
                problem, field=f"dataset[{number}].data.eval_fraction", value=data.eval_fraction, remedy=remedy
            )


def _evaluation(
    run: TrainRun, data: DataParams, tokenizer: PreTrainedTokenizerBase, max_length: int, goal: Goal
) -> Prepared:
    """Return the tokenised `eval_dataset` of a mixture, which is read by the options of the job."""
    folder = cast("Path", run.eval_dataset)
    with about_dataset("eval_dataset"):
        own = attrs.evolve(run, dataset=folder, mixture=(), eval_dataset=None, emit=phases_of(run, "eval_dataset"))
        return prepare(own, evaluation_options(folder, data), tokenizer, max_length, goal)


def _mixed(run: TrainRun, data: DataParams, parts: Mapping[str, Prepared], evaluation: Prepared | None) -> Prepared:
    by_tokens = data.mix_by == "tokens"
    found = list(parts.values())
    costs = None if data.streaming else tuple(_costs(cast("datasets.Dataset", p.train), by_tokens) for p in found)
    given = [part.weight for part in run.mixture]
    weights = as_integers([w for w in given if w is not None] or [int(c.sum()) for c in costs or ()])
    mixture = Mixture(
        names=tuple(parts), weights=weights, repeats=tuple(part.repeat for part in run.mixture), costs=costs
    )
    held_out = [p.evaluation for p in found]
    evaluated = _labelled(held_out) if any(samples is not None for samples in held_out) else None
    counted = _sum([p.counts["evaluation"] for p in found if "evaluation" in p.counts])
    if evaluation is not None:
        evaluated, counted = cast("datasets.Dataset", evaluation.train), evaluation.counts["train"]
    about = [[p.digest for p in found], weights, mixture.repeats, by_tokens]
    streams = tuple(p.train for p in found if isinstance(p.train, Streamed))
    trained = _sum([p.counts["train"] for p in found if "train" in p.counts])
    return Prepared(
        train=StreamedMixture(parts=streams, mixture=mixture, by_tokens=by_tokens)
        if streams
        else _labelled([p.train for p in found]),
        evaluation=evaluated,
        format="chat" if any(p.format == "chat" for p in found) else found[0].format,
        data=data,
        max_length=found[0].max_length,
        counts={name: c for name, c in (("train", trained), ("evaluation", counted)) if c is not None},
        digest=hashlib.sha256(json.dumps(about).encode()).hexdigest(),
        mixture=mixture,
        turns=any(p.turns for p in found),
        parts={name: p.counts for name, p in parts.items()},
    )


def _costs(samples: datasets.Dataset, by_tokens: bool) -> npt.NDArray[np.int64]:
    """Return what each sample costs in the shares of a mixture; a packed row counts as its samples."""
    if by_tokens:
        return np.asarray(samples.data.column("length").to_numpy(), np.int64)
    if SEGMENTS not in samples.column_names:
        return np.ones(len(samples), np.int64)
    chunks = samples.data.column(SEGMENTS).chunks
    return np.concatenate([chunk.value_lengths().to_numpy() for chunk in chunks]).astype(np.int64)


def _labelled(parts: Sequence[datasets.Dataset | None]) -> datasets.Dataset:
    """Return the samples of all datasets, with the index of each one's dataset as `source`; nothing is copied."""
    found = []
    for i, samples in enumerate(parts):
        if samples is not None:
            column = np.full(len(samples), i, np.int16)
            found.append(samples.add_column(SOURCE, column, new_fingerprint=f"{samples._fingerprint}-{i}"))
    return datasets.concatenate_datasets(found)


def _sum(counts: Sequence[Counts]) -> Counts | None:
    return functools.reduce(Counts.plus, counts) if counts else None
