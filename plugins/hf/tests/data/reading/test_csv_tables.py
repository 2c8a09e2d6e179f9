"""CSV parsed in bulk: the same rows and the same errors as those of the csv module, from blocks of any size."""

import csv
import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright_hf.data.reading import csv_tables
from tunewright_hf.data.reading.bad_data import BadFileError
from tunewright_hf.data.reading.csv_rows import CsvTable, inspect


class BulkOnly(CsvTable):
    """A table whose rows cannot be read one by one."""

    def rows(self) -> Iterator[Sequence[str]]:
        raise AssertionError("not parsed in bulk")


def bulk(file: Path, **how: str) -> BulkOnly:
    found = inspect(file, **how)
    fields = ("file", "encoding", "delimiter", "header", "kept")
    return BulkOnly(**{name: getattr(found, name) for name in fields})


def read(table: CsvTable, block: int = 16) -> list[tuple[str, ...]]:
    return [tuple(row.values()) for t in csv_tables.tables(table, table.columns, block=block) for row in t.to_pylist()]


def outcome(call) -> object:
    try:
        return call()
    except BadFileError as error:
        return str(error), error.remedy


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_what_pandas_and_excel_write_is_parsed_in_bulk(tmp_path: Path, encoding: str, line_end: str) -> None:
    file = tmp_path / "rows.csv"
    rows = [("wh\xe4t, \xe4nd", 'say ""x""\nor y'), ("", "007"), ("NA", " z ")] * 20
    lines = ["n,ask,say,", *(f'{i},"{ask}","{say}",' for i, (ask, say) in enumerate(rows))]
    text = line_end.join(lines).removeprefix("n") + line_end
    file.write_bytes(text.encode(encoding))
    table = bulk(file, **({"encoding": encoding} if encoding == "cp1252" else {}))
    assert table.columns == ["ask", "say"]
    assert read(table) == [(ask, say.replace('""', '"')) for ask, say in rows]


def test_the_columns_come_in_the_order_wanted(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n1,2\n")
    (table,) = csv_tables.tables(bulk(file), ["b", "a"])
    assert table.to_pydict() == {"b": ["2"], "a": ["1"]}


def test_rows_before_an_error_are_given_once(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n" + "1,2\n" * 100 + "3\n")
    parts = csv_tables.tables(inspect(file), ["a", "b"], block=64)
    found: list[dict[str, str]] = []
    with pytest.raises(BadFileError, match="line 102: has 1 values"):
        found.extend(row for part in parts for row in part.to_pylist())
    assert found == [{"a": "1", "b": "2"}] * len(found)
    assert 0 < len(found) <= 100


def test_a_quote_that_stands_for_inches_is_read_as_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text('size,kind\n3,pipe\n5" or 6",disk\n"a,b",c\n')
    assert read(inspect(file)) == [("3", "pipe"), ('5" or 6"', "disk"), ("a,b", "c")]


def test_a_column_that_is_passed_over_is_judged_to_the_end(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(",a\n" + "".join(f"{n},x\n" for n in range(150)))
    assert read(bulk(file)) == [("x",)] * 150
    with file.open("a") as more:
        more.write("y,x\n")
    assert outcome(lambda: read(inspect(file))) == outcome(lambda: list(inspect(file).rows()))
    assert "line 152: column 1 has values" in outcome(lambda: read(inspect(file)))[0]


heads = ["a,b\n", "Unnamed: 0,b\n", "a,b\r\n", "a\n", ",a,b\n", "a,b,\n", "a;b\n", "\n\na,b\n", '"a","b\nc"\n', "a,b\r"]
pieces = st.sampled_from([*'ab,;"\r\n \t0\0', "\x1c", "\u2028", "\xe4", '"', '"', ",", "\n"])


@settings(max_examples=80)
@given(st.sampled_from(heads), st.lists(pieces, max_size=30), st.integers(1, 40), st.sampled_from(["utf-8", "utf-16"]))
def test_rows_and_errors_are_those_of_the_csv_module(head: str, body: list[str], block: int, encoding: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.csv")
        file.write_bytes((head + "".join(body)).encode(encoding))
        try:
            table = inspect(file)
        except BadFileError:
            return
        assert outcome(lambda: read(table, block)) == outcome(lambda: [tuple(row) for row in table.rows()])


cells = st.text(st.sampled_from('ab,"\r\n \xe4'), max_size=6)


@settings(max_examples=30)
@given(st.lists(st.tuples(cells, cells), max_size=12), st.integers(8, 40), st.sampled_from(["\n", "\r\n"]))
def test_what_python_writes_is_parsed_in_bulk(rows: list[tuple[str, str]], block: int, line_end: str) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows([("ask", "say"), *rows])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.csv")
        file.write_bytes(stream.getvalue().encode())
        assert read(bulk(file), block) == rows
