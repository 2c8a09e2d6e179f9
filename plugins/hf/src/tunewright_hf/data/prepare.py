"""Tokenise a dataset to disk, from where every rank memory-maps it.

One process of each pod tokenises, into a folder that is renamed when it is complete, and the others wait for that name. A
restarted job finds the folder and does not tokenise again. A streamed training split (`tunewright_hf.data.streaming`) is
left out.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import datasets

from tunewright.events import Data, Phase
from tunewright.providers import TrainRun
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.config.tasks import CLASSIFICATION
from tunewright_hf.data.inputs import needed_dataset, reading_of, splits_of
from tunewright_hf.data.mixed_stream import StreamedMixture
from tunewright_hf.data.mixing.mixture_order import Mixture
from tunewright_hf.data.reading.files import Split, training_split
from tunewright_hf.data.reading.load import load_rows, readable
from tunewright_hf.data.rows.accounting import Columns
from tunewright_hf.data.rows.formats import read_columns
from tunewright_hf.data.samples.bad_rows import examples, located
from tunewright_hf.data.samples.classification import Classes, Classifier, check_same_names
from tunewright_hf.data.samples.digests import digest
from tunewright_hf.data.samples.encode import (
    LANGUAGE_MODELING,
    AnyEncoder,
    Counts,
    Goal,
    columns_of,
    counts_of,
    counts_of_pairs,
    encoder_of,
    report,
    tokenise,
    tokenised_rows,
)
from tunewright_hf.data.samples.language_modeling import check_tokenizer
from tunewright_hf.data.samples.packing import pack
from tunewright_hf.data.samples.preference import PREFERENCE, pairs_of
from tunewright_hf.data.streaming import Stream, Streamed
from tunewright_hf.phases import lasting, say

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_FOLDER = "tokenised"
_STATS = "stats.json"
_BUILDING = "building-"
_PATIENCE = 300.0  # seconds to wait for local rank 0 to start tokenising


@attrs.frozen(kw_only=True)
class Prepared:
    """Tokenised data, as columns `input_ids`, `labels` and `length`.

    Attributes:
        train: samples to train on; packed rows also have a column `segments`.
        evaluation: samples to evaluate on, or None.
        format: the resolved format.
        data: the user's DataParams, with the columns and templates that were recognised.
        max_length: tokens in the longest sample, resolved.
        counts: counts by split: "evaluation", and "train" unless it is streamed.
        digest: digest of the training samples; see `digest` and `Streamed.digest`.
        classes: a classifier's classes; None for other models.
        turns: whether the samples are conversations, whose turns end as the chat template says.
        mixture: the shares of the datasets, whose samples have a column `source`; None for a single dataset.
        parts: the counts of a mixture's datasets: name → split → counts.
    """

    train: datasets.Dataset | Streamed | StreamedMixture | Stream
    evaluation: datasets.Dataset | None
    format: str
    data: DataParams
    max_length: int
    counts: Mapping[str, Counts]
    digest: str
    classes: Classes | None = None
    turns: bool = False
    mixture: Mixture | None = None
    parts: Mapping[str, Mapping[str, Counts]] = attrs.field(factory=dict)

    @property
    def known_samples(self) -> int:
        """Number of training samples in an epoch; 0 if it is unknown, as for a stream."""
        if not isinstance(self.train, datasets.Dataset):
            return 0
        return len(self.train) if self.mixture is None else self.mixture.epoch_length


def prepare(
    run: TrainRun,
    data: DataParams,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    goal: Goal = LANGUAGE_MODELING,
) -> Prepared:
    """Return the tokenised data of a run, which is the same on all ranks.

    Raises:
        RequestError: the dataset is empty, cannot be read, lacks a column, or leaves nothing to learn.
    """
    folder = scratch(run) / _key(run, data, tokenizer, max_length, goal)
    if run.local_rank == 0:
        if not folder.is_dir():
            _build(run, data, tokenizer, max_length, goal=goal, target=folder)
    else:
        _await(folder)
    prepared = _read(folder, max_length)
    report_counts(prepared.counts, run)
    if not data.streaming:
        return prepared
    streamed = Streamed(
        split=training_split(needed_dataset(run), data),
        encoder=encoder_of(tokenizer, prepared.format, prepared.data, goal),
        max_length=max_length,
        data=data,
        cache=folder,
    )
    return attrs.evolve(prepared, train=streamed, digest=streamed.digest)


def report_counts(counts: Mapping[str, Counts], run: TrainRun) -> None:
    """Emit what became of the rows of each split."""
    if run.rank == 0:
        for split, found in counts.items():
            numbers = {name: value for name, value in attrs.asdict(found).items() if value is not None}
            known = {name: numbers.pop(name) for name in ("rows", "samples", "dropped", "reasons")}
            run.emit(Data(split=split, **known, extra=numbers))


def _await(folder: Path) -> None:
    """Wait for the process that tokenises; if it fails, torchrun ends this one.

    Raises:
        RuntimeError: no process is building this folder.
    """
    until = time.monotonic() + _PATIENCE
    while not folder.is_dir():
        time.sleep(0.1)
        if time.monotonic() < until:
            continue
        if not any(folder.parent.glob(f"{_BUILDING}*")) and not folder.is_dir():
            problem = "Local rank 0 tokenised different data than this rank sees"
            cause = "the dataset's files or the tokenizer changed in between, or differ between processes"
            remedy = "Restart the job with files that do not change."
            raise RuntimeError(f"{problem}: {cause} ({folder} is missing). {remedy}")
        logger.info("still waiting for local rank 0, which tokenises the data")
        until = time.monotonic() + _PATIENCE


def scratch(run: TrainRun) -> Path:
    """Return the folder for files that are only needed until the result is saved."""
    return run.output / _FOLDER


def discard(run: TrainRun) -> None:
    """Remove what `prepare` left, once the result is saved."""
    shutil.rmtree(scratch(run), ignore_errors=True)


def _read(folder: Path, max_length: int) -> Prepared:
    stats = json.loads((folder / _STATS).read_text(encoding="utf-8"))
    counts = {name: Counts(**c) for name, c in stats["counts"].items()}
    found = {name: datasets.load_from_disk(str(folder / name)) for name in counts}
    return Prepared(
        train=found.get("train"),
        evaluation=found.get("evaluation"),
        format=stats["format"],
        data=DataParams(**stats["data"]),
        max_length=max_length,
        counts=counts,
        classes=Classes(**stats["classes"]) if stats["classes"] else None,
        digest=stats["digest"],
        turns=stats["turns"],
    )


def _key(run: TrainRun, data: DataParams, tokenizer: PreTrainedTokenizerBase, max_length: int, goal: Goal) -> str:
    """Return a name that depends on everything that determines the token ids."""
    paths = [
        f for folder in (run.dataset, run.eval_dataset) if folder for f in sorted(folder.rglob("*")) if f.is_file()
    ]
    files = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in paths]
    about = [files, attrs.asdict(data), attrs.asdict(goal), max_length, _fingerprint(tokenizer)]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def _fingerprint(tokenizer: PreTrainedTokenizerBase) -> list[object]:
    """Return everything that determines a tokenizer's ids: for a fast one also its normaliser, splitter and template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend else [type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())]
    # Special tokens around a text may also come from a setting such as add_bos_token.
    return [rules, tokenizer("a")["input_ids"], str(tokenizer.chat_template), tokenizer.eos_token_id]


