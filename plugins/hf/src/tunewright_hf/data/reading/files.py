"""The input folders, without heavy libraries: which files hold which split, and whether they can be trained on.

The client looks at the first rows only, with the standard library; parquet, arrow and zstd files where pyarrow is installed.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.config.slices import RowSlice
from tunewright_hf.data.reading import csv_rows, json_rows, text_rows
from tunewright_hf.data.reading.bad_data import BadFileError
from tunewright_hf.data.reading.compression import DAMAGED, can_open, on_disk
from tunewright_hf.data.reading.split_files import files_by_split, has_configuration
from tunewright_hf.data.reading.split_names import like, only_like, usual_name

logger = logging.getLogger(__name__)

SAMPLE = 20
"""Rows of a dataset whose values say what its columns hold."""


@attrs.frozen(kw_only=True)
class Reading:
    """How files are read, where they do not say it themselves; the fields of `DataParams` of these names."""

    encoding: str | None = None
    delimiter: str | None = None
    text_unit: str | None = None


@attrs.frozen(kw_only=True)
class Part:
    """Which rows of a split are meant.

    Attributes:
        slice: those of a slice; None for all.
        limit: so many of these at most, the first ones.
        held_out: the share of these that is evaluated on; None where nothing is held out.
        is_held_out: whether that share is meant, or the rest.
    """

    slice: RowSlice | None = None
    limit: int | None = None
    held_out: float | None = None
    is_held_out: bool = False

    @property
    def is_all(self) -> bool:
        """Whether all rows are meant."""
        return self == Part()


@attrs.frozen
class Split:
    """The files of one split.

    Attributes:
        format: "parquet", "arrow", "json", "csv" or "text", as `datasets` names them; "saved" for a folder that
            `save_to_disk` wrote.
        files: the files; for "saved" the one folder. A member of a zip archive is a path below the archive.
        reading: how the files are read.
        part: which of their rows are meant.
        chosen: its name, if it is used because no split has the usual one; "" otherwise.
    """

    format: str
    files: tuple[Path, ...]
    reading: Reading = Reading()
    part: Part = Part()
    chosen: str = ""

    def sizes(self) -> list[tuple[str, int]]:
        """The names and sizes of the files on disk."""
        found = [f for path in self.files for f in (sorted(path.rglob("*")) if path.is_dir() else [path])]
        return [(f.name, f.stat().st_size) for f in dict.fromkeys(map(on_disk, found))]


def training_split(folder: Path, data: DataParams) -> Split:
    """The split to train on: of the name that the user gave, or else of the only one like it, such as "train_sft".

    Raises:
        RequestError: there is no such split, or no data at all.
    """
    name, rows = data.train_part
    split = _pick(folder, find_splits(folder, data), (name,), "dataset", data.format)
    return attrs.evolve(split, part=Part(slice=rows, limit=data.max_samples, held_out=data.eval_fraction))


def evaluation_split(folder: Path, data: DataParams) -> Split:
    """The split of the slot `eval_dataset`; errors as `training_split`."""
    if data.eval_fraction is not None:
        problem, remedy = "stands beside eval_dataset", "Leave one of them out: both say what to evaluate on."
        raise RequestError(problem, field="DataParams.eval_fraction", value=data.eval_fraction, remedy=remedy)
    if data.config is not None and not has_configuration(folder, data.config):
        data = attrs.evolve(data, config=None)  # it is one of the dataset that is trained on
    splits = find_splits(folder, data, "eval_dataset")
    if data.eval_part is None and len(splits) == 1:
        return next(iter(splits.values()))
    if data.eval_part is None:
        return _pick(folder, splits, ("validation", "test", "train"), "eval_dataset", data.format)
    name, rows = data.eval_part
    return attrs.evolve(_pick(folder, splits, (name,), "eval_dataset"), part=Part(slice=rows))


def held_out_split(folder: Path, data: DataParams) -> Split | None:
    """The split of the slot `dataset` to evaluate on; None if it has none, and none was named."""
    if data.eval_fraction is not None:
        split = training_split(folder, data)
        return attrs.evolve(split, part=attrs.evolve(split.part, is_held_out=True))
    splits = find_splits(folder, data)
    if data.eval_part is not None:
        name, rows = data.eval_part
        return attrs.evolve(_pick(folder, splits, (name,), "dataset"), part=Part(slice=rows))
    others = {usual_name(name): split for name, split in splits.items() if name != data.train_part[0]}
    usual = next((others[name] for name in ("validation", "test") if name in others), None)
    return usual or _counterpart(splits, data)


def _counterpart(splits: Mapping[str, Split], data: DataParams) -> Split | None:
    """The split "test_sft" for "train_sft"; None if there is none."""
    trained = data.train_part[0]
    is_there = usual_name(trained) in map(usual_name, splits)
    made = like(trained if is_there else only_like(splits, usual_name(trained), data.format) or "")
    names = (only_like(splits, kind, data.format, made[1]) for kind in ("validation", "test")) if made else ()
    name = next(filter(None, names), None)
    return attrs.evolve(splits[name], chosen=name) if name else None


def _pick(
    folder: Path, splits: dict[str, Split], wanted: tuple[str, ...], field: str, form: str | None = None
) -> Split:
    """One of the splits: the first that has a wanted name; with a format also the only one that is like it.

    Raises:
        RequestError: there is none.
    """
    if not splits:
        raise _empty(folder, field)
    usual = {usual_name(name): split for name, split in splits.items()}
    for name in wanted:
        if name in splits or name in usual:
            return splits.get(name) or usual[name]
        if form is not None and (chosen := only_like(splits, usual_name(name), form)):
            return attrs.evolve(splits[chosen], chosen=chosen)
    option = "train_split" if field == "dataset" else "eval_split"
    names = sorted(splits, key=lambda name: (not name.startswith(wanted[0]), name))
    write = f"trainer.data.{option}: {names[0]} in a job file, DataParams({option}={names[0]!r}) in Python"
    remedy = f"It has: {', '.join(names)}. Name one of them: {write}."
    raise RequestError(f"has no split {wanted[0]!r}", field=field, value=str(folder), remedy=remedy)


def _empty(folder: Path, field: str) -> RequestError:
    remedy = (
        "Give a folder with rows in parquet, JSONL, JSON, CSV, text or Markdown files, or one that save_to_disk() wrote. "
        "All but parquet may be compressed (.gz, .zst, .bz2, .xz, .zip)."
    )
    return RequestError("is empty", field=field, value=str(folder), remedy=remedy)


def find_splits(folder: Path, data: DataParams, field: str = "dataset") -> dict[str, Split]:
    """The splits that a folder (or a single file) holds, by name; files that name no split are "train".

    Raises:
        RequestError: they are not to be told, or some of them cannot be read.
    """
    if saved := _saved_splits(folder):
        _check_config(saved, data.config)
        return saved
    reading = Reading(encoding=data.encoding, delimiter=data.delimiter, text_unit=data.text_unit)
    try:
        found = files_by_split(folder, data, field)
    except BadFileError as error:
        raise RequestError(error.problem, field=field, value=str(error.file), remedy=error.remedy) from error
    return {name: Split(files[0].reader, tuple(f.path for f in files), reading) for name, files in found.items()}


def _saved_splits(folder: Path) -> dict[str, Split]:
    """The splits of a folder that `save_to_disk` wrote; none for another folder."""
    if (folder / "dataset_dict.json").is_file():
        names = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        return {name: Split("saved", (folder / name,)) for name in names if (folder / name).is_dir()}
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return {"train": Split("saved", (folder,))}
    return {}


def _check_config(saved: Mapping[str, Split], config: str | None) -> None:
    """Refuse a configuration that a folder of `save_to_disk`, which holds a single one, does not say that it is.

    Raises:
        RequestError: it says another name, or none.
    """
    infos = (split.files[0] / "dataset_info.json" for split in saved.values())
    read = (json.loads(info.read_text(encoding="utf-8")) for info in infos if info.is_file())
    names = {str(info.get("config_name") or "") for info in read}
    if config is None or names == {config}:
        return
    own = ", ".join(sorted(repr(name) for name in names if name))
    problem = "cannot be chosen in a folder that save_to_disk() wrote: it holds a single configuration"
    remedy = f"Leave it out: the folder says {own}." if own else "Leave it out, or save that configuration to a folder."
    raise RequestError(problem, field="DataParams.config", value=config, remedy=remedy)


def peek(split: Split, field: str) -> tuple[list[str] | None, bool | None]:
    """The columns, and whether there is a row; None for what cannot be known here.

    The first rows of every file of JSON and CSV are read, so that a broken one is found before anything is held.
    """
    binary = split.format in ("parquet", "arrow", "saved")
    if binary and not importlib.util.find_spec("pyarrow"):
        return None, None
    found, unknown = None, False
    for file in _arrow_files(split) if binary else split.files:
        if not can_open(file):
            unknown = True
            continue
        with refused(split, field, file):
            columns = _first_columns(split, file)
        found = found or columns
        if found is not None and split.format not in ("json", "csv"):
            break
    return (None, None) if found is None and unknown else (found, found is not None)


def first_rows(split: Split, count: int = SAMPLE) -> list[Mapping[str, object]]:
    """The first rows of the first file of a split that has any, as far as they can be read here."""
    return next(filter(None, first_of_each(split, count)), [])


def first_of_each(split: Split, count: int) -> Iterator[list[Mapping[str, object]]]:
    """Yield the first rows of each file of a split, as far as they can be read here; nothing for text files."""
    readers: Mapping[str, Callable[[Path, Reading, int], list[Mapping[str, object]]]] = {
        "json": _first_of_json,
        "csv": _first_of_csv,
        "parquet": _first_of_parquet,
        **dict.fromkeys(("arrow", "saved"), _first_of_arrow),
    }
    binary = split.format in ("parquet", "arrow", "saved")
    read = readers.get(split.format)
    if read is None or (binary and not importlib.util.find_spec("pyarrow")):
        return
    files = _arrow_files(split) if binary else split.files
    yield from (read(file, split.reading, count) for file in files if can_open(file))


def header_of(split: Split) -> set[str]:
    """The columns that the files of a split name at their beginning, those without data included; none of JSON."""
    if split.format != "csv":
        return set() if split.format == "json" else {*(peek(split, "dataset")[0] or ())}
    tables = (csv_rows.inspect(f, split.reading.encoding, split.reading.delimiter) for f in split.files if can_open(f))
    return {name for table in tables if table for name in table.header}


def _first_of_json(file: Path, reading: Reading, count: int) -> list[Mapping[str, object]]:
    return [row for _, row in itertools.islice(json_rows.rows(file, reading.encoding), count)]


def _first_of_csv(file: Path, reading: Reading, count: int) -> list[Mapping[str, object]]:
    table = csv_rows.inspect(file, reading.encoding, reading.delimiter)
    rows = itertools.islice(table.rows(), count) if table else ()
    return [dict(zip(table.columns, row, strict=True)) for row in rows] if table else []


def _first_of_parquet(file: Path, reading: Reading, count: int) -> list[Mapping[str, object]]:  # noqa: ARG001 - as the others
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:
        rows = (row for batch in opened.iter_batches(count) for row in batch.to_pylist())
        return list(itertools.islice(rows, count))


def _first_of_arrow(file: Path, reading: Reading, count: int) -> list[Mapping[str, object]]:  # noqa: ARG001 - as the others
    import pyarrow as pa

    with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
        rows = (row for batch in reader for row in batch.slice(0, count).to_pylist())
        return list(itertools.islice(rows, count))


def _first_columns(split: Split, file: Path) -> list[str] | None:
    """The columns of a file; None if it has no row."""
    reading = split.reading
    if split.format == "json":
        return json_rows.first_columns(file, reading.encoding)
    if split.format == "csv":
        return csv_rows.check_first(file, reading.encoding, reading.delimiter)
    if split.format == "text":
        return ["text"] if text_rows.has_text(file, reading.encoding) else None
    return _peek_parquet(file) if split.format == "parquet" else _peek_arrow(file)


@contextmanager
def refused(split: Split, field: str, file: Path) -> Iterator[None]:
    """In here, a file is read.

    Raises:
        RequestError: it cannot be.
    """
    try:
        yield
    except BadFileError as error:
        raise error.refusal(split.format, field) from error
    except (ValueError, *DAMAGED) as error:
        raise BadFileError(file, str(error)).refusal(split.format, field) from error


def _arrow_files(split: Split) -> Iterable[Path]:
    return sorted(split.files[0].glob("*.arrow")) if split.format == "saved" else split.files


def _peek_parquet(file: Path) -> list[str] | None:
    import pyarrow.parquet as pq

    found = pq.read_metadata(file)
    return list(found.schema.to_arrow_schema().names) if found.num_rows else None


def _peek_arrow(file: Path) -> list[str] | None:
    import pyarrow as pa

    with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
        return list(reader.schema.names) if any(batch.num_rows for batch in reader) else None
