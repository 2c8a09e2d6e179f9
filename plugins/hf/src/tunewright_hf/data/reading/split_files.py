"""Which files of a folder make up which split: by its card, or by the names of files and folders."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath

import attrs

from tunewright.errors import RequestError, did_you_mean
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.data.reading.bad_data import BadFileError, field_hint
from tunewright_hf.data.reading.card import NAME, Configuration, read_card
from tunewright_hf.data.reading.kinds import (
    OTHER,
    DataFile,
    data_files,
    first_kind,
    kind_of,
    listed_file,
    stem_of,
    unreadable,
    visible_files,
)
from tunewright_hf.data.reading.split_names import usual_name, usual_word

logger = logging.getLogger(__name__)

_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}(?:-[0-9a-f]{16})?")  # the hub's names: train_sft-00000-of-00003.parquet
_BESIDE = ("text", "json")  # kinds that often are about the data, where a folder has another

Files = dict[str, list[DataFile]]


@attrs.frozen
class _Origin:
    """Where files are, for errors.

    Attributes:
        place: the folder, or the repository.
        field: the slot that it was given by.
        is_fetched: whether a provider chooses among its files, and not the trainer.
    """

    place: str
    field: str = "dataset"
    is_fetched: bool = False

    def refusal(self, problem: str, remedy: str) -> RequestError:
        return RequestError(problem, field=self.field, value=self.place, remedy=remedy)

    def several(self, names: Sequence[str]) -> RequestError:
        fetched = f"dataset.config: {names[0]} in a job file, HuggingFaceDatasetParams(config={names[0]!r}) in Python"
        write = fetched if self.is_fetched else field_hint("config", names[0])
        return self.refusal(f"holds {len(names)} datasets: {', '.join(names)}", f"Choose one of them: {write}.")

    def unknown(self, name: str, names: Sequence[str]) -> RequestError:
        known = f"It has: {', '.join(names)}." if names else "Leave it out: the dataset has no configurations."
        remedy = f"{did_you_mean(name, list(names))} {known}" if names else known
        if self.is_fetched:
            return self.refusal(f"has no configuration {name!r}", remedy)
        problem = "is not a configuration of the dataset"
        return RequestError(problem, field="DataParams.config", value=name, remedy=remedy)


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


def _read_name(relative: PurePath, wanted: Collection[str]) -> tuple[str | None, tuple[str, ...], bool]:
    """Return the split that a file's name says, or else its folders', from the innermost: `data/test/part-0.jsonl`.

    Returns:
        The split, or None; the folders above the part that says it; whether that part says nothing else.
    """
    folders, stem = relative.parts[:-1], stem_of(relative)
    if shard := _SHARD.fullmatch(stem):
        return usual_name(shard[1]), folders, True
    for depth, part in reversed(list(enumerate((*folders, stem)))):
        if part in wanted:
            return part, folders[:depth], True
        for word in re.findall(r"[a-z]+", part.lower()):
            if usual := usual_word(word):
                return usual, folders[:depth], word == part.lower()
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
    chosen = _chosen(configurations, list(relatives), data.config, _Origin(str(folder), field))
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
    """Whether a folder has files of a configuration of a name: by its card, or in a folder of its own."""
    paths = [PurePosixPath(path.relative_to(folder).as_posix()) for path in visible_files(folder)]
    if configurations := read_card(folder) if folder.is_dir() else []:
        return any(c.name == name and c.has_any(paths) for c in configurations)
    return any(f"/{name}/" in f"/{path}" for path in paths)


def choose_files(
    relatives: Sequence[PurePosixPath],
    configurations: Sequence[Configuration],
    *,
    config: str | None,
    split: str | None,
    where: str,
) -> set[PurePosixPath]:
    """Return the files of a repository that one configuration and one split of it need.

    These are the files with its rows, by the rules of `files_by_split`, and files that hold no rows (the card, licences,
    pictures): all of them but those of other splits; with a configuration only those in its folders and the ones above.
    Formats are not judged, as another trainer may read them.

    Args:
        relatives: the paths of all files.
        configurations: those that the card names.
        config: the configuration wanted; None: the only one, or the default.
        split: the split wanted; None: all.
        where: the repository, for errors.

    Raises:
        RequestError: the configuration or the split is not there, or several configurations are, and none is named.
    """
    there, origin = set(relatives), _Origin(where, is_fetched=True)
    wanted = {split} if split else set()
    listed = [file for relative in relatives if (file := listed_file(relative))]
    if not listed:  # pictures in folders, for another trainer
        listed = [DataFile(Path(r), r, OTHER) for r in relatives if _read_name(r, wanted)[0]]
    chosen = _chosen(configurations, relatives, config, origin) if configurations else None
    if chosen is not None and chosen.patterns is not None:
        found = chosen.files(relatives)
    else:
        named = [
            _Named(file, *_read_name(_saying(file.relative, there), wanted))
            for file in listed
            if chosen is None or chosen.holds(file.relative)
        ]
        groups = _grouped(named, None if chosen else config, origin)
        found = {name: [file.relative for file in files] for name, files in groups.items()}
    rows = set(_of_split(found, split, origin) if split else itertools.chain(*found.values()))
    rest = there - {file.relative for file in listed} - rows
    if split:
        rest = {r for r in rest if _read_name(r, wanted)[0] in (None, split, usual_name(split))}
    if config is not None:
        folders = {parent for row in rows for parent in row.parents}
        own = {row.parent for row in rows} - {PurePosixPath()}
        rest = {r for r in rest if r.parent in folders or own & set(r.parents)}
    return rows | rest


def _saying(relative: PurePosixPath, relatives: Collection[PurePosixPath]) -> PurePosixPath:
    """Return the path that says the split of a file: its folder's, if `save_to_disk` wrote it."""
    is_saved = relative.suffix == ".arrow" and relative.with_name("state.json") in relatives
    return relative.parent if is_saved else relative


