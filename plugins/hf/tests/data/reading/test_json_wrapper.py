"""A JSON file that is one object: its rows under a key are read as rows, and a row that looks alike stays one."""

import gzip
import json
from pathlib import Path

import pytest

from tunewright import RequestError
from tunewright_hf import DataParams, HuggingFaceTrainParams
from tunewright_hf.data.reading.bad_data import BadFileError
from tunewright_hf.data.reading.files import first_rows, training_split
from tunewright_hf.data.reading.json_rows import find_problem, rows
from tunewright_hf.data.reading.json_wrapper import key_of_rows

ROWS = [{"prompt": f"{n}?", "completion": f" {n}, ä."} for n in range(40)]
CHAT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
ROUNDS = [{"question": "a", "answer": "b"}]


def key(tmp_path: Path, text: str) -> str | None:
    (tmp_path / "one.json").write_text(text)
    return key_of_rows(tmp_path / "one.json")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"data": ROWS}, "data"),
        ({"data": [{"messages": CHAT}, {"messages": CHAT}]}, "data"),
        ({"data": ROUNDS}, "data"),
        ({"my rows": ROWS}, "my rows"),
        ({"instances": ROWS[:1]}, "instances"),
        ({"data": []}, "data"),
        ({"messages": CHAT}, None),
        ({"data": CHAT}, None),
        ({"data": [*CHAT, {"content": "c"}]}, None),
        ({"conversation": ROUNDS}, None),
        ({"turns": ROUNDS}, None),
        ({"data": ["a", "b"]}, None),
        ({"data": [*ROWS, 1]}, None),
        ({"data": {"prompt": "a"}}, None),
        ({"prompt": "a", "completion": "b"}, None),
        ({"id": 1, "messages": CHAT}, None),
        ({"id": 1, "data": CHAT}, None),
        ({"instruction": "a", "instances": [{"input": "", "output": "b"}]}, None),
        ({"text": "a", "items": []}, None),
        (ROWS, None),
        ([{"data": ROWS}], None),
        ({}, None),
        (7, None),
    ],
    ids=lambda v: str(v)[:40],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_what_is_inside_tells_rows_from_a_row(content, expected, indent, tmp_path: Path) -> None:
    assert key(tmp_path, f"\n {json.dumps(content, indent=indent)}\n") == expected


@pytest.mark.parametrize(
    "text", ['{"data": [{"a": 1},]}', '{"data": [{"a": 1}', '{"data"', '{"data": [{}], "data": [{}]}', ""]
)
def test_what_is_broken_is_left_to_whoever_reads_the_rows(text: str, tmp_path: Path) -> None:
    assert key(tmp_path, text) is None
    assert text == "" or find_problem(tmp_path / "one.json") is not None


def test_json_lines_stay_json_lines(tmp_path: Path) -> None:
    assert key(tmp_path, f"{json.dumps({'data': ROWS})}\n" * 2) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"version": "1.1", "data": ROWS}, r"rows under 'data', and has 'version' beside them.*jq \.data one\.json"),
        ({"meta": {"by": "x"}, "data": ROWS}, "has 'meta' beside"),
        ({"train": ROWS, "test": ROWS}, r"has 'test' beside them.*jq \.train one\.json > train\.json"),
        (
            {"prompt": {"0": "a", "1": "b"}, "completion": {"0": "c", "1": "d"}},
            r"a column under each key.*orient=\"records\"",
        ),
    ],
    ids=lambda v: str(v)[:40],
)
def test_rows_beside_something_else_are_refused_with_what_to_write(content, words: str, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text(json.dumps(content))
    with pytest.raises(BadFileError) as refused:
        list(rows(file))
    with pytest.raises(RequestError, match=words):
        HuggingFaceTrainParams().check_inputs(model=None, dataset=tmp_path, eval_dataset=None)
    assert "beside" in refused.value.problem or "column" in refused.value.problem


def test_the_rows_are_named_by_their_lines(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text('{"data": [\n{"a": 1},\n\n{"a": 2}]}')
    assert list(rows(tmp_path / "one.json")) == [(2, {"a": 1}), (4, {"a": 2})]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_several_files_are_read_as_rows(streaming: bool, packed: bool, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    from tunewright_hf.data.reading.load import load_rows

    folder = tmp_path / "dataset"
    folder.mkdir()
    for number, part in enumerate((ROWS[:15], ROWS[15:16], ROWS[16:])):
        text = json.dumps({"data": part}, ensure_ascii=False, indent=1 if number else None).encode()
        (folder / f"{number}.json{'.gz' if packed else ''}").write_bytes(gzip.compress(text) if packed else text)
    split = training_split(folder, DataParams())
    assert first_rows(split)[:2] == ROWS[:2]
    assert list(load_rows(split, "dataset", tmp_path / "cache", streaming=streaming)) == ROWS


def test_a_line_of_json_lines_is_a_row_whatever_is_in_it(tmp_path: Path) -> None:
    row = {"items": [{"prompt": "a", "completion": "b"}]}
    for name in ("rows.jsonl", "rows.ndjson"):
        (tmp_path / name).write_text(json.dumps(row))
        assert [found for _, found in rows(tmp_path / name)] == [row]
