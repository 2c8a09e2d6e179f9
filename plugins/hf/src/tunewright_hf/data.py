"""From a dataset folder of any format to token ids on disk, which every rank maps into memory.

One process of each pod tokenises, into a folder that is renamed when it is complete; the others wait for that name. A
restarted job finds it, and does not tokenise again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import datasets
import pyarrow.compute

from tunewright.errors import RequestError
from tunewright.providers import TrainRun
from tunewright_hf.classification import Classes, Classifier, check_same_names, find_classes
from tunewright_hf.data_params import DataParams
from tunewright_hf.inputs import (
    Split,
    csv_columns,
    delimiter,
    evaluation_split,
    held_out_split,
    resolve_format,
    training_split,
)
from tunewright_hf.labels import Encoder, check_tokenizer
from tunewright_hf.packing import pack
from tunewright_hf.preference import PREFERENCE, pairs_of
from tunewright_hf.seq2seq import PairEncoder
from tunewright_hf.tasks import CAUSAL, CLASSIFICATION, SEQ2SEQ, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

DEFAULT_MAX_LENGTH = 1024
_FOLDER = "tokenised"
_STATS = "stats.json"
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


@attrs.frozen(kw_only=True)
class Prepared:
    """Tokenised data, as columns `input_ids`, `labels` and `length`.

    Attributes:
        train: what to train on; packed rows have a column `segments`, too.
        evaluation: what to evaluate on, or None.
        format: the format, resolved.
        max_length: the longest sample, resolved, in tokens.
        counts: by "train" and "evaluation".
        digest: of the samples to train on.
        classes: what a classifier tells apart; None for other models.
    """

    train: datasets.Dataset
    evaluation: datasets.Dataset | None
    format: str
    max_length: int
    counts: Mapping[str, Counts]
    digest: str
    classes: Classes | None = None


@attrs.frozen(kw_only=True)
class Goal:
    """What the samples are for.

    Attributes:
        task: what the model is trained to do.
        num_labels: of a classifier, as the user says.
        known: names of the labels that a classifier has already.
    """

    task: Task = CAUSAL
    num_labels: int | None = None
    known: tuple[str, ...] = ()


def resolve_max_length(data: DataParams, context: int | None) -> int:
    """The longest sample in tokens.

    Args:
        data: what the user asked for.
        context: the model's context in tokens, if it has a limit.

    Raises:
        RequestError: more was asked for than the model can read.
    """
    if data.max_length is None:
        return min(DEFAULT_MAX_LENGTH, context or DEFAULT_MAX_LENGTH)
    if context is not None and data.max_length > context:
        remedy = f"Give {context} or less: the model's max_position_embeddings."
        problem, field = "is longer than the model's context", "DataParams.max_length"
        raise RequestError(problem, field=field, value=data.max_length, remedy=remedy)
    return data.max_length


def prepare(
    run: TrainRun,
    data: DataParams,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    goal: Goal = Goal(),
) -> Prepared:
    """The tokenised data of a run: the same on all ranks.

    Raises:
        RequestError: the dataset is empty, cannot be read, lacks a column, or leaves nothing to learn.
    """
    folder = run.output / _FOLDER / _key(run, data, tokenizer, max_length, goal)
    if run.local_rank == 0:
        if not folder.is_dir():
            _build(run, data, tokenizer, max_length, goal=goal, target=folder)
    else:
        while not folder.is_dir():  # if the process that tokenises fails, torchrun ends this one
            time.sleep(0.1)
    return _read(folder, max_length)


def discard(run: TrainRun) -> None:
    """Remove what `prepare` left, once the result is saved."""
    shutil.rmtree(run.output / _FOLDER, ignore_errors=True)


def _read(folder: Path, max_length: int) -> Prepared:
    stats = json.loads((folder / _STATS).read_text(encoding="utf-8"))
    counts = {name: Counts(**c) for name, c in stats["counts"].items()}
    found = {name: datasets.load_from_disk(str(folder / name)) for name in counts}
    return Prepared(
        train=found["train"],
        evaluation=found.get("evaluation"),
        format=stats["format"],
        max_length=max_length,
        counts=counts,
        classes=Classes(**stats["classes"]) if stats["classes"] else None,
        digest=stats["digest"],
    )


def digest(samples: datasets.Dataset) -> str:
    """SHA-256 of samples, whatever files they came from: their tokens and labels, in the dataset's order."""
    found = hashlib.sha256()
    for name in sorted(samples.column_names):
        chunks, feature = samples.data.column(name).chunks, samples.features[name]
        if isinstance(feature, datasets.List) and isinstance(feature.feature, datasets.Value):
            for chunk in chunks:
                found.update(chunk.value_lengths().to_numpy())
            chunks, feature = [chunk.flatten() for chunk in chunks], feature.feature
        for chunk in chunks:
            if isinstance(feature, datasets.Value) and feature.dtype != "string":
                found.update(chunk.to_numpy(zero_copy_only=False))
            else:
                for value in chunk.to_pylist():
                    found.update(json.dumps(value).encode())
    return found.hexdigest()


