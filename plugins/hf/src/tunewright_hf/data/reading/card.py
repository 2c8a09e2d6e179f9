"""The configurations of a dataset, as the front matter of its README.md names them for `datasets`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import attrs
import yaml

from tunewright_hf.data.reading.bad_data import BadFileError

NAME = "README.md"
_FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?\r?\n)---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_AS_DATASETS = "Write it as datasets reads it: configs: [{config_name: default, data_files: [{split: train, path: train*.jsonl}]}]."
_DEFAULT = "default"


@attrs.frozen(kw_only=True)
class Configuration:
    """One of the datasets that a folder holds.

    Attributes:
        name: its name.
        data_dir: the folder that its files are in; "" is the whole one.
        patterns: by split, the paths of its files, with wildcards; None where the names of the files tell the splits.
        is_default: whether it is meant where none is named.
    """

    name: str
    data_dir: str = ""
    patterns: Mapping[str, tuple[str, ...]] | None = None
    is_default: bool = False

    def files(self, relatives: Sequence[PurePosixPath]) -> dict[str, list[PurePosixPath]]:
        """Return, by split, those of the paths that its patterns match."""
        found = {}
        for split, patterns in (self.patterns or {}).items():
            matches = [_regex(self._within(pattern)).fullmatch for pattern in patterns]
            found[split] = [path for path in relatives if any(match(str(path)) for match in matches)]
        return found

    def holds(self, path: PurePosixPath) -> bool:
        """Whether a path is in its folder."""
        return not self.data_dir or PurePosixPath(self.data_dir) in path.parents

    def has_any(self, relatives: Sequence[PurePosixPath]) -> bool:
        """Whether one of the paths is among its files."""
        return any(map(self.holds, relatives)) if self.patterns is None else any(self.files(relatives).values())

    def _within(self, pattern: str) -> str:
        return str(PurePosixPath(self.data_dir, pattern))


def read_card(folder: Path) -> list[Configuration]:
    """Return the configurations that the card of a folder names; [] without any.

    Raises:
        BadFileError: they are not written as `datasets` reads them.
    """
    file = folder / NAME
    return parse_card(file.read_text(encoding="utf-8", errors="replace"), file) if file.is_file() else []


def front_matter(folder: Path) -> Mapping[str, object]:
    """Return the front matter of a folder's card; {} without any, or if it cannot be read."""
    file = folder / NAME
    front = _FRONT_MATTER.match(file.read_text(encoding="utf-8", errors="replace")) if file.is_file() else None
    try:
        card = yaml.safe_load(front[1]) if front else None
    except yaml.YAMLError:
        return {}
    return card if isinstance(card, Mapping) else {}


def parse_card(text: str, file: Path) -> list[Configuration]:
    """Return the configurations that the text of a card names; errors as `read_card`, about that file."""
    front = _FRONT_MATTER.match(text)
    if front is None or not re.search(r"^configs\s*:", front[1], re.MULTILINE):
        return []
    try:
        card = yaml.safe_load(front[1])
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 2 if mark else None
        raise BadFileError(
            file, f"its front matter is not YAML: {getattr(error, 'problem', error)}", line=line
        ) from None
    configs = card.get("configs") if isinstance(card, Mapping) else None
    if configs is None:
        return []
    if not isinstance(configs, list) or not all(isinstance(config, Mapping) for config in configs):
        raise BadFileError(file, "configs is not a list of configurations", remedy=_AS_DATASETS)
    return [_configuration(file, config) for config in configs]


def _configuration(file: Path, given: Mapping[str, object]) -> Configuration:
    name, data_dir, data_files = given.get("config_name"), given.get("data_dir"), given.get("data_files")
    if not isinstance(name, str):
        raise BadFileError(file, "a configuration has no config_name", remedy=_AS_DATASETS)
    patterns = None
    if data_files is not None:
        patterns = _patterns(data_files)
        if patterns is None:
            raise BadFileError(file, f"data_files of the configuration {name!r} cannot be read", remedy=_AS_DATASETS)
    return Configuration(
        name=name,
        data_dir=_relative(data_dir) if isinstance(data_dir, str) else "",
        patterns=patterns,
        is_default=name == _DEFAULT or given.get("default") is True,
    )


def _patterns(data_files: object) -> dict[str, tuple[str, ...]] | None:
    """Return the paths by split, of a path, a list of paths or of {split, path}, or a mapping; None for anything else."""
    if isinstance(data_files, Mapping):
        entries: list[tuple[object, object]] = list(data_files.items())
    elif isinstance(data_files, list) and all(isinstance(entry, Mapping) for entry in data_files):
        entries = [(entry.get("split"), entry.get("path")) for entry in data_files]
    else:
        entries = [("train", data_files)]
    found: dict[str, tuple[str, ...]] = {}
    for split, path in entries:
        paths = [path] if isinstance(path, str) else path
        if not isinstance(split, str) or not isinstance(paths, list) or not all(isinstance(p, str) for p in paths):
            return None
        found[split] = (*found.get(split, ()), *map(_relative, paths))
    return found


def _relative(path: str) -> str:
    return str(PurePosixPath(path)).lstrip("/").removeprefix("./")


def _regex(pattern: str) -> re.Pattern[str]:
    """Return what matches the paths that a pattern matches for `datasets`: `*` within a folder, `**` in all folders."""
    wildcards = {"**/": r"(?:[^/]+/)*", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]/]+\])", pattern)
    return re.compile("".join(wildcards.get(part) or _literal(part) for part in parts))


def _literal(part: str) -> str:
    if not part.startswith("["):
        return re.escape(part)
    inside = part[1:-1].replace("\\", r"\\")
    return f"[^{inside[1:]}]" if inside[0] in "!^" else f"[{inside}]"
