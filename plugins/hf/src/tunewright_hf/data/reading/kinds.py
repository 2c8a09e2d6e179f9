"""Which files of a folder are data, and of what kind: parquet, JSON, CSV or text."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath, PurePosixPath

import attrs

from tunewright_hf.data.reading.bad_data import BadFileError
from tunewright_hf.data.reading.compression import ARCHIVE, COMPRESSED, members, plain_name

logger = logging.getLogger(__name__)

MARKER = "complete.json"

# In this order: the first kind that a folder has is its own, and what lies beside it may be about the data.
_SUFFIXES = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
    ".md": "text",
    ".markdown": "text",
}
_ORDER = tuple(dict.fromkeys(_SUFFIXES.values()))
OTHER = "other"
_UNCOMPRESSED = ("parquet", "arrow")  # which compress their columns themselves

_NOT_DATA = {MARKER, "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"}
_ABOUT_DATA = re.compile(
    r"(?:readme|licen[cs]e|copying|notice|authors|citation|changelog|contributing|code_of_conduct|security|requirements)"
    r"(?:[-_.].*)?\.(?:txt|md|markdown)",
    re.IGNORECASE,
)

_REMEDIES = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), "Save the sheet as CSV (UTF-8), and give that file."),
    **dict.fromkeys((".tar", ".tgz", ".7z", ".rar", ".lz4", ".tbz2", ".txz"), "Unpack it, and give the files."),
    **dict.fromkeys(
        (".pdf", ".docx", ".doc", ".odt", ".rtf", ".html", ".htm", ".epub", ".pptx"),
        "Convert it to Markdown or plain text (.md, .txt).",
    ),
    **dict.fromkeys(
        (".pkl", ".pickle", ".feather", ".orc", ".avro", ".sqlite", ".db", ".h5", ".npy"),
        "Write the rows as parquet or JSONL: pandas.DataFrame.to_parquet() does.",
    ),
    **dict.fromkeys((".yaml", ".yml", ".xml", ".toml"), "Write the rows as JSONL, one object in a line."),
}


@attrs.frozen
class DataFile:
    """A file with rows.

    Attributes:
        path: the file; below an archive for a member of one.
        relative: its path within the dataset.
        kind: "parquet", "arrow", "jsonl", "json", "csv" or "text"; see also `listed_file`.
    """

    path: Path
    relative: PurePosixPath
    kind: str

    @property
    def reader(self) -> str:
        """What reads it, as `datasets` names that."""
        return "json" if self.kind == "jsonl" else self.kind


def visible_files(folder: Path) -> Iterator[Path]:
    """All files in a folder, and in its folders, but hidden ones."""
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def data_files(folder: Path, paths: Iterable[Path]) -> list[DataFile]:
    """Return those of the files that hold rows, and the ones that are in zip archives.

    Raises:
        BadFileError: an archive cannot be read.
    """
    found = []
    for path in sorted(paths):
        if path.suffix.lower() == ARCHIVE:
            inside = [m for m in members(path) if not any(p.startswith(".") for p in m.relative_to(path).parts)]
            found += data_files(folder, inside)
            continue
        if (kind := kind_of_data(path)) is not None:
            relative = path.relative_to(folder) if path != folder else Path(path.name)
            found.append(DataFile(path, PurePosixPath(relative.as_posix()), kind))
    return found


def kind_of_data(file: PurePath) -> str | None:
    """Return the kind of a file by its name; None if it holds no rows that can be read, or is about the data."""
    kind = kind_of(file)
    about = file.name in _NOT_DATA or (kind == "text" and _ABOUT_DATA.fullmatch(plain_name(file)))
    return None if about else kind


def listed_file(relative: PurePosixPath) -> DataFile | None:
    """Return a file of which only the path is known, with the kind "other" if its rows cannot be read from here.

    None is for a file that holds no rows.
    """
    kind = kind_of_data(relative)
    if kind is None and (relative.suffix.lower() == ARCHIVE or unreadable(Path(relative))):
        kind = OTHER
    return None if kind is None else DataFile(Path(relative), relative, kind)


def kind_of(file: PurePath) -> str | None:
    """Return the kind of a file by its name; None if it holds no rows that can be read."""
    kind = _SUFFIXES.get(Path(plain_name(file)).suffix)
    return None if kind in _UNCOMPRESSED and file.suffix.lower() in COMPRESSED else kind


def stem_of(file: PurePath) -> str:
    """Return the name of a data file without what says its kind and its compression: `train` of `train.jsonl.gz`."""
    return Path(file.name[: len(plain_name(file))]).stem


def first_kind(files: Iterable[DataFile]) -> str | None:
    """Return the kind of which a folder is, if it has files of several; None without files of a known kind."""
    return min((file.kind for file in files if file.kind != OTHER), key=_ORDER.index, default=None)


def unreadable(file: Path) -> BadFileError | None:
    """Return the error for a file of rows or texts in a format that cannot be read; None for one that is nothing such."""
    name = plain_name(file)
    remedy = _REMEDIES.get(Path(name).suffix)
    if remedy is None and file.suffix.lower() in COMPRESSED and Path(name).suffix in (".parquet", ".arrow"):
        remedy = f"Unpack it: {Path(name).suffix} files compress their columns themselves."
    if remedy is None:
        return None
    return BadFileError(file, f"rows cannot be read from {Path(name).suffix} files", remedy=remedy)
