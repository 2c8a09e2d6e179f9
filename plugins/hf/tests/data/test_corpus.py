"""Every shape of the corpus becomes what was written by hand for it, or is refused in words that say what to write."""

import re
from pathlib import Path

import attrs
import pytest
import yaml
from plugins.hf.tests.conftest import CHAT_TEMPLATE
from plugins.hf.tests.data.corpus import MEDIA, NOTHING, READINGS, TASK, WHY, Shape
from plugins.hf.tests.data.corpus import SHAPES as FIRST
from plugins.hf.tests.data.corpus_more import MORE

from tunewright import RequestError
from tunewright_hf import DataParams
from tunewright_hf.data.rows.accounting import columns_in
from tunewright_hf.data.rows.column_reading import ColumnReading
from tunewright_hf.data.rows.formats import read_columns
from tunewright_hf.data.samples.language_modeling import Encoder

transformers = pytest.importorskip("transformers")

SHAPES = [*FIRST, *MORE]
TOOLS = "{% if tools %}<|system|>{{ tools | tojson }}</s>{% endif %}"
LINE = re.compile(r'(?:trainer\.data\.|\n  )(\w+): ("(?:[^"\\]|\\.)*"|\[.*?\]|\{.*?\})')


@pytest.fixture(scope="module")
def tokenizer(model_folder: Path):
    return transformers.AutoTokenizer.from_pretrained(model_folder)


def reading_of(shape: Shape) -> ColumnReading:
    return read_columns(columns_in([shape.row]), DataParams(**shape.data)).for_tokenizer(shape.template)


def pieces(tokenizer, shape: Shape) -> list[tuple[str, bool]]:
    """The shape's sample as (text, supervised), neighbours joined."""
    reading = reading_of(shape)
    tokenizer.chat_template = f"{TOOLS}{CHAT_TEMPLATE}" if shape.tools else CHAT_TEMPLATE
    sample = Encoder(tokenizer, reading.format, reading.data)(shape.row)
    if sample is None:
        raise RequestError("makes no sample", field="dataset", remedy="Leave these rows out.")
    assert sample.further_answers == shape.further_answers
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


SHARES = {"text": 0.7, "text to learn as language": 0.8, "text that can be read in one way only": 0.95}
"""Of shapes of these kinds, the share that needs no option, at least; the first two would rise only by guessing."""


def test_the_share_of_shapes_that_need_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert all((s.why in WHY) == bool(s.refused) for s in SHAPES)
    asked = [s for s in SHAPES if not s.data]  # the others show that what an error says to write makes them train
    trained = [s for s in asked if not s.refused]
    left_out = [(MEDIA, NOTHING), (MEDIA, NOTHING, TASK), (MEDIA, NOTHING, TASK, READINGS)]
    kinds = {name: [s for s in asked if s.why not in out] for name, out in zip(SHARES, left_out, strict=True)}
    with capsys.disabled():
        print(f"\n{len(asked)} shapes, {len(trained)} trained without an option. Refused, because", end=" ")
        print("; ".join(f"{why}: {len([s for s in asked if s.why == why])}" for why in WHY))
        for name, among in kinds.items():
            print(f"of {len(among)} shapes of {name}: {len(trained) / len(among):.1%}")
    assert len(SHAPES) >= 190
    assert {name: len(trained) / len(kinds[name]) >= least for name, least in SHARES.items()} == dict.fromkeys(
        SHARES, True
    )


def told_by(error: RequestError, given: dict[str, object]) -> dict[str, object] | None:
    """What the user gives after having read an error; None if it does not say what to write."""
    lines = {name: yaml.safe_load(value) for name, value in LINE.findall(str(error)) if name != "on_bad_row"}
    ignored = [*given.get("ignore_columns", []), *lines.get("ignore_columns", [])]
    return {**given, **lines, **({"ignore_columns": ignored} if ignored else {})} if lines else None


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.refused], ids=lambda s: s.name)
def test_what_a_refusal_says_to_write_makes_the_shape_train(tokenizer, shape: Shape) -> None:
    """The lines that an error says are written as they stand, until there is a sample; some say to change the files."""
    given: dict[str, object] | None = dict(shape.data)
    for _ in range(4):
        try:
            assert pieces(tokenizer, attrs.evolve(shape, data=given))
        except RequestError as error:
            last, given = error, told_by(error, given)
        else:
            return
        if given is None:
            break
    assert re.search(
        "Make each row|Write rows|Write into column|Give a model|Leave these rows|Make it a text", str(last)
    )


@pytest.mark.parametrize("shape", [s for s in SHAPES if not s.refused], ids=lambda s: s.name)
def test_every_column_is_used_or_named_as_ignored(shape: Shape) -> None:
    reading = reading_of(shape)
    assert {*reading.used, *reading.ignored} == set(shape.row)
