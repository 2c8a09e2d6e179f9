"""Options of `DataParams` that apply to nothing that is there are refused: whoever gives one means something by it.

Options that contradict each other are refused where they are given, and names of splits and configurations where files are
looked for. Here are those of which only the files and their first rows can tell.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, cast

import attrs

from tunewright.errors import RequestError
from tunewright.providers import TrainRun
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.config.mixture import given_by
from tunewright_hf.config.tasks import CAUSAL
from tunewright_hf.data.inputs import about_dataset, datasets_of, reading_of, splits_of
from tunewright_hf.data.reading.files import Split, first_of_each, first_rows, header_of, peek
from tunewright_hf.data.rows.accounting import columns_in
from tunewright_hf.data.rows.column_reading import ColumnReading
from tunewright_hf.data.rows.dialects import speakers
from tunewright_hf.data.samples.encode import Goal
from tunewright_hf.data.samples.preference import PREFERENCE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_FILES = 20  # of a split, and rows of each, that are looked at
_ROWS = 100

_KINDS = {"json": "JSON", "csv": "CSV", "text": "text or Markdown", "saved": "save_to_disk()"}
"""What to call files of a format; those of others by its name."""

_OF_FILES = {"text_unit": ("text",), "delimiter": ("csv",), "encoding": ("json", "csv", "text")}
"""Options about files → the formats that they are about."""

_OF_FORMATS = {
    "text_column": ("text", "classification"),
    "messages_column": ("chat",),
    "prompt_column": ("prompt_completion", PREFERENCE),
    "completion_column": ("prompt_completion", PREFERENCE),
    "label_column": ("classification", PREFERENCE),
    "chosen_column": (PREFERENCE,),
    "rejected_column": (PREFERENCE,),
    "system_column": ("chat",),
    "tools_column": ("chat",),
    "history_column": ("chat",),
}
"""Options that name a column → the formats that they are for."""


@attrs.frozen(kw_only=True)
class _Objection:
    """Why an option applies to nothing in a dataset, and what to do.

    Attributes:
        problem: why, as a clause.
        remedy: what to do, as a sentence.
        is_certain: whether no other row can change it.
    """

    problem: str
    remedy: str = "Leave it out."
    is_certain: bool = True


@attrs.frozen(kw_only=True)
class _Dataset:
    """A dataset that options may apply to.

    Attributes:
        data: the options that it is read by.
        goal: what samples are made for.
        reading: what its columns hold.
        splits: its splits to train and to evaluate on.
        columns: the names of the columns that are known.
        rows: the first rows of each file, as far as they can be read.
        has_all_rows: whether there are no others.
    """

    data: DataParams
    goal: Goal
    reading: ColumnReading
    splits: Sequence[Split]
    columns: frozenset[str]
    rows: Sequence[Mapping[str, object]]
    has_all_rows: bool

    @property
    def has_all_columns(self) -> bool:
        """Whether there are no other columns: rows of JSON may have some that the first ones lack."""
        return self.has_all_rows or not any(split.format == "json" for split in self.splits)

    @property
    def as_read(self) -> str:
        """How the rows are read, in words."""
        return f"the rows are read as {self.reading.format}, from {', '.join(self.reading.used)}"

    @property
    def files(self) -> str:
        """What the files are, in words."""
        kinds = dict.fromkeys(_KINDS.get(split.format, split.format) for split in self.splits)
        names = list(dict.fromkeys(file.name for split in self.splits for file in split.files))
        more = ", …" if len(names) > 3 else ""  # noqa: PLR2004 - enough to recognise the dataset by
        return f"{' and '.join(kinds)} ({', '.join(names[:3])}{more})"


def refuse_unused(run: TrainRun, data: DataParams, tokenizer: PreTrainedTokenizerBase, goal: Goal) -> None:
    """Refuse options that apply to no file and no row of any dataset that they are given for.

    Args:
        run: the datasets.
        data: the options of the job.
        tokenizer: the model's tokenizer.
        goal: what samples are made for.

    Raises:
        RequestError: naming the option, what is there, and what to do.
    """
    found = []
    for field, own, options in datasets_of(run, data):
        with about_dataset(field):
            found.append(_look(own, options, tokenizer, goal))
    for number, part in enumerate(run.mixture):
        _refuse(given_by(part), found[number : number + 1], f"dataset[{number}].data.")
    _refuse(data.given(), found, "DataParams.")


def _look(run: TrainRun, data: DataParams, tokenizer: PreTrainedTokenizerBase, goal: Goal) -> _Dataset:
    splits = [split for _, split in splits_of(run, data).values()]
    columns, _ = peek(splits[0], "dataset")
    reading = reading_of(columns_in(first_rows(splits[0]), columns or ()), data, tokenizer, goal)
    rows: list[Mapping[str, object]] = []
    has_all = True
    for split in splits:
        for first in itertools.islice(first_of_each(split, _ROWS + 1), _FILES):
            rows += first[:_ROWS]
            has_all = has_all and len(first) <= _ROWS
        has_all = has_all and len(split.files) <= _FILES
    return _Dataset(
        data=data,
        goal=goal,
        reading=reading,
        splits=splits,
        columns=frozenset().union(*rows, *map(header_of, splits)),
        rows=rows,
        has_all_rows=has_all,
    )


def _refuse(given: Mapping[str, object], datasets: Sequence[_Dataset], prefix: str) -> None:
    """Refuse options to which all datasets that are read by them object.

    Raises:
        RequestError: there is one.
    """
    for name, value in given.items():
        asked = [dataset for dataset in datasets if getattr(dataset.data, name) == value]
        for one in cast("Sequence[object]", value) if name == "ignore_columns" else [value]:
            objections = [_objection(name, one, dataset) for dataset in asked]
            reasons = [objection for objection in objections if objection]
            if not asked or len(reasons) < len(asked):
                continue
            reason = next((r for r in reasons if not r.is_certain), reasons[0])
            if reason.is_certain:
                raise RequestError(reason.problem, field=f"{prefix}{name}", value=value, remedy=reason.remedy)
            logger.warning("%s%s: %s, as far as the first rows tell", prefix, name, reason.problem)


def _objection(name: str, value: object, dataset: _Dataset) -> _Objection | None:
    """Return why an option applies to nothing in a dataset; None if it applies to something."""
    if name in _OF_FILES:
        return _about_files(_OF_FILES[name], dataset)
    if name in _OF_FORMATS:
        return _about_column(name, value, dataset) if isinstance(value, str) else None
    others: Mapping[str, Callable[[object, _Dataset], _Objection | None]] = {
        "ignore_columns": _about_ignored,
        "roles": _about_roles,
        "packing": _about_packing,
    }
    return others[name](value, dataset) if name in others else None


def _about_files(formats: Iterable[str], dataset: _Dataset) -> _Objection | None:
    if any(split.format in formats for split in dataset.splits):
        return None
    kinds = [_KINDS[form] for form in formats]
    problem = f"applies to no file: it is for {', '.join(kinds)} files, and the dataset's are {dataset.files}"
    return _Objection(problem=problem, remedy=f"Leave it out, or give the rows as {kinds[0]} files.")


def _about_column(name: str, column: str, dataset: _Dataset) -> _Objection | None:
    if column in dataset.reading.used and column in dataset.columns:
        return None
    if column not in dataset.columns:
        missing = _unknown(column, dataset)  # later rows are read as the first ones, and may bring these two alone
        return missing if name in ("tools_column", "history_column") else attrs.evolve(missing, is_certain=True)
    forms = [form for form in _OF_FORMATS[name] if form in dataset.goal.task.formats]
    other = next((form for form in forms if form != dataset.reading.format), None)
    said = f", or say that the rows are to be read otherwise: trainer.data.format: {other}" if other else ""
    return _Objection(problem=f"is not used: {dataset.as_read}", remedy=f"Leave it out{said}.")


def _unknown(column: str, dataset: _Dataset) -> _Objection:
    names = sorted(dataset.columns)
    meant = "".join(f"Did you mean {close!r}? " for close in get_close_matches(column, names, n=1))
    remedy = f"{meant}The columns are: {', '.join(names)}. Name one of them, or leave it out."
    problem = f"names a column that no row has: {column!r}"
    return _Objection(problem=problem, remedy=remedy, is_certain=dataset.has_all_columns)


def _about_ignored(column: object, dataset: _Dataset) -> _Objection | None:
    if column in dataset.reading.used:
        problem = f"names a column that is trained on, {column!r}: {dataset.as_read}"
        return _Objection(problem=problem, remedy="Leave it out there, or name the columns to train on instead.")
    return None if column in dataset.columns else _unknown(str(column), dataset)


def _about_roles(roles: object, dataset: _Dataset) -> _Objection | None:
    given = cast("Mapping[str, str]", roles)
    data, is_chat = dataset.reading.data, dataset.reading.format == "chat"
    values = [row.get(column) for row in dataset.rows for column in dataset.reading.used]
    written = data.prompt_template or data.completion_template  # a conversation of columns
    held = [value for value in values if isinstance(value, list) or (is_chat and not written)]
    said = dict.fromkeys(name for value in held for name in speakers(value, given))
    if not said:
        return _Objection(problem=f"renames roles, and no row has messages: {dataset.as_read}")
    if {name.strip().lower() for name in said} & {name.strip().lower() for name in given}:
        return None
    remedy = f"Leave it out, or map the roles that there are: {', '.join(said)}."
    return _Objection(problem="names no role that a message has", remedy=remedy, is_certain=dataset.has_all_rows)


def _about_packing(_: object, dataset: _Dataset) -> _Objection | None:
    if dataset.goal.task is CAUSAL and dataset.reading.format != PREFERENCE:
        return None
    return _Objection(problem=f"makes rows of several samples, and each of these stays by itself: {dataset.as_read}")
