"""CSV as people write it: read as they meant it, or refused with the line and what to write."""

import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright_hf.data.reading.bad_data import BadFileError
from tunewright_hf.data.reading.csv_rows import DELIMITERS, check_first, inspect


@pytest.fixture
def read(tmp_path: Path):
    def call(text: str | bytes, name: str = "rows.csv", **how: str) -> tuple[list[str], list[list[str]]]:
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        table = inspect(file, **how)
        return table.columns, [list(row) for row in table.rows()]

    return call


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_the_delimiter_is_found(read, delimiter: str) -> None:
    text = 'ask,say\n"a; b | c, d\te",f\n"g\nh","i ""j"""\n'
    text = text.replace(",f", f"{delimiter}f").replace("ask,", f"ask{delimiter}").replace('",', f'"{delimiter}')
    assert read(text) == (["ask", "say"], [["a; b | c, d\te", "f"], ["g\nh", 'i "j"']])


@pytest.mark.parametrize("header", ["", "Unnamed: 0", "Unnamed: 0.1"])
def test_the_index_that_pandas_writes_is_left_out(read, header: str) -> None:
    columns, rows = read(f"{header},ask,say\n0,a,b\n1,c,d\n")
    assert (columns, rows) == (["ask", "say"], [["a", "b"], ["c", "d"]])


@pytest.mark.parametrize("numbers", ["3 1 7", "0 1 2 0 1 2", "-1 0 1", "0 1 0 1 2 0 1", " 7"], ids=str)
def test_rows_may_be_numbered_in_any_order(read, numbers: str) -> None:
    assert read(",ask,say\n" + "".join(f"{n},a,b\n" for n in numbers.split()))[0] == ["ask", "say"]


@pytest.mark.parametrize("numbers", ["1 1 1", "0 0 1", "1 0 0 1", "5 3 5", "0.5 1.5", "1e3 2"], ids=str)
def test_numbers_that_repeat_are_no_index(read, numbers: str) -> None:
    text = "ask,say\n" + "".join(f"{n},a,b\n" for n in numbers.split())
    with pytest.raises(BadFileError, match=r"line 1: column 1 has values, and no name in the header"):
        read(f",{text}")
    assert read(f"Unnamed: 0,{text}")[0] == ["Unnamed: 0", "ask", "say"]


@pytest.mark.parametrize(("header", "value"), [("", "0"), ("Unnamed: 0", "0"), ("Unnamed: 5", "")])
def test_a_column_that_is_passed_over_is_judged_to_the_end(read, header: str, value: str) -> None:
    numbered = "".join(f"{value and n},a,b\n" for n in range(150))
    assert read(f"{header},ask,say\n{numbered},c,d\n")[1][-1] == ["c", "d"]
    with pytest.raises(BadFileError, match=r"line 152: column 1 has values, and no name") as error:
        read(f"{header},ask,say\n{numbered}bad,c,d\n")
    assert "Write its name into the header" in error.value.remedy


def test_an_empty_column_at_the_end_of_every_line_is_left_out(read) -> None:
    assert read("ask,say,\na,b,\nc,d,\n") == (["ask", "say"], [["a", "b"], ["c", "d"]])
    with pytest.raises(BadFileError, match=r"line 103: column 3 has values, and no name"):
        read("ask,say,\n" + "a,b,\n" * 101 + "c,d,e\n")


def test_values_stay_as_they_are_written(read) -> None:
    assert read("n,m\n007,NA\n,null\n\n1e5, x \n")[1] == [["007", "NA"], ["", "null"], ["1e5", " x "]]


def test_encodings_are_told_by_their_marks(read) -> None:
    text = "ask,say\nwhät,ñ\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert read(text.encode(encoding)) == (["ask", "say"], [["whät", "ñ"]])
    assert read(text.encode("cp1252"), encoding="cp1252")[1] == [["whät", "ñ"]]
    with pytest.raises(BadFileError, match=r"line 2: byte 10 \(0xe4\) is not UTF-8") as error:
        read(text.encode("cp1252"))
    assert "trainer.data.encoding: cp1252" in error.value.remedy
    assert "DataParams(encoding='cp1252')" in error.value.remedy


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a,b\n1,2,\n3,4,\n", 2, "has 3 values, and the header has 2"),
        ("a,b\n1,2\n3\n", 3, "has 1 values"),
        ('a,b\n"x\ny",2\nc,d,e\n', 4, "has 3 values"),
        ("text\nHello, world\n", 2, "has 2 values, and the header has 1"),
        ('a,b\n1,2\n"open,4\n5,6\n', 3, "never closed"),
        ('a,b\n1,"x" y\n', 2, "goes on after its closing quote"),
        ("a,a\n1,2\n", 1, "column 'a' twice"),
        (",b\nwords,2\n", 1, "column 1 has values, and no name"),
    ],
)
def test_rows_that_would_shift_are_refused(read, text: str, line: int, words: str) -> None:
    with pytest.raises(BadFileError, match=words) as error:
        read(text)
    assert error.value.line == line
    assert error.value.remedy


def test_a_trailing_delimiter_is_told_apart(read) -> None:
    with pytest.raises(BadFileError) as error:
        read("a;b\n1;2;\n")
    assert error.value.remedy.startswith("Remove the ';' at the ends of the rows")


def test_first_rows_are_checked_and_the_others_are_not_read(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n" + "1,2\n" * 500_000 + "3\n")
    assert check_first(file) == ["a", "b"]
    file.write_text("a,b\n")
    assert check_first(file) is None
    file.write_text("")
    assert check_first(file) is None


def test_a_value_may_be_long(read) -> None:
    assert read(f"a,b\n{'x' * 300_000},2\n")[1] == [["x" * 300_000, "2"]]


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@settings(max_examples=60)
@given(st.lists(st.tuples(cells, cells), max_size=6), st.sampled_from(DELIMITERS))
def test_what_python_writes_is_read(rows: list[tuple[str, str]], delimiter: str) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("ask", "say"), *rows])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.csv")
        file.write_bytes(stream.getvalue().encode())
        table = inspect(file)
        assert table.columns == ["ask", "say"]
        assert [tuple(row) for row in table.rows()] == rows
