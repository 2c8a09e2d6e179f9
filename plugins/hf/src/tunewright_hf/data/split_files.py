"""Which files of a folder make up which split: by its card, or by the names of files and folders."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath

import attrs

from tunewright.errors import RequestError, did_you_mean
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.data.bad_data import BadFileError, field_hint
from tunewright_hf.data.card import NAME, Configuration, read_card
from tunewright_hf.data.kinds import DataFile, data_files, first_kind, kind_of, stem_of, unreadable, visible_files

logger = logging.getLogger(__name__)

_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}(?:-[0-9a-f]{16})?")  # the hub's names: train_sft-00000-of-00003.parquet
_BESIDE = ("text", "json")  # kinds that often are about the data, where a folder has another

Files = dict[str, list[DataFile]]


@attrs.frozen
class _Named:
    """What the path of a file says.

    Attributes:
        file: the file.
        split: of which split it is; None if it does not say.
        prefix: the folders above the part that says so.
        is_exact: whether that part says nothing else.
    """

    file: DataFile
    split: str | None
    prefix: tuple[str, ...]
    is_exact: bool


def usual_name(split: str) -> str:
    """Return "train", "validation" or "test" for a split of such a name, and another name as it is."""
    return _WORDS.get(split.lower(), split)


def split_name(relative: PurePath, wanted: Collection[str]) -> str | None:
    """Return the split that a file's name says, or else its folders', from the innermost: `data/test/part-0.jsonl`."""
    return _read_name(relative, wanted)[0]


def _read_name(relative: PurePath, wanted: Collection[str]) -> tuple[str | None, tuple[str, ...], bool]:
    folders, stem = relative.parts[:-1], stem_of(relative)
    if shard := _SHARD.fullmatch(stem):
        return usual_name(shard[1]), folders, True
    for depth, part in reversed(list(enumerate((*folders, stem)))):
        if part in wanted:
            return part, folders[:depth], True
        for word in re.findall(r"[a-z]+", part.lower()):
            if word in _WORDS:
                return _WORDS[word], folders[:depth], word == part.lower()
    return None, folders, False


def files_by_split(folder: Path, data: DataParams, field: str) -> Files:
    """Return the files of each split; those of a split are of one kind.

    Raises:
        RequestError: the folder holds several datasets, and none of them was chosen.
        BadFileError: a file cannot be read, or is of another kind than those of its split.
    """
    if not folder.is_dir():
        return _by_name(folder, [folder], data, field)
    paths = sorted(visible_files(folder))
    configurations = read_card(folder)
    if not configurations:
        return _by_name(folder, paths, data, field)
    relatives = {PurePosixPath(path.relative_to(folder).as_posix()): path for path in paths}
    chosen = _chosen(configurations, list(relatives), data, folder, field)
    if chosen.patterns is None:
        inside = [path for relative, path in relatives.items() if chosen.holds(relative)]
        return _by_name(folder, inside, attrs.evolve(data, config=None), field)
    found = {
        split: _listed(folder, [relatives[r] for r in matches])
        for split, matches in chosen.files(list(relatives)).items()
    }
    missing = [split for split, files in found.items() if not files]
    if len(missing) == len(found):
        problem = f"has none of the files that its {NAME} names for the configuration {chosen.name!r}"
        raise RequestError(
            problem, field=field, value=str(folder), remedy=f"Add them, or correct data_files in {NAME}."
        )
    if missing:
        logger.warning("%s names files of the splits %s, which are not there", NAME, ", ".join(missing))
    for split, files in found.items():
        _check_one_kind(split, files)
    return {split: files for split, files in found.items() if files}


def has_configuration(folder: Path, name: str) -> bool:
    """Whether a folder has a configuration of a name: by its card, or as a folder of its own."""
    if configurations := read_card(folder) if folder.is_dir() else []:
        return any(configuration.name == name for configuration in configurations)
    return any(f"/{name}/" in f"/{path.relative_to(folder).as_posix()}" for path in visible_files(folder))


def _chosen(
    configurations: Sequence[Configuration], paths: Sequence[PurePosixPath], data: DataParams, folder: Path, field: str
) -> Configuration:
    names = [configuration.name for configuration in configurations]
    if data.config is not None:
        if data.config not in names:
            raise _unknown(data.config, names)
        return configurations[names.index(data.config)]
    defaults = [c for c in configurations if c.is_default]
    there = [c for c in configurations if c.patterns is None or any(c.files(paths).values())]
    for candidates in (configurations, defaults, there):
        if len(candidates) == 1:
            logger.info("%s: the configuration %r of %s", field, candidates[0].name, NAME)
            return candidates[0]
    raise _several(names, folder, field)


def _several(names: Sequence[str], folder: Path, field: str) -> RequestError:
    problem = f"holds {len(names)} datasets: {', '.join(names)}"
    remedy = f"Choose one of them: {field_hint('config', names[0])}."
    return RequestError(problem, field=field, value=str(folder), remedy=remedy)


def _unknown(name: str, names: Sequence[str]) -> RequestError:
    known = f"It has: {', '.join(names)}." if names else "Leave it out: the dataset has no configurations."
    remedy = f"{did_you_mean(name, list(names))} {known}" if names else known
    return RequestError("is not a configuration of the dataset", field="DataParams.config", value=name, remedy=remedy)


def _listed(folder: Path, paths: Sequence[Path]) -> list[DataFile]:
    """Return the files that a card names; those that are about the data are passed over."""
    found = data_files(folder, paths)
    for path in paths:
        if kind_of(path) is None and (error := unreadable(path)):
            raise error
    return found


def _by_name(folder: Path, paths: Sequence[Path], data: DataParams, field: str) -> Files:
    wanted = {name for name in (data.train_part[0], data.eval_part and data.eval_part[0]) if name}
    files = data_files(folder, paths)
    named = [_Named(file, *_read_name(file.relative, wanted)) for file in files]
    _refuse_unreadable(paths, wanted, has_data=bool(files))
    named = _of_configuration(_of_kinds(named), data.config, folder, field)
    groups: dict[str | None, list[DataFile]] = {}
    for entry in named:
        groups.setdefault(entry.split, []).append(entry.file)
    loose = groups.pop(None, [])
    if loose and "train" in groups:
        logger.warning("ignored, because other files name their split: %s", _names(loose))
    elif loose:
        groups["train"] = loose
    for split, members in groups.items():
        _check_one_kind(str(split), members)
    return {str(split): members for split, members in groups.items()}


def _refuse_unreadable(paths: Sequence[Path], wanted: Collection[str], *, has_data: bool) -> None:
    """Refuse rows in a format that cannot be read, where they are all that there is, or are named as a split."""
    for path in paths:
        error = unreadable(path)
        if error and (not has_data or _read_name(Path(path.name), wanted)[2]):
            raise error
        if error:
            logger.warning("ignored: %s", error)


def _of_kinds(named: Sequence[_Named]) -> list[_Named]:
    """Leave out texts and JSON that lie beside data of another kind, unless they are named as a split."""
    main = first_kind(entry.file for entry in named)
    kept: list[_Named] = []
    left: list[_Named] = []
    for entry in named:
        beside = entry.file.kind != main and entry.file.kind in _BESIDE and not entry.is_exact
        (left if beside else kept).append(entry)
    if left:
        names = _names(entry.file for entry in left)
        logger.info("ignored, because they lie beside %s files, and are not named as a split: %s", main, names)
    return kept


def _of_configuration(named: Sequence[_Named], config: str | None, folder: Path, field: str) -> list[_Named]:
    """Return the files of the configuration that was chosen.

    Raises:
        RequestError: there is no such one, or several folders have a split of the same name, and none was chosen.
    """
    prefixes = {entry.prefix for entry in named}
    if config is not None:
        own = [entry for entry in named if f"/{config}/" in f"/{'/'.join(entry.prefix)}/"]
        if not own:
            raise _unknown(config, sorted({"/".join(prefix) for prefix in prefixes if prefix}))
        return own
    by_split: dict[str, set[tuple[str, ...]]] = {}
    for entry in named:
        if entry.split is not None and entry.prefix:
            by_split.setdefault(entry.split, set()).add(entry.prefix)
    several: set[tuple[str, ...]] = max(by_split.values(), key=len, default=set())
    if len(several) > 1:
        raise _several(_distinct(several), folder, field)
    return list(named)


def _distinct(prefixes: Iterable[tuple[str, ...]]) -> list[str]:
    """Return folders without what they have in common."""
    rest = sorted(prefixes)
    while all(prefix for prefix in rest) and len({prefix[0] for prefix in rest}) == 1:
        rest = [prefix[1:] for prefix in rest]
    return ["/".join(prefix) for prefix in rest if prefix] or ["/".join(prefix) for prefix in sorted(prefixes)]


def _check_one_kind(split: str, files: Sequence[DataFile]) -> None:
    kinds: Mapping[str, DataFile] = {file.kind: file for file in reversed(files)}
    if len(kinds) > 1:
        first, second = list(kinds.values())[:2]
        problem = f"is {second.kind}, and {first.path.name} of the same split, {split!r}, is {first.kind}"
        remedy = "Give a split files of one kind: remove the others, move them, or name the files of each split"
        raise BadFileError(
            second.path, problem, remedy=f"{remedy} in the front matter of {NAME} (configs, data_files)."
        )
    seen: dict[PurePosixPath, DataFile] = {}
    for file in files:
        plain = file.relative.with_name(stem_of(file.relative))
        if (other := seen.setdefault(plain, file)) is not file and file.path.suffix != other.path.suffix:
            problem = f"seems to hold the same rows as {other.path.name}"
            raise BadFileError(file.path, problem, remedy="Remove one of the two, or name them differently.")


def _names(files: Iterable[DataFile]) -> str:
    return ", ".join(str(file.relative) for file in files)
