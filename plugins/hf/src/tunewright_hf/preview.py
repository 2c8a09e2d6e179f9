"""Samples as the trainer will see them, before anything is trained. Needs the extra `train`."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from tunewright.providers import Preview, TrainRun
from tunewright_hf import real
from tunewright_hf.data import load_rows, needed_dataset, resolve_max_length
from tunewright_hf.inputs import resolve_format, training_split
from tunewright_hf.labels import IGNORED, Encoder, Sample, check_tokenizer
from tunewright_hf.params import HuggingFaceTrainParams
from tunewright_hf.trainer import load_config, load_tokenizer, needed_model


def preview(params: HuggingFaceTrainParams, run: TrainRun) -> Iterator[Preview]:
    """The training split's samples, in the files' order; rows that nothing can be learnt from are passed over.

    Raises:
        RequestError: model and dataset do not allow it.
    """
    folder = needed_model(run)
    config, tokenizer = load_config(folder, params), load_tokenizer(folder, params)
    max_length = resolve_max_length(params.data, real.context(config))
    split = training_split(needed_dataset(run), params.data)
    with tempfile.TemporaryDirectory() as cache:
        rows = iter(load_rows(split, "dataset", Path(cache), streaming=True))
        first: dict[str, object] = next(rows, {})
        form = resolve_format(first, params.data)
        check_tokenizer(tokenizer, form)
        encode = Encoder(tokenizer, form, params.data)
        for row in itertools.chain([first], rows):
            sample = encode(row)
            cut = sample and sample.cut(max_length)
            if sample and cut and cut.learnt:
                yield _shown(cut, tokenizer, len(sample.ids))


def _shown(sample: Sample, tokenizer: PreTrainedTokenizerBase, whole: int) -> Preview:
    # The first token is never predicted, whatever its label.
    learnt = [False, *(label != IGNORED for label in sample.labels[1:])]
    spans = itertools.groupby(zip(sample.ids, learnt, strict=True), key=lambda token: token[1])
    pieces = tuple((str(tokenizer.decode([i for i, _ in tokens])), yes) for yes, tokens in spans)
    return Preview(pieces=pieces, tokens=len(sample.ids), learnt=sample.learnt, cut=whole - len(sample.ids))