def _build(
    run: TrainRun,
    data: DataParams,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    goal: Goal,
    target: Path,
) -> None:
    datasets.disable_progress_bars()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=_BUILDING, ignore_cleanup_errors=True) as scratch:
        stage, cache = Path(scratch, "stage"), Path(scratch, "cache")
        splits = splits_of(run, data)
        loaded = {name: _load(run, name, splits[name], cache, data) for name in splits}
        reading = reading_of(_columns(loaded["train"], splits["train"][1]), data, tokenizer, goal)
        form, data = reading.format, reading.data
        logger.info("dataset: %s", reading)
        check_tokenizer(tokenizer, form)
        encoder = encoder_of(tokenizer, form, data, goal, loaded["train"])
        turns = _has_turns(form, loaded["train"], data)
        if data.streaming:
            del loaded["train"]
        counts = {}
        for name, rows in loaded.items():
            read_columns(rows.column_names, attrs.evolve(data, format=form), f"the {name} split")
            if goal.task is CLASSIFICATION:
                check_same_names(rows, loaded["train"], data.label_column)
            samples, counts[name] = _encoded(
                run,
                name,
                splits[name][1],
                rows,
                None if form == PREFERENCE else encoder,
                data=data,
                max_length=max_length,
                cache=cache,
            )
            if data.packing and name == "train":
                say(run, "pack", "packing the samples")
                samples = pack(samples, max_length, cache / "packed.arrow")
                counts[name] = attrs.evolve(counts[name], packed_rows=len(samples))
            samples.save_to_disk(str(stage / name))
        classes = attrs.asdict(encoder.classes) if isinstance(encoder, Classifier) else None
        numbers = {name: attrs.asdict(c) for name, c in counts.items()}
        stats = {"format": form, "turns": turns, "counts": numbers, "classes": classes, "data": attrs.asdict(data)}
        stats["digest"] = "" if data.streaming else digest(datasets.load_from_disk(str(stage / "train")))
        stage.mkdir(exist_ok=True)
        (stage / _STATS).write_text(json.dumps(stats), encoding="utf-8")
        try:
            stage.rename(target)
        except OSError:
            if not target.is_dir():  # unless another pod on the same volume was faster
                raise