def _key(run: TrainRun, data: DataParams, tokenizer: PreTrainedTokenizerBase, max_length: int, goal: Goal) -> str:
    """A name for all that the token ids depend on."""
    paths = [
        f for folder in (run.dataset, run.eval_dataset) if folder for f in sorted(folder.rglob("*")) if f.is_file()
    ]
    files = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in paths]
    vocabulary = hashlib.sha256(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()).hexdigest()
    about = [
        files,
        attrs.asdict(data),
        attrs.asdict(goal),
        max_length,
        vocabulary,
        str(tokenizer.chat_template),
        tokenizer.eos_token_id,
    ]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


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
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="building-", ignore_cleanup_errors=True) as scratch:
        stage, cache = Path(scratch, "stage"), Path(scratch, "cache")
        loaded = {name: load_rows(split, field, cache) for name, (field, split) in _splits(run, data).items()}
        form = resolve_format(loaded["train"].column_names, data)
        check_tokenizer(tokenizer, form)
        encoder = encoder_of(tokenizer, form, data, goal, loaded["train"])
        counts = {}
        for name, rows in loaded.items():
            resolve_format(rows.column_names, attrs.evolve(data, format=form), f"the {name} split")
            if goal.task is CLASSIFICATION:
                check_same_names(rows, loaded["train"], data.label_column)
            if form == PREFERENCE:
                samples = pairs_of(rows, data)
                counts[name] = _count_pairs(name, len(rows), samples)
                samples.save_to_disk(str(stage / name))
                continue
            samples = _tokenise(rows, encoder, max_length, cache / f"{name}.arrow")
            counts[name] = _count(name, len(rows), samples, max_length)
            samples = samples.select_columns(["input_ids", "labels", "length"])
            if data.packing and name == "train":
                samples = pack(samples, max_length, cache / "packed.arrow")
                counts[name] = attrs.evolve(counts[name], packed_rows=len(samples))
            samples.save_to_disk(str(stage / name))
        classes = attrs.asdict(encoder.classes) if isinstance(encoder, Classifier) else None
        stats = {"format": form, "counts": {name: attrs.asdict(c) for name, c in counts.items()}, "classes": classes}
        stats["digest"] = digest(datasets.load_from_disk(str(stage / "train")))
        (stage / _STATS).write_text(json.dumps(stats), encoding="utf-8")
        try:
            stage.rename(target)
        except OSError:
            if not target.is_dir():  # else another pod on the same volume was faster
                raise


AnyEncoder = Encoder | PairEncoder | Classifier


def encoder_of(
    tokenizer: PreTrainedTokenizerBase, form: str, data: DataParams, goal: Goal, train: datasets.Dataset
) -> AnyEncoder:
    """What makes samples for a goal.

    Raises:
        RequestError: the training split has no labels to classify by.
    """
    if goal.task is CLASSIFICATION:
        classes = find_classes(train, data.label_column, goal.num_labels, goal.known)
        logger.info("labels: %s, %s", classes.problem, ", ".join(classes.names))
        return Classifier(tokenizer, data, classes)
    return PairEncoder(tokenizer, data) if goal.task is SEQ2SEQ else Encoder(tokenizer, form, data)


