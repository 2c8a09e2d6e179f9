"""Show samples as the trainer will see them, without training. Needs the extra `train`.

No module that is imported here loads torch, which takes longer than everything else; see `tunewright_hf.preview_process`.
"""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs
import datasets
from transformers import PreTrainedTokenizerBase

from tunewright.errors import RequestError
from tunewright.providers import Preview, TrainRun
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.config.mixture import named
from tunewright_hf.config.tasks import CLASSIFICATION, SEQ2SEQ
from tunewright_hf.config.train_params import TrainParams
from tunewright_hf.data.inputs import needed_dataset, reading_of, resolve_max_length
from tunewright_hf.data.reading.files import SAMPLE, training_split
from tunewright_hf.data.reading.load import iterate, load_rows
from tunewright_hf.data.rows.accounting import columns_in
from tunewright_hf.data.rows.column_reading import ColumnReading
from tunewright_hf.data.rows.columns import text_of
from tunewright_hf.data.samples.bad_rows import (
    EMPTY,
    Dropped,
    counted,
    described,
    drop,
    examples,
    located,
    no_sample,
    refuse_or_drop,
)
from tunewright_hf.data.samples.classification import Classified
from tunewright_hf.data.samples.encode import Goal, left_out_in
from tunewright_hf.data.samples.language_modeling import Encoder, check_tokenizer
from tunewright_hf.data.samples.preference import PREFERENCE, pair_of, shown
from tunewright_hf.data.samples.seq2seq import Pair, PairEncoder
from tunewright_hf.data.tokenize import IGNORED, Sample, trailing_specials
from tunewright_hf.data.unused_options import refuse_unused
from tunewright_hf.model.config import longest_input
from tunewright_hf.model.folder import load_config, load_tokenizer, needed_model, tokenizer_folder, with_lora
from tunewright_hf.model.generation import goal_of
from tunewright_hf.startup import without_garbage_collection


def preview(params: TrainParams, run: TrainRun) -> Iterator[Preview]:
    """Yield the samples of the training split in file order, without rows that are dropped.

    Of a mixture, the first sample of each dataset comes first, then the second ones, and so on.

    Raises:
        RequestError: the model, the dataset or a row cannot be used, or no row leaves anything to learn.
    """
    folder = needed_model(run)
    with without_garbage_collection():  # they import more of transformers
        config, tokenizer = load_config(folder, params), load_tokenizer(tokenizer_folder(run), params)
    params = with_lora(params, run)
    max_length = resolve_max_length(params.data, longest_input(config, tokenizer, params.task))
    goal = goal_of(params, folder, config, tokenizer)
    refuse_unused(run, params.data, tokenizer, goal)
    if not run.mixture:
        yield from _of_dataset(needed_dataset(run), params, tokenizer, max_length=max_length, goal=goal)
        return
    options = named(run.mixture, params.data)
    parts = []
    for part in run.mixture:
        dataset = needed_dataset(attrs.evolve(run, dataset=part.folder))
        own = attrs.evolve(params, data=options[part.name])
        parts.append(_named(part.name, _of_dataset(dataset, own, tokenizer, max_length=max_length, goal=goal)))
    together = itertools.zip_longest(*parts)
    yield from (sample for samples in together for sample in samples if sample is not None)


def _named(name: str, samples: Iterator[Preview]) -> Iterator[Preview]:
    for sample in samples:
        yield attrs.evolve(sample, about=sample.about and f"{name}: {sample.about}")


def _of_dataset(
    folder: Path, params: TrainParams, tokenizer: PreTrainedTokenizerBase, *, max_length: int, goal: Goal
) -> Iterator[Preview]:
    split = training_split(folder, params.data)
    with tempfile.TemporaryDirectory() as cache:
        rows = load_rows(split, "dataset", Path(cache), streaming=True)
        names = label_names(rows, params.data.label_column)
        numbered = iterate(rows, split, "dataset")
        first = list(itertools.islice(numbered, SAMPLE))
        reading = reading_of(columns_in(first), params.data, tokenizer, goal)
        check_tokenizer(tokenizer, reading.format)
        made = functools.partial(
            _samples,
            params=params,
            reading=reading,
            tokenizer=tokenizer,
            max_length=max_length,
            names=names,
            goal=goal,
        )
        about = f"split {split.chosen}; {reading}" if split.chosen else str(reading)
        dropped, told, number = Dropped(), Dropped(), -1
        for number, row in enumerate(itertools.chain(first, numbered)):
            with located(split, Path(cache), streaming=True):
                sample = _sample_or_drop(row, number, made, params.data, dropped)
            if sample is None:
                continue
            if dropped != told:
                new = {reason: rows for reason, rows in dropped.items() if reason not in told}
                lost = [
                    f"dropped so far: {described(counted(dropped))}",
                    *examples(split, new, Path(cache), streaming=True),
                ]
                about, told = "\n".join([*filter(None, [about]), *lost]), Dropped(dropped)
            yield attrs.evolve(sample, about=about)
            about = ""
        if about:  # nothing was shown
            raise no_sample("train", number + 1, counted(dropped))


