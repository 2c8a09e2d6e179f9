"""The input folders, without heavy libraries: which files hold which split, and whether they can be trained on.

The client looks at the first rows only, with the standard library; parquet and arrow files where pyarrow is installed.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DataParams

logger = logging.getLogger(__name__)

MARKER = "complete.json"

# In this order: the first kind that a folder has is the dataset; what lies beside it (a licence as .txt) is not.
_KINDS = (
    ("parquet", (".parquet",)),
    ("arrow", (".arrow",)),
    ("json", (".jsonl", ".ndjson")),
    ("json", (".json",)),
    ("csv", (".csv", ".tsv")),
    ("text", (".txt",)),
)

_NOT_DATA = {MARKER, "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"}
_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}

# Up to the first thing that is no space, also behind the bracket of a list that is not empty.
_FIRST_ROW = re.compile(r"\s*+(?:\[\s*+)?+(?=[^\s\]])")
_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}")  # the hub's names: train_sft-00000-of-00003.parquet


@attrs.frozen
class Split:
    """The files of one split.

    Attributes:
        format: "parquet", "arrow", "json", "csv" or "text", as `datasets` names them; "saved" for a folder that
            `save_to_disk` wrote.
        files: the files; for "saved" the one folder.
    """

    format: str
    files: tuple[Path, ...]


def training_split(folder: Path, data: DataParams) -> Split:
    """The split to train on.

    Raises:
        RequestError: there is no such split, or no data at all.
    """
    return _pick(folder, find_splits(folder, data), (data.train_split,), "dataset")


def evaluation_split(folder: Path, data: DataParams) -> Split:
    """The split of the slot `eval_dataset`; errors as `training_split`."""
    splits = find_splits(folder, data)
    if data.eval_split is None and len(splits) == 1:
        return next(iter(splits.values()))
    wanted = (data.eval_split,) if data.eval_split else ("validation", "test", "train")
    return _pick(folder, splits, wanted, "eval_dataset")


def held_out_split(folder: Path, data: DataParams) -> Split | None:
    """The split of the slot `dataset` to evaluate on; None if it has none, and none was named."""
    splits = find_splits(folder, data)
    if data.eval_split is not None:
        return _pick(folder, splits, (data.eval_split,), "dataset")
    return next((splits[name] for name in ("validation", "test") if name in splits and name != data.train_split), None)


def _pick(folder: Path, splits: dict[str, Split], wanted: tuple[str, ...], field: str) -> Split:
    if not splits:
        raise _empty(folder, field)
    for name in wanted:
        if name in splits:
            return splits[name]
    option = "train_split" if field == "dataset" else "eval_split"
    remedy = f"It has: {', '.join(sorted(splits))}. Name one of them with DataParams({option}=…)."
    raise RequestError(f"has no split {wanted[0]!r}", field=field, value=str(folder), remedy=remedy)


def _empty(folder: Path, field: str) -> RequestError:
    remedy = "Give a folder with rows in parquet, JSONL, JSON, CSV or text files, or one that save_to_disk() wrote."
    return RequestError("is empty", field=field, value=str(folder), remedy=remedy)


def find_splits(folder: Path, data: DataParams) -> dict[str, Split]:
    """The splits that a folder (or a single file) holds, by name; files that name no split are "train"."""
    if (folder / "dataset_dict.json").is_file():
        names = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        return {name: Split("saved", (folder / name,)) for name in names}
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return {"train": Split("saved", (folder,))}
    kind, files = _data_files(folder)
    groups: dict[str | None, list[Path]] = {}
    for file in files:
        relative = file.relative_to(folder) if folder.is_dir() else Path(file.name)
        groups.setdefault(split_name(relative, data), []).append(file)
    loose = groups.pop(None, [])
    if loose and "train" in groups:
        logger.warning("ignored, because other files name their split: %s", ", ".join(f.name for f in loose))
    elif loose:
        groups["train"] = loose
    return {str(name): Split(kind, tuple(files)) for name, files in groups.items()}


def _data_files(folder: Path) -> tuple[str, list[Path]]:
    files = sorted(_visible_files(folder)) if folder.is_dir() else [folder]
    for kind, suffixes in _KINDS:
        ends = (*suffixes, *(f"{s}.gz" for s in suffixes if kind in ("json", "csv", "text")))
        if found := [f for f in files if f.name.lower().endswith(ends) and f.name not in _NOT_DATA]:
            return kind, found
    return "text", []


def _visible_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def split_name(relative: Path, data: DataParams) -> str | None:
    """The split that a file's name tells, or else its folders', from the innermost: `data/test/part-0.jsonl`."""
    stem = relative.name.split(".")[0]
    if shard := _SHARD.fullmatch(stem):
        return _WORDS.get(shard[1].lower(), shard[1])
    named = {name for name in (data.train_split, data.eval_split) if name}
    for part in (stem, *reversed(relative.parts[:-1])):
        if part in named:
            return part
        for word in re.findall(r"[a-z]+", part.lower()):
            if word in _WORDS:
                return _WORDS[word]
    return None


def _peek(split: Split, field: str) -> tuple[list[str] | None, bool | None]:
    """The columns, and whether there is a row; None for what cannot be known here."""
    binary = split.format in ("parquet", "arrow", "saved")
    if binary and not importlib.util.find_spec("pyarrow"):
        return None, None
    looks = {"json": _peek_json, "csv": _peek_csv, "text": _peek_text, "parquet": _peek_parquet}
    for file in _arrow_files(split) if binary else split.files:
        try:
            columns = looks.get(split.format, _peek_arrow)(file)
        except (ValueError, OSError, csv.Error) as error:
            remedy = "Repair the file, or leave it out."
            problem = f"cannot be read as {split.format}: {error}"
            raise RequestError(problem, field=field, value=str(file), remedy=remedy) from error
        if columns is not None:
            return columns, True
    return None, False


def _arrow_files(split: Split) -> Iterable[Path]:
    return sorted(split.files[0].glob("*.arrow")) if split.format == "saved" else split.files


def open_text(file: Path) -> io.TextIOBase:
    """A text file, also a gzipped one, as UTF-8 without a byte order mark."""
    opener = gzip.open if file.suffix == ".gz" else open
    return opener(file, "rt", encoding="utf-8-sig", newline="")


def _peek_json(file: Path) -> list[str] | None:
    """The keys of the first row of JSON lines, or of a list of rows; None if there is none."""
    with open_text(file) as stream:
        head = stream.read(1 << 16)
        while (start := _FIRST_ROW.match(head)) is None and (more := stream.read(1 << 16)):
            head += more
        if start is None:
            return None
        while True:
            try:
                row, _ = json.JSONDecoder().raw_decode(head, start.end())
                break
            except ValueError:  # cut off, or no JSON: which of the two shows when there is more of it
                if not (more := stream.read(len(head))):
                    raise
                head += more
    if isinstance(row, dict):
        return list(row)
    if isinstance(row, str) and "[" in start[0]:  # a list of texts: datasets names the column so
        return ["text"]
    raise ValueError("its rows are no objects")


def delimiter(file: Path) -> str:
    """What separates the columns of a .csv or .tsv file."""
    return "\t" if ".tsv" in file.suffixes else ","


def csv_columns(file: Path) -> list[str]:
    """The header of a CSV file; [] if it is empty."""
    with open_text(file) as stream:
        return next(csv.reader(stream, delimiter=delimiter(file)), [])


def _peek_csv(file: Path) -> list[str] | None:
    with open_text(file) as stream:
        reader = csv.reader(stream, delimiter=delimiter(file))
        columns = next(reader, None)
        return columns if columns and any(reader) else None


def _peek_text(file: Path) -> list[str] | None:
    with open_text(file) as stream:
        return ["text"] if any(line.strip() for line in stream) else None


def _peek_parquet(file: Path) -> list[str] | None:
    import pyarrow.parquet as pq

    found = pq.read_metadata(file)
    return list(found.schema.to_arrow_schema().names) if found.num_rows else None


def _peek_arrow(file: Path) -> list[str] | None:
    import pyarrow as pa

    with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
        return list(reader.schema.names) if any(batch.num_rows for batch in reader) else None
