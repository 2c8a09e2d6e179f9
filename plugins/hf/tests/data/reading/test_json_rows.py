"""The place where a JSON file is broken is found, and what is right is read as the standard library does."""

import json
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tunewright_hf.data.reading.bad_data import BadFileError
from tunewright_hf.data.reading.json_rows import find_problem, first_columns, rows

GOOD = '{"q": "a", "n": 1}\n'


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (GOOD + '{"q": "c", "n', 2, "the file ends in the middle of a row"),
        (GOOD + '{"q": "c', 2, "the file ends in the middle of a row"),
        (GOOD + '{"q": "c",', 2, "the file ends in the middle of a row"),
        (GOOD * 3 + '{"q": "c\n' + GOOD, 4, "a text does not end in its line"),
        (GOOD + '{"q": "c", "n":\n' + GOOD + GOOD, 2, "ends in the middle of a row"),
        (GOOD + '{"q": "c", "n": 2,}\n' + GOOD, 2, "comma before '}'"),
        (GOOD + GOOD + '{"q": "c", "q": "d"}\n', 3, "the key 'q' twice"),
        (GOOD + '{"q": {"x": 1, "x": 2}}\n', 2, "the key 'x' twice"),
        (GOOD + '{"q": "ok \\ud83d"}\n', 2, r"\\ud83d is one half"),
        (GOOD + '{"q": "ok \\uDE00"}\n', 2, r"\\ude00 is one half"),
        (GOOD + "[1, 2]\n", 2, "not objects: \\[1, 2\\]"),
        (GOOD + '"word"\n', 2, "not objects"),
        (GOOD + "nonsense\n", 2, "expecting value"),
        (GOOD + "\n\n" + "{'q': 'c'}\n", 4, "property name enclosed in double quotes"),
        ('[\n{"q": "a"},\n{"q": "b"},\n]', 4, "comma before ']'"),
        ('[\n{"q": "a"}\n{"q": "b"}\n]', 3, "expected ','"),
        ('[\n{"q": "a"},\n{"q": "b"}', 3, "the file ends in the middle of its list"),
        ('[\n{"q": "a"},\n{"q": "b', 3, "the file ends in the middle of a row"),
        ('[{"q": "a"}, 7]', 1, "not objects: 7"),
    ],
)
def test_the_line_of_what_is_broken_is_named(text: str, line: int, words: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(text, encoding="utf-8")
    found = find_problem(file)
    assert found is not None
    assert found.line == line
    with pytest.raises(BadFileError, match=words):
        raise found
    assert str(file) in str(found)


def test_the_line_is_right_far_behind_the_first_block(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"q": "x" * 1000}) + "\n" + GOOD * 20_000 + '{"q": 1,}\n' + GOOD * 20_000)
    assert find_problem(file).line == 20_002
    assert first_columns(file) == ["q", "n"], "the first rows are read without those behind"


def test_bytes_that_are_not_text_are_named_with_the_field_to_write(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(GOOD.encode() * 9 + '{"q": "café"}\n'.encode("cp1252"))
    found = find_problem(file)
    assert found.line == 10
    assert f"byte {len(GOOD) * 9 + 10} (0xe9) is not UTF-8" in str(found)
    assert "trainer.data.encoding: cp1252" in found.remedy
    assert find_problem(file, "cp1252") is None
    file.write_text(GOOD, encoding="utf-16")
    assert first_columns(file) == ["q", "n"]


values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
tables = st.lists(st.dictionaries(st.text(max_size=5), values, max_size=3), max_size=8)


@settings(max_examples=60)
@given(tables, st.sampled_from(["lines", "list", "indented", "indented lines"]), st.booleans())
def test_what_is_right_is_read_as_json_does(rows_: list[dict[str, object]], form: str, plain: bool) -> None:
    import tempfile

    # A single object that holds objects in one list is not a row, but holds the rows: test_json_wrapper.py.
    assume(not (len(rows_) == 1 and "line" in form and any(isinstance(value, list) for value in rows_[0].values())))
    indent = 2 if "indented" in form else None
    if form in ("list", "indented"):
        text = json.dumps(rows_, indent=indent, ensure_ascii=not plain)
    else:
        text = "\n".join(json.dumps(row, indent=indent, ensure_ascii=not plain) for row in rows_)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.json")
        file.write_text(text, encoding="utf-8")
        assert [row for _, row in rows(file)] == rows_