def _sample_or_drop(
    row: Mapping[str, object],
    number: int,
    made: Callable[[Mapping[str, object]], Iterator[Preview]],
    data: DataParams,
    dropped: Dropped,
) -> Preview | None:
    try:
        sample = next(made(row), None)
    except RequestError as error:
        refuse_or_drop(error, number, data, dropped)
        return None
    if sample is None:
        drop(dropped, EMPTY, number)
    return sample


def _samples(
    row: Mapping[str, object],
    *,
    params: TrainParams,
    reading: ColumnReading,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    names: Mapping[object, str],
    goal: Goal,
) -> Iterator[Preview]:
    form, data = reading.format, reading.data
    if form == PREFERENCE:
        return _answers(row, data, tokenizer)
    if params.task is CLASSIFICATION:
        return _classified(row, params, tokenizer, max_length, names)
    if params.task is SEQ2SEQ:
        return _pair(PairEncoder(tokenizer, data)(row), tokenizer, max_length)
    return _shown(Encoder(tokenizer, form, data, goal.stops)(row), tokenizer, max_length)


def label_names(rows: datasets.Dataset | datasets.IterableDataset, column: str) -> Mapping[object, str]:
    """Return the names that a column's numbers stand for, if the dataset has them."""
    return dict(enumerate(getattr((rows.features or {}).get(column), "names", None) or ()))


def _side(label: object) -> str:
    return "chosen" if label else "rejected"


def _answers(row: Mapping[str, object], data: DataParams, tokenizer: PreTrainedTokenizerBase) -> Iterator[Preview]:
    """Yield a pair as it is. Its Trainer class truncates and tokenises it, so the final token counts may differ."""
    pair = pair_of(row, data)
    if pair is not None:
        if "label" in pair:  # as if it were the better or the worse one of a pair
            pair = {"prompt": pair["prompt"], "chosen": "", "rejected": "", _side(pair["label"]): pair["completion"]}
        texts = {name: shown(value) for name, value in pair.items() if name != "tools"}
        better, worse = texts["chosen"], texts["rejected"] and f" [rejected:{texts['rejected']}]"
        pieces = ((texts.get("prompt", ""), False), (better, True), (worse, False))
        tokens, supervised = (
            len(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in ("".join(texts.values()), better)
        )
        yield Preview(pieces=pieces, tokens=tokens, supervised=supervised)


def _classified(
    row: Mapping[str, object],
    params: TrainParams,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    names: Mapping[object, str],
) -> Iterator[Preview]:
    text, label = text_of(row, "text", params.data), row[params.data.label_column]
    if text and text.strip() and label is not None:
        whole = Classified(list(tokenizer(text)["input_ids"]), 0, trailing_specials(tokenizer))
        sample = whole.cut(max_length)
        shown = names.get(label, str(label)) if not isinstance(label, list) else ", ".join(map(str, label))
        pieces = ((str(tokenizer.decode(sample.ids)), False), (f" {shown}", True))
        yield Preview(pieces=pieces, tokens=sample.tokens, supervised=1, cut=whole.tokens - sample.tokens)


def _pair(whole: Pair | None, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Iterator[Preview]:
    if whole:
        sample = whole.cut(max_length)
        pieces = ((str(tokenizer.decode(sample.ids)), False), (str(tokenizer.decode(sample.labels)), True))
        cut = whole.tokens - sample.tokens
        yield Preview(pieces=pieces, tokens=sample.tokens, supervised=sample.supervised, cut=cut)


def _shown(whole: Sample | None, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Iterator[Preview]:
    sample = whole and whole.cut(max_length)
    if whole and sample and sample.supervised:
        # The first token is never predicted, whatever its label.
        labels = [IGNORED, *sample.labels[1:]]
        # At the end of a turn another token than the next input may be trained on.
        shown = [
            (i if label == IGNORED else label, label != IGNORED) for i, label in zip(sample.ids, labels, strict=True)
        ]
        spans = itertools.groupby(shown, key=lambda token: token[1])
        pieces = tuple((str(tokenizer.decode([i for i, _ in tokens])), yes) for yes, tokens in spans)
        yield Preview(
            pieces=pieces,
            tokens=sample.tokens,
            supervised=sample.supervised,
            cut=whole.tokens - sample.tokens,
            left_out=left_out_in(whole),
        )