def _of_split(found: Mapping[str, Sequence[PurePosixPath]], split: str, origin: _Origin) -> Sequence[PurePosixPath]:
    usual = {usual_name(name): files for name, files in found.items()}
    files = found.get(split) or usual.get(usual_name(split))
    if not files:
        remedy = f"It has: {', '.join(sorted(found))}. Give one of them, or leave split out."
        remedy = remedy if found else "Leave split out: the names of its files say none."
        raise origin.refusal(f"has no split {split!r}", remedy)
    return files


def _chosen(
    configurations: Sequence[Configuration], paths: Sequence[PurePosixPath], config: str | None, origin: _Origin
) -> Configuration:
    names = [configuration.name for configuration in configurations]
    if config is not None:
        if config not in names:
            raise origin.unknown(config, names)
        return configurations[names.index(config)]
    there = [c for c in configurations if c.has_any(paths)]
    defaults = [c for c in configurations if c.is_default]
    for candidates in (configurations, there, [c for c in defaults if c in there], defaults):
        if len(candidates) == 1:
            logger.info("%s: the configuration %r of %s", origin.field, candidates[0].name, NAME)
            return candidates[0]
    raise origin.several(names)


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
    groups = _grouped(named, data.config, _Origin(str(folder), field))
    for split, members in groups.items():
        _check_one_kind(split, members)
    return groups


def _grouped(named: Sequence[_Named], config: str | None, origin: _Origin) -> Files:
    """Return the files of a configuration by the splits that their names say; the others are "train" if none says so."""
    named = _of_configuration(_of_kinds(named), config, origin)
    groups: dict[str | None, list[DataFile]] = {}
    for entry in named:
        groups.setdefault(entry.split, []).append(entry.file)
    loose = groups.pop(None, [])
    if loose and "train" in groups:
        logger.warning("ignored, because other files name their split: %s", _names(loose))
    elif loose:
        groups["train"] = loose
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


def _of_configuration(named: Sequence[_Named], config: str | None, origin: _Origin) -> list[_Named]:
    """Return the files of the configuration that was chosen.

    Raises:
        RequestError: there is no such one, or several folders have a split of the same name, and none was chosen.
    """
    prefixes = {entry.prefix for entry in named}
    if config is not None:
        own = [entry for entry in named if f"/{config}/" in f"/{'/'.join(entry.prefix)}/"]
        if not own:
            raise origin.unknown(config, sorted({"/".join(prefix) for prefix in prefixes if prefix}))
        return own
    by_split: dict[str, set[tuple[str, ...]]] = {}
    for entry in named:
        if entry.split is not None and entry.prefix:
            by_split.setdefault(entry.split, set()).add(entry.prefix)
    several: set[tuple[str, ...]] = max(by_split.values(), key=len, default=set())
    if len(several) > 1:
        raise origin.several(_distinct(several))
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
