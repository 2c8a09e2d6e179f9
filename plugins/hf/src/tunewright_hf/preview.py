"""Show samples as the trainer will see them, without training. Needs the extra `train`."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import datasets
from transformers import PreTrainedTokenizerBase

from tunewright.providers import Preview, TrainRun
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.config.tasks import CLASSIFICATION, SEQ2SEQ
from tunewright_hf.config.train_params import TrainParams
from tunewright_hf.data.classification import Classified
from tunewright_hf.data.columns import text_of
from tunewright_hf.data.encode import Goal
from tunewright_hf.data.files import training_split
from tunewright_hf.data.formats import ColumnReading
from tunewright_hf.data.language_modeling import Encoder, check_tokenizer
from tunewright_hf.data.load import iterate, load_rows
from tunewright_hf.data.preference import PREFERENCE, pair_of, shown
from tunewright_hf.data.prepare import needed_dataset, reading_of, resolve_max_length
from tunewright_hf.data.seq2seq import Pair, PairEncoder
from tunewright_hf.data.tokenize import IGNORED, Sample, trailing_specials
from tunewright_hf.model.config import longest_input
from tunewright_hf.model.load import load_config, load_tokenizer, needed_model


def preview(params: TrainParams, run: TrainRun) -> Iterator[Preview]:
    """Yield the samples of the training split in file order, without rows that leave nothing to learn.

    Raises:
        RequestError: the model or the dataset cannot be used.
    """
    folder = needed_model(run)
    config, tokenizer = load_config(folder, params), load_tokenizer(folder, params)
    max_length = resolve_max_length(params.data, longest_input(config, tokenizer, params.task))
    split = training_split(needed_dataset(run), params.data)
    with tempfile.TemporaryDirectory() as cache:
        rows = load_rows(split, "dataset", Path(cache), streaming=True)
        names = label_names(rows, params.data.label_column)
        numbered = iterate(rows, split, "dataset")
        first: dict[str, object] = next(numbered, {})
        reading = reading_of(first, params.data, tokenizer, Goal(task=params.task))
        check_tokenizer(tokenizer, reading.format)
        about = str(reading)
        for row in itertools.chain([first], numbered):
            for sample in _samples(
                row, params=params, reading=reading, tokenizer=tokenizer, max_length=max_length, names=names
            ):
                yield attrs.evolve(sample, about=about)
                about = ""


def _samples(
    row: Mapping[str, object],
    *,
    params: TrainParams,
    reading: ColumnReading,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    names: Mapping[object, str],
) -> Iterator[Preview]:
    form, data = reading.format, reading.data
    if form == PREFERENCE:
        return _answers(row, data, tokenizer)
    if params.task is CLASSIFICATION:
        return _classified(row, params, tokenizer, max_length, names)
    if params.task is SEQ2SEQ:
        return _pair(PairEncoder(tokenizer, data)(row), tokenizer, max_length)
    return _shown(Encoder(tokenizer, form, data)(row), tokenizer, max_length)


def label_names(rows: datasets.Dataset | datasets.IterableDataset, column: str) -> Mapping[object, str]:
    """Return the names that a column's numbers stand for, if the dataset has them."""
    return dict(enumerate(getattr((rows.features or {}).get(column), "names", None) or ()))


def _answers(row: Mapping[str, object], data: DataParams, tokenizer: PreTrainedTokenizerBase) -> Iterator[Preview]:
    """Yield a pair as it is. Its Trainer class truncates and tokenises it, so the final token counts may differ."""
    pair = pair_of(row, data)
    if pair is not None:
        texts = {name: shown(value) for name, value in pair.items() if name != "tools"}
        better, worse = texts["chosen"], f" [rejected:{texts['rejected']}]"
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
        supervised = [False, *(label != IGNORED for label in sample.labels[1:])]
        spans = itertools.groupby(zip(sample.ids, supervised, strict=True), key=lambda token: token[1])
        pieces = tuple((str(tokenizer.decode([i for i, _ in tokens])), yes) for yes, tokens in spans)
        cut = whole.tokens - sample.tokens
        yield Preview(pieces=pieces, tokens=sample.tokens, supervised=sample.supervised, cut=cut)
