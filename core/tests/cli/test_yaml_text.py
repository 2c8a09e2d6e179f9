"""The YAML of job files: version 1.2's values, positions of all of them, and refusals that say where."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tunewright import RequestError
from tunewright.cli import yaml_text


def value(text: str) -> object:
    return yaml_text.parse(f"a: {text}", "job.yaml").value["a"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        *((word, word) for word in ("off", "on", "yes", "no", "y", "n", "Off", "NO")),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("false", "False", "FALSE")),
        *((word, None) for word in ("null", "~", "Null", "NULL", "")),
        ("2e-4", 2e-4), ("1E5", 1e5), ("1.", 1.0), (".5", 0.5), ("-.5e3", -500.0), ("+1.5", 1.5), (".inf", math.inf), ("-.INF", -math.inf),
        ("12", 12), ("+12", 12), ("-0", 0), ("0123", 123), ("0o17", 15), ("0xFf", 255),
        ("1:30", "1:30"), ("1_000", "1_000"), ("0b11", "0b11"), ("2026-11-29", "2026-11-29"), ("1e", "1e"), (".", "."), ("e5", "e5"),
        ("'12'", "12"), ('"true"', "true"), ("!!str 12", "12"), ("!!float 1", 1.0), ("hf://org/name", "hf://org/name"), ("C:\\x", "C:\\x"),
    ],
)  # fmt: skip
def test_words_mean_what_yaml_1_2_says(word: str, expected: object) -> None:
    found = value(word)
    assert found == expected
    assert type(found) is type(expected)


def test_not_a_number_is_a_number() -> None:
    assert math.isnan(value(".nan"))  # type: ignore[arg-type]


def test_every_value_has_its_line_and_column() -> None:
    found = yaml_text.parse("a: 1\nb:\n  - c: x\n    d: [y, z]\n", "job.yaml").positions
    assert {path: at.value for path, at in found.items()} == {
        ("a",): (1, 4), ("b",): (3, 3), ("b", 0): (3, 5), ("b", 0, "c"): (3, 8), ("b", 0, "d"): (4, 8),
        ("b", 0, "d", 0): (4, 9), ("b", 0, "d", 1): (4, 12),
    }  # fmt: skip
    assert found["b", 0, "d"].key == (4, 5)


def test_anchors_and_merged_keys_are_written_out() -> None:
    text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\none: {<<: *b, y: 5}\ntwo: {<<: [*m, *b]}\nthree: *b\n"
    found = yaml_text.parse(text, "job.yaml").value
    assert found["one"] == {"x": 1, "y": 5}
    assert found["two"] == {"x": 1, "y": 3, "z": 4}
    assert found["three"] == found["base"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", r"^job\.yaml:3:1: a: is given twice: it is also in line 1\. Leave one of them out\.$"),
        ("t:\n  x: {r: 1,\n    r: 2}\n", r"^job\.yaml:3:5: t\.x\.r: is given twice: it is also in line 2\."),
        ("a: b: c\n", r"^job\.yaml:1:5: syntax: is wrong: mapping values are not allowed here\. Write one"),
        ("a: [1,\nb: 2\n", r"^job\.yaml:[23]:\d+: syntax: is wrong"),
        ("a:\n\tb: 1\n", r"^job\.yaml:2:1: syntax: is wrong: .*Indent with spaces\."),
        ('a: "x\n', r"^job\.yaml:2:1: syntax: is wrong"),
        ("a: *nowhere\n", r"^job\.yaml:1:4: syntax: is wrong: found undefined alias"),
        ("a: 1\n---\nb: 2\n", r"^job\.yaml:2:1: syntax: is wrong"),
        ("1: a\n", r'^job\.yaml:1:1: 1: is a key, but not text\. Write "1", in quotes'),
        ("labels:\n  true: a\n", r'^job\.yaml:2:3: labels\.true: is a key, but not text\. Write "true"'),
        ("? [a]\n: b\n", r"^job\.yaml:1:3: job file: is a key, but not text"),
        ("a: !!python/object:os.system x\n", r"^job\.yaml:1:4: a: has the tag .*python/object"),
        ("a: !mine {b: 1}\n", r"^job\.yaml:1:4: a: has the tag !mine"),
        ("a: !!int x\n", r"^job\.yaml:1:4: a: has the tag"),
        ("a: &x [*x]\n", r"^job\.yaml:1:8: a\[0\]: refers to itself|^job\.yaml:1:4: a\[0\]: refers to itself"),
        ("a: {<<: 1}\n", r"^job\.yaml:1:9: a: merges something that is not a mapping"),
        ("[" * 1000, r"^job\.yaml:1:\d+: syntax: is"),
        ("a: \x01\n", r"^job\.yaml:1:1: job file: cannot be read"),
    ],
)  # fmt: skip
def test_what_is_no_yaml_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(RequestError, match=f"(?s){says}"):
        yaml_text.parse(text, "job.yaml")


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(RequestError, match="has more than 100000 values"):
        yaml_text.parse("\n".join(lines), "job.yaml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_of_windows_are_read(encoding: str) -> None:
    found = yaml_text.parse("a: grün\r\nb: 1\r\n".encode(encoding), "job.yaml")
    assert found.value == {"a": "grün", "b": 1}
    assert found.positions["b",].key == (2, 1)


WORDS = st.sampled_from(
    [
        "off",
        "2e-4",
        "1_000",
        "12",
        "",
        " x ",
        "a: b",
        "null",
        "~",
        "- a",
        "#",
        "1:30",
        "0o7",
        "y",
        "<<",
        "=",
        "é\nü\n",
        "x\n y",
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(alphabet=st.characters(exclude_categories=["C", "Z"])),
    WORDS,
)
DOCUMENTS = st.dictionaries(st.one_of(WORDS, st.text("abc:# ", min_size=1)),
                            st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner), max_leaves=8))  # fmt: skip


@given(DOCUMENTS)
def test_what_is_written_is_read_again(document: dict[str, object]) -> None:
    text = yaml_text.dump(document)
    assert yaml_text.parse(text, "job.yaml").value == document


@given(st.dictionaries(st.text("ab", min_size=1), SCALARS))
def test_what_is_written_means_the_same_in_yaml_1_1(document: dict[str, object]) -> None:
    # PyYAML's numbers need a dot: "1e+300" is written so that both versions agree.
    assert yaml.safe_load(yaml_text.dump(document)) == document