def _splits(run: TrainRun, data: DataParams) -> dict[str, tuple[str, Split]]:
    """What to read: by name, the slot that it comes from and its files."""
    dataset = needed_dataset(run)
    splits = {"train": ("dataset", training_split(dataset, data))}
    if run.eval_dataset is not None:
        splits["evaluation"] = ("eval_dataset", evaluation_split(run.eval_dataset, data))
    elif held_out := held_out_split(dataset, data):
        splits["evaluation"] = ("dataset", held_out)
    return splits


def needed_dataset(run: TrainRun) -> Path:
    """The dataset's folder.

    Raises:
        RequestError: the job has none.
    """
    if run.dataset is None:
        raise RequestError("is needed to train", field="dataset", remedy="Give dataset=…, for example file:///folder.")
    return run.dataset


def load_rows(
    split: Split, field: str, cache: Path, *, streaming: bool = False
) -> datasets.Dataset | datasets.IterableDataset:
    """The rows of a split, whatever its format.

    Args:
        split: its files.
        field: the slot that they come from, for errors.
        cache: folder for what is made of them.
        streaming: read only what is asked for.

    Raises:
        RequestError: they cannot be read.
    """
    files = [str(f) for f in split.files]
    logger.info("%s: %d file(s) as %s", field, len(files), split.format)
    if split.format == "saved":
        return datasets.load_from_disk(files[0])
    options: dict[str, object] = {}
    if split.format == "csv":
        # All columns as texts, as they are written: "007" and "NA" are no numbers and no gaps.
        texts = {name: datasets.Value("string") for name in csv_columns(split.files[0])}
        options = {"sep": delimiter(split.files[0]), "features": datasets.Features(texts), "keep_default_na": False}
    try:
        return datasets.load_dataset(
            split.format, data_files=files, split="train", cache_dir=str(cache), streaming=streaming, **options
        )
    except (datasets.exceptions.DatasetGenerationError, ValueError, OSError) as error:
        cause = error.__cause__ or error
        remedy = "Repair the files, and give all of them the same columns and types."
        problem = f"cannot be read as {split.format}: {type(cause).__name__}: {cause}"
        raise RequestError(problem, field=field, remedy=remedy) from error


def _tokenise(rows: datasets.Dataset, encoder: AnyEncoder, max_length: int, cache_file: Path) -> datasets.Dataset:
    """One sample for each row that leaves something to learn."""
    ids = datasets.List(datasets.Value("int32"))
    numbers = dict.fromkeys(("length", "learnt"), datasets.Value("int64"))
    labels = encoder.classes.feature if isinstance(encoder, Classifier) else ids
    features = datasets.Features({"input_ids": ids, "labels": labels, **numbers, "cut": datasets.Value("bool")})
    processes = min(len(os.sched_getaffinity(0)), len(rows) // _ROWS_PER_PROCESS)
    return rows.map(
        _tokenise_batch,
        batched=True,
        fn_kwargs={"encoder": encoder, "max_length": max_length},
        remove_columns=rows.column_names,
        features=features,
        num_proc=processes if processes > 1 else None,
        # The dataset's own folder is read-only, and hashing a tokenizer to find a cached result takes long.
        cache_file_name=str(cache_file),
        new_fingerprint=cache_file.stem,
        load_from_cache_file=False,
    )


def _tokenise_batch(batch: Mapping[str, list[object]], encoder: AnyEncoder, max_length: int) -> dict[str, list[object]]:
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


def _count(name: str, rows: int, samples: datasets.Dataset, max_length: int) -> Counts:
    def total(column: str) -> int:
        return int(pyarrow.compute.sum(samples.data.column(column)).as_py() or 0)

    kept = len(samples)
    counts = Counts(
        rows=rows,
        samples=kept,
        dropped=rows - kept,
        truncated=total("cut"),
        tokens=total("length"),
        learnt_tokens=total("learnt"),
    )
    return _told(name, counts, f"nothing to learn within max_length={max_length}", lost=total("cut"))


def _count_pairs(name: str, rows: int, pairs: datasets.Dataset) -> Counts:
    counts = Counts(rows=rows, samples=len(pairs), dropped=rows - len(pairs))
    return _told(name, counts, "no two answers that differ, or no prompt")


def _told(name: str, counts: Counts, why: str, lost: int = 0) -> Counts:
    """Log what became of a split's rows.

    Raises:
        RequestError: none is left.
    """
    logger.info("%s: %s", name, counts)
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
