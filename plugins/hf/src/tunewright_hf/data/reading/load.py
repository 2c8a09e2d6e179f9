"""Rows from the files of a split, whatever its format."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets

from tunewright.errors import RequestError
from tunewright_hf.data.reading import json_rows
from tunewright_hf.data.reading.bad_data import BadFileError, field_hint
from tunewright_hf.data.reading.compression import (
    DAMAGED,
    archive_of,
    encoding_of,
    is_compressed,
    open_bytes,
    open_text,
    plain_name,
    stamp,
    undecodable,
)
from tunewright_hf.data.reading.files import Part, Reading, Split
from tunewright_hf.data.reading.held_out import divide, side
from tunewright_hf.data.reading.json_wrapper import key_of_rows
from tunewright_hf.data.reading.kinds import stem_of
from tunewright_hf.data.reading.row_builders import build

logger = logging.getLogger(__name__)

# It logs an error, without the line, for what is refused here with it.
logging.getLogger("datasets.packaged_modules.json.json").setLevel(logging.CRITICAL)

_UTF8 = ("utf-8", "utf-8-sig")
_BLOCK = 1 << 22


def load_rows(
    split: Split, field: str, cache: Path, *, streaming: bool = False
) -> datasets.Dataset | datasets.IterableDataset:
    """The rows of a split, whatever its format.

    Args:
        split: its files.
        field: the slot that they come from, for errors.
        cache: folder for what is made of them.
        streaming: read only what is asked for. A part that needs the number of rows is then read as a whole, and rows
            that are held out are among the others.

    Raises:
        RequestError: they cannot be read.
    """
    name = f", split {split.chosen}" if split.chosen else ""
    logger.info("%s: %d file(s) as %s%s", field, len(split.files), split.format, name)
    whole = split.part.slice is not None and split.part.slice.needs_total
    with readable(split, field):
        if streaming and not whole:
            return _first(_open(split, cache, streaming=True), split.part)
        rows = _part(_open(split, cache, streaming=False), split.part, cache, field)
    return rows.to_iterable_dataset() if streaming else rows


def iterate(rows: datasets.IterableDataset, split: Split, field: str) -> Iterator[dict[str, object]]:
    """Read the rows of a split one by one.

    Raises:
        RequestError: they cannot be read.
    """
    numbered = iter(rows)
    while True:
        with readable(split, field):
            row = next(numbered, None)
        if row is None:
            return
        yield row


def _open(split: Split, cache: Path, *, streaming: bool) -> datasets.Dataset | datasets.IterableDataset:
    if split.format == "saved":
        saved = datasets.load_from_disk(str(split.files[0]))
        return saved.to_iterable_dataset() if streaming else saved
    if split.format in ("csv", "text"):
        files = [str(file) for file in split.files]
        return build(split.format, files, split.reading, cache, streaming=streaming)
    if split.format == "json":
        readers = (_streamed if streaming else _unpacked)(split, cache)
    else:
        readers = [str(file) for file in split.files]
    return datasets.load_dataset(
        split.format, data_files=readers, split="train", cache_dir=str(cache), streaming=streaming
    )


def _unpacked(split: Split, cache: Path) -> list[str]:
    """The JSON files of a split; those that are compressed, not UTF-8, or one object are rewritten into the cache.

    Raises:
        BadFileError: a file has bytes that are not text, which the reader would pass on.
    """
    found = []
    for file in split.files:
        if error := undecodable(file, split.reading.encoding):
            raise error
        if key := key_of_rows(file, split.reading.encoding):
            found.append(str(_unwrapped(file, key, split.reading, cache)))
        else:
            found.append(str(_rewritten(file, split.reading, cache) if _is_rewritten(file, split.reading) else file))
    return found


def _unwrapped(file: Path, key: str, reading: Reading, cache: Path) -> Path:
    """The rows that a file has under a key, as JSON lines in the cache."""
    target = _target(file, reading, cache)
    if target.is_file():
        return target
    logger.info("%s: one object, whose rows are under %r", file.name, key)
    building = target.with_suffix(".building")
    with building.open("w", encoding="utf-8") as lines:
        lines.writelines(
            f"{json.dumps(row, ensure_ascii=False)}\n" for _, row in json_rows.rows(file, reading.encoding)
        )
    return building.replace(target)


def _is_rewritten(file: Path, reading: Reading) -> bool:
    return is_compressed(file) or encoding_of(file, reading.encoding) not in _UTF8


def _target(file: Path, reading: Reading, cache: Path) -> Path:
    """The path in the cache of what is made of a file, which may be there already."""
    folder = cache / "unpacked"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{stamp(file, reading)}-{stem_of(file)}.json"


def _rewritten(file: Path, reading: Reading, cache: Path) -> Path:
    target = _target(file, reading, cache)
    if target.is_file():
        return target
    building = target.with_suffix(".building")
    if encoding_of(file, reading.encoding) in _UTF8:
        with open_bytes(file) as packed, building.open("wb") as plain:
            shutil.copyfileobj(packed, plain, _BLOCK)
    else:
        with open_text(file, reading.encoding) as text, building.open("w", encoding="utf-8", newline="") as plain_text:
            shutil.copyfileobj(text, plain_text, _BLOCK)
    return building.replace(target)


def _streamed(split: Split, cache: Path) -> list[str]:
    """The JSON files of a split, as `datasets` unpacks them while it reads; one that is an object is rewritten first."""
    _register_zstd()
    files = [
        _unwrapped(file, key, split.reading, cache) if (key := key_of_rows(file, split.reading.encoding)) else file
        for file in split.files
    ]
    for file in files:
        remedy = f"or leave streaming out: {field_hint('streaming', 'False')}."
        if (encoding := encoding_of(file, split.reading.encoding)) not in _UTF8:
            problem = f"is {encoding}, and JSON is streamed from UTF-8 only"
            raise BadFileError(file, problem, remedy=f"Save the file as UTF-8, {remedy}")
        if archive_of(file) and plain_name(file) != file.name.lower():
            problem = "is compressed within an archive, and cannot be streamed from there"
            raise BadFileError(file, problem, remedy=f"Unpack the archive, {remedy}")
    return [f"zip://{file.relative_to(zip_)}::{zip_}" if (zip_ := archive_of(file)) else str(file) for file in files]


def _register_zstd() -> None:
    """Let fsspec read zstd with pyarrow, where it lacks a package of its own for it."""
    import pyarrow as pa
    from fsspec import compression  # type: ignore[import-untyped]

    if "zstd" not in compression.compr:

        def unpack(raw: object, mode: str = "rb", **_: object) -> pa.NativeFile:  # noqa: ARG001 - of its signature
            return pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")

        compression.register_compression("zstd", unpack, "zst")


def _first(rows: datasets.IterableDataset, part: Part) -> datasets.IterableDataset:
    """The part of a stream, as far as that is known without the number of its rows."""
    start = part.slice.start or 0 if part.slice else 0
    stop = part.slice.stop if part.slice else None
    count = None if stop is None else max(stop - start, 0)
    if part.limit is not None:
        count = part.limit if count is None else min(count, part.limit)
    rows = rows.skip(start) if start else rows
    return rows if count is None else rows.take(count)


def _bounds(part: Part, total: int) -> tuple[int, int]:
    start, stop = part.slice.bounds(total) if part.slice else (0, total)
    return start, stop if part.limit is None else min(stop, start + part.limit)


def _part(rows: datasets.Dataset, part: Part, cache: Path, field: str) -> datasets.Dataset:
    start, stop = _bounds(part, len(rows))
    if (start, stop) != (0, len(rows)):
        if start >= stop:
            problem = f"has no rows in the slice: it has {len(rows)}"
            raise RequestError(problem, field=field, remedy="Give a slice that some of them are in, or none.")
        logger.info("%s: rows %d to %d of %d", field, start, stop - 1, len(rows))
        rows = rows.select(range(start, stop))
    if part.held_out is None:
        return rows
    return divide(rows, part.held_out, cache, held_out=part.is_held_out)


def positions(split: Split, numbers: Sequence[int], cache: Path, *, streaming: bool = False) -> list[int]:
    """Return the numbers that rows of a split have among all rows of its files, both from 0; see `load_rows`."""
    part = split.part
    if streaming and not (part.slice and part.slice.needs_total):
        start = part.slice.start or 0 if part.slice else 0
        return [start + number for number in numbers]
    if part.is_all:
        return list(numbers)
    rows = _open(split, cache, streaming=False)
    start, stop = _bounds(part, len(rows))
    if part.held_out is None:
        return [start + number for number in numbers]
    kept = side(rows.select(range(start, stop)), part.held_out, cache, held_out=part.is_held_out)
    return [start + int(kept[number]) for number in numbers]


@contextlib.contextmanager
def readable(split: Split, field: str) -> Iterator[None]:
    """In here, rows are read.

    Raises:
        RequestError: they cannot be; with the file and line, where they can be told.
    """
    try:
        yield
    except (datasets.exceptions.DatasetGenerationError, ValueError, *DAMAGED) as error:
        cause = error.__cause__ if isinstance(error, datasets.exceptions.DatasetGenerationError) else error
        raise _refusal(split, field, cause or error) from error


def _refusal(split: Split, field: str, cause: BaseException) -> RequestError:
    if not isinstance(cause, BadFileError) and split.format == "json":
        found = (json_rows.find_problem(file, split.reading.encoding) for file in split.files)
        with contextlib.suppress(*DAMAGED):
            cause = next(filter(None, found), cause)
    if isinstance(cause, BadFileError):
        return cause.refusal(split.format, field)
    remedy = "Repair the files, and give all of them the same columns and types."
    problem = f"cannot be read as {split.format}: {type(cause).__name__}: {cause}"
    return RequestError(problem, field=field, remedy=remedy)
