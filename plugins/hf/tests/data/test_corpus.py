"""Every shape of the corpus becomes what was written by hand for it, or is refused in words that say what to write."""

import re
from pathlib import Path

import pytest
from plugins.hf.tests.data.corpus import SHAPES, Shape

from tunewright import RequestError
from tunewright_hf import DataParams
from tunewright_hf.data.formats import ColumnReading, read_columns
from tunewright_hf.data.language_modeling import Encoder

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def tokenizer(model_folder: Path):
    return transformers.AutoTokenizer.from_pretrained(model_folder)


def reading_of(shape: Shape) -> ColumnReading:
    return read_columns(shape.row, DataParams(**shape.data)).for_tokenizer(shape.template)


def pieces(tokenizer, shape: Shape) -> list[tuple[str, bool]]:
    """The shape's sample as (text, supervised), neighbours joined."""
    reading = reading_of(shape)
    sample = Encoder(tokenizer, reading.format, reading.data)(shape.row)
    assert sample is not None
    found: list[tuple[list[int], bool]] = []
    for token, label in zip(sample.ids, sample.labels, strict=True):
        if not found or found[-1][1] != (label != -100):
            found.append(([], label != -100))
        found[-1][0].append(token)
    return [(tokenizer.decode(ids), yes) for ids, yes in found]


def joined(spans: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    for text, yes in spans:
        if found and found[-1][1] == yes:
            found[-1] = (found[-1][0] + text, yes)
        elif text:
            found.append((text, yes))
    return found


def expected(shape: Shape) -> list[tuple[str, bool]]:
    """By the template of conftest.py: `<|role|>text</s>`."""
    if shape.text is not None:
        return [(f"{shape.text}</s>", True)]
    if shape.pair is not None:
        return joined([(shape.pair[0], False), (f"{shape.pair[1]}</s>", True)])
    spans = []
    for i, (role, text) in enumerate(shape.turns or ()):
        learnt = role == "assistant" and i not in shape.unsupervised
        spans += [(f"<|{role}|>", False), (f"{text}</s>", learnt)]
    return joined(spans)


@pytest.mark.parametrize("shape", [s for s in SHAPES if not s.refused], ids=lambda s: s.name)
def test_a_shape_is_trained_as_it_was_meant(tokenizer, shape: Shape) -> None:
    assert pieces(tokenizer, shape) == expected(shape)


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.refused], ids=lambda s: s.name)
def test_a_shape_that_could_be_meant_otherwise_is_refused(tokenizer, shape: Shape) -> None:
    with pytest.raises(RequestError) as refused:
        pieces(tokenizer, shape)
    assert re.search(shape.refused, str(refused.value), re.DOTALL), str(refused.value)


def test_most_shapes_need_no_option() -> None:
    trained = [s for s in SHAPES if not s.refused]
    assert len(SHAPES) >= 80
    assert len([s for s in trained if not s.data]) / len(trained) >= 0.9


@pytest.mark.parametrize("shape", [s for s in SHAPES if not s.refused], ids=lambda s: s.name)
def test_every_column_is_used_or_named_as_ignored(shape: Shape) -> None:
    reading = reading_of(shape)
    assert {*reading.used, *reading.ignored} == set(shape.row)
