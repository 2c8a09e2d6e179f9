"""Rows of every kind of file, compressed or not, in parts, streamed and not; errors name the file and the line."""

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright import RequestError
from tunewright_hf import DataParams
from tunewright_hf.data.reading.files import held_out_split, training_split

pytest.importorskip("datasets")
ROWS = [{"ask": f"What is {n}?", "say": f" {n}, ä."} for n in range(40)]


def jsonl(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


TEXTS = {
    "rows.jsonl": jsonl(ROWS),
    "rows.json": json.dumps(ROWS, ensure_ascii=False),
    "rows.csv": "ask;say\n" + "".join(f"{row['ask']};{row['say']}\n" for row in ROWS),
}


def zstd(content: bytes) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd, "": lambda content: content,
}  # fmt: skip


@pytest.fixture
def read(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[dict[str, object]]]:
    from tunewright_hf.data.reading.load import iterate, load_rows

    cache = tmp_path_factory.mktemp("cache")

    def call(
        folder: Path, *, streaming: bool = False, held_out: bool = False, **data: object
    ) -> list[dict[str, object]]:
        params = DataParams(**data)
        split = held_out_split(folder, params) if held_out else training_split(folder, params)
        rows = load_rows(split, "dataset", cache, streaming=streaming)
        return list(iterate(rows, split, "dataset")) if streaming else list(rows)

    return call


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("name", TEXTS)
def test_compressed_files_are_read(read, name: str, suffix: str, streaming: bool, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / f"{name}{suffix}").write_bytes(PACK[suffix](TEXTS[name].encode()))
    folder.chmod(0o555)
    assert read(folder, streaming=streaming) == ROWS


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", TEXTS)
def test_archives_are_read(read, name: str, streaming: bool, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with zipfile.ZipFile(folder / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"sub/train-0.{name}", TEXTS[name])
        archive.writestr(f"sub/train-1.{name}", TEXTS[name])
        archive.writestr("LICENSE.txt", "MIT")
    assert read(folder, streaming=streaming) == ROWS * 2


def test_a_compressed_file_in_an_archive_is_read_but_json_is_not_streamed(read, tmp_path: Path) -> None:
    for name in ("rows.jsonl", "rows.csv"):
        folder = tmp_path / name
        folder.mkdir()
        with zipfile.ZipFile(folder / "all.zip", "w") as archive:
            archive.writestr(f"{name}.gz", gzip.compress(TEXTS[name].encode()))
        assert read(folder) == ROWS
    assert read(tmp_path / "rows.csv", streaming=True) == ROWS
    with pytest.raises(RequestError, match="compressed within an archive"):
        read(tmp_path / "rows.jsonl", streaming=True)


def test_other_encodings_are_read_and_streamed_json_is_refused(read, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-16")
        assert read(folder) == ROWS
        (folder / name).write_text(text, encoding="cp1252")
        assert read(folder, encoding="cp1252") == ROWS
        if name == "rows.csv":
            assert read(folder, encoding="cp1252", streaming=True) == ROWS
        else:
            with pytest.raises(RequestError, match="JSON is streamed from UTF-8 only"):
                read(folder, encoding="cp1252", streaming=True)
        with pytest.raises(RequestError, match=r"byte \d+ \(0xe4\) is not UTF-8") as error:
            read(folder)
        assert "trainer.data.encoding: cp1252" in error.value.remedy
        (folder / name).unlink()


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", TEXTS)
def test_parts_are_the_rows_of_the_files_in_order(read, name: str, streaming: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_text(TEXTS[name])
    (tmp_path / f"second-{name}").write_text(TEXTS[name])
    both = ROWS * 2
    assert read(tmp_path, streaming=streaming, train_split="train[:50]") == both[:50]
    assert read(tmp_path, streaming=streaming, train_split="train[30:50]", max_samples=15) == both[30:45]
    assert read(tmp_path, streaming=streaming, train_split="train[75:100]") == both[75:]
    assert read(tmp_path, streaming=streaming, train_split="train[-10:]") == both[-10:]
    assert read(tmp_path, streaming=streaming, train_split="train[:25%]") == both[:20]
    assert read(tmp_path, streaming=streaming, max_samples=7) == both[:7]


def test_a_slice_without_rows_is_refused(read, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(TEXTS["rows.jsonl"])
    with pytest.raises(RequestError, match="has no rows in the slice: it has 40"):
        read(tmp_path, train_split="train[40:]")


def test_a_share_is_held_out_without_duplicates_on_both_sides(read, tmp_path: Path) -> None:
    rows = [{"ask": f"{n % 70}", "say": "same"} for n in range(100)]
    (tmp_path / "rows.jsonl").write_text(jsonl(rows))
    train, held_out = (read(tmp_path, eval_fraction=0.2, held_out=side) for side in (False, True))
    assert len(held_out) == 20
    assert len(train) == 80
    assert {row["ask"] for row in train}.isdisjoint(row["ask"] for row in held_out)
    assert train == [row for row in rows if row in train]
    assert [int(row["ask"]) for row in held_out] != list(range(20)), "it is not the beginning"
    few = read(tmp_path, eval_fraction=0.1, train_split="train[:50]", max_samples=30, held_out=True)
    assert len(few) == 3
    assert all(row in rows[:30] for row in few)


def test_a_share_of_rows_that_are_all_equal_is_refused(read, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(jsonl(ROWS[:1] * 9))
    with pytest.raises(RequestError, match="leaves no row to"):
        read(tmp_path, eval_fraction=0.5)


def test_the_share_is_the_same_for_other_files_of_the_same_rows(read, tmp_path: Path) -> None:
    found = []
    for name in ("rows.jsonl", "rows.csv"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text(TEXTS[name])
        found.append(read(folder, eval_fraction=0.25, held_out=True))
    assert found[0] == found[1]
    assert len(found[0]) == 10


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "bad", "line", "words"),
    [
        ("rows.jsonl", '{"ask": "cut', 5041, "middle of a row"),
        ("rows.jsonl", '{"ask": "a", "say": "b",}\n', 5041, "comma before"),
        ("rows.jsonl", '{"ask": "a", "ask": "b"}\n', 5041, "'ask' twice"),
        ("rows.jsonl", '{"ask": "\\udc00", "say": "b"}\n', 5041, "one half of a character"),
        ("rows.csv", "only one\n", 5042, "has 1 values"),
        ("rows.csv", 'a;"b\n', 5042, "never closed"),
    ],
)
def test_a_broken_row_far_behind_is_named(
    read, name: str, bad: str, line: int, words: str, streaming: bool, tmp_path: Path
) -> None:
    more = "".join(TEXTS[name].splitlines(keepends=True)[-40:]) * 125
    (tmp_path / f"good-{name}").write_text(TEXTS[name])
    (tmp_path / name).write_text(TEXTS[name] + more + bad)
    with pytest.raises(RequestError, match=f"line {line}: .*{words}") as error:
        read(tmp_path, streaming=streaming)
    assert f"{tmp_path / name}" in str(error.value)


def test_a_damaged_archive_is_named(read, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(TEXTS["rows.jsonl"].encode())[:-20])
    with pytest.raises(RequestError, match="cannot be read as json"):
        read(tmp_path)


def test_csv_files_of_a_split_have_the_same_columns_in_any_order(read, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("ask,say\n1,2\n")
    (tmp_path / "b.csv").write_text("say,ask\n4,3\n")
    assert read(tmp_path) == [{"ask": "1", "say": "2"}, {"ask": "3", "say": "4"}]
    (tmp_path / "c.csv").write_text("say,answer\n4,3\n")
    with pytest.raises(RequestError, match=r"has the columns say, answer, and others have ask, say") as error:
        read(tmp_path)
    assert "c.csv" in str(error.value)


def test_splits_of_different_kinds_do_not_mix_in_one_cache(read, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("ask,say\n1,2\n")
    (tmp_path / "validation.csv").write_text("ask,say\n3,4\n")
    assert read(tmp_path) == [{"ask": "1", "say": "2"}]
    assert read(tmp_path, held_out=True) == [{"ask": "3", "say": "4"}]


@pytest.mark.parametrize("streaming", [False, True])
def test_texts_are_read_by_their_unit(read, streaming: bool, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A\n\nOne.\n")
    (tmp_path / "b.txt").write_text("two\n\nthree\n")
    texts = {
        unit: [row["text"] for row in read(tmp_path, streaming=streaming, text_unit=unit)]
        for unit in (None, "paragraph")
    }
    assert texts == {None: ["# A\n\nOne.\n", "two", "", "three"], "paragraph": ["# A", "One.", "two", "three"]}


def test_a_stream_of_a_part_goes_on_where_it_was(tmp_path: Path) -> None:
    from tunewright_hf.data.reading.load import load_rows

    (tmp_path / "rows.csv").write_text(TEXTS["rows.csv"])
    split = training_split(tmp_path, DataParams(train_split="train[3:20]", streaming=True, max_samples=12))
    rows = load_rows(split, "dataset", tmp_path / "cache", streaming=True).with_format("arrow")
    tables = rows.iter(batch_size=5)
    assert next(tables)["ask"].to_pylist() == [row["ask"] for row in ROWS[3:8]]
    state = rows.state_dict()
    again = load_rows(split, "dataset", tmp_path / "cache", streaming=True).with_format("arrow")
    again.load_state_dict(state)
    assert [ask for table in again.iter(batch_size=5) for ask in table["ask"].to_pylist()] == [
        r["ask"] for r in ROWS[8:15]
    ]