def _load(
    run: TrainRun, name: str, found: tuple[str, Split], cache: Path, data: DataParams
) -> datasets.Dataset | datasets.IterableDataset:
    say(run, "read", f"reading the {name} split")
    field, split = found
    return load_rows(split, field, cache, streaming=data.streaming and name == "train")


def _has_turns(form: str, rows: datasets.Dataset | datasets.IterableDataset, data: DataParams) -> bool:
    """Return whether the rows are conversations, which may stand in any column of a prompt and completion, or of pairs."""
    if form in ("prompt_completion", PREFERENCE):
        first: Mapping[str, object] = next(iter(rows), {})
        columns = (data.prompt_column, data.completion_column, data.chosen_column)
        return any(isinstance(first.get(column), list) for column in columns)
    return form == "chat"


def _columns(rows: datasets.Dataset | datasets.IterableDataset, split: Split) -> Columns:
    with readable(split, "dataset"):
        return columns_of(rows)


def _encoded(
    run: TrainRun,
    name: str,
    split: Split,
    rows: datasets.Dataset,
    encoder: AnyEncoder | None,
    *,
    data: DataParams,
    max_length: int,
    cache: Path,
) -> tuple[datasets.Dataset, Counts]:
    """Return the samples, or the preference pairs, of a split, and their counts.

    Args:
        run: receives how far it is.
        name: the split's name.
        split: its files.
        rows: its rows.
        encoder: makes samples from rows; None for preference pairs, which their Trainer class tokenises.
        data: the names of the columns.
        max_length: tokens in the longest sample.
        cache: folder for what is made of the rows.

    Raises:
        RequestError: a row cannot be used, or none is left.
    """
    notes, verb = cache / f"{name}.arrow", "tokenising" if encoder else "checking"
    phase = Phase(name="tokenise", text=f"{verb} the {name} split", done=0, total=len(rows), unit="rows")
    count = functools.partial(tokenised_rows, notes) if encoder else None
    with located(split, cache), lasting(run, phase, count=count):
        if encoder is None:
            samples, dropped = pairs_of(rows, data, cache / name)
            counts = counts_of_pairs(len(rows), samples, dropped)
        else:
            samples, dropped = tokenise(rows, encoder, max_length, notes)
            counts = counts_of(len(rows), samples, dropped)
            samples = samples.select_columns(["input_ids", "labels", "length"])
    return samples, report(name, counts, examples(split, dropped, cache))
