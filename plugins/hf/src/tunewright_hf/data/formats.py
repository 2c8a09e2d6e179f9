"""The format of a dataset: which columns hold what, and that none of them is passed over in silence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

import attrs

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import TEMPLATES, DataParams
from tunewright_hf.data.files import _empty, _peek, evaluation_split, training_split
from tunewright_hf.data.vocabulary import (
    COMPLETIONS,
    CONTEXTS,
    HISTORY,
    MEANINGFUL,
    MESSAGES,
    PROMPTS,
    SYSTEMS,
    TEXTS,
    TOOLS,
    has_no_meaning,
)


@attrs.frozen(kw_only=True)
class ColumnReading:
    """How the columns of a dataset are read.

    Attributes:
        format: "text", "prompt_completion", "chat", "classification" or "preference".
        data: the user's DataParams, with the columns and templates that were recognised.
        used: the columns that are read.
        ignored: the columns that are not.
        asked: whether the rows ask and answer, so that they are written with the tokenizer's chat template if there is one.
    """

    format: str
    data: DataParams
    used: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    asked: bool = False

    def for_tokenizer(self, chat_template: object) -> ColumnReading:
        """Return the reading for a language model: rows that ask and answer become conversations if it has a template.

        Raises:
            RequestError: a column can only be written by a chat template.
        """
        if not self.asked:
            return self
        if chat_template:
            return attrs.evolve(self, format="chat", asked=False)
        if self.data.system_column or self.data.history_column:
            column = self.data.system_column or self.data.history_column
            problem = (
                f"has a column {column!r}, which only a chat template can write, and the model's tokenizer has none"
            )
            remedy = (
                f"Give a model with a chat template, or leave the column out: trainer.data.ignore_columns: [{column}]"
            )
            raise RequestError(problem, field="dataset", remedy=remedy)
        # Nothing else would part the question from its answer.
        parted = tuple(f"{template}\n" for template in self.data.prompt_template)
        return attrs.evolve(self, data=attrs.evolve(self.data, prompt_template=parted), asked=False)

    def __str__(self) -> str:
        ignored = f"; ignored: {', '.join(self.ignored)}" if self.ignored else ""
        return f"format {self.format}; columns used: {', '.join(self.used)}{ignored}"


def check_dataset(folder: Path, data: DataParams, field: str) -> str | None:
    """Refuse a slot's dataset if it is empty, or if its columns cannot be read as `data` says.

    Args:
        folder: the folder or file.
        data: the columns and splits.
        field: the slot, "dataset" or "eval_dataset".

    Returns:
        The format, resolved; None where that cannot be known here.

    Raises:
        RequestError: naming the field, the columns and the remedy.
    """
    split = evaluation_split(folder, data) if field == "eval_dataset" else training_split(folder, data)
    columns, has_rows = _peek(split, field)
    if has_rows is False:
        raise _empty(folder, field)
    return None if columns is None else read_columns(columns, data, field).format


def read_columns(columns: Iterable[str], data: DataParams, field: str = "dataset") -> ColumnReading:
    """Find out what the columns of a dataset hold.

    A format or column that the user names counts as said: other columns are ignored then. For "auto" every column must be
    used, be known to carry no meaning, or be named in `ignore_columns`.

    Raises:
        RequestError: a column is missing, is not accounted for, or several readings are possible.
    """
    have = list(columns)
    found = _as_said(have, data) or _as_recognised(have, data)
    if found is None:
        raise _unknown(have, data, field)
    found = _with_system(found, have)
    rest = [c for c in have if c not in found.used]
    if data.format == "auto" and _says_nothing(data):
        _account_for([c for c in rest if c not in data.ignore_columns], found, field)
    return attrs.evolve(found, ignored=tuple(rest))


def _as_said(have: Sequence[str], data: DataParams) -> ColumnReading | None:
    """The reading that the user's own columns, templates and format give, defaults included."""
    for name in _wanted(data):
        needed = _needed(name, data)
        if all(column in have for column in needed):
            beside = {"chat": data.tools_column, "preference": data.prompt_column}.get(name)
            more = [beside] if beside in have and beside not in needed else []
            if name == "preference" and data.tools_column in have:
                more.append(data.tools_column)
            return ColumnReading(format=name, data=data, used=(*needed, *(c for c in more if c)))
    return None


def _needed(name: str, data: DataParams) -> tuple[str, ...]:
    parts = (*data.columns_of("prompt"), *data.columns_of("completion"))
    if name == "chat":
        return parts if data.prompt_template or data.completion_template else (data.messages_column,)
    return {
        "prompt_completion": parts,
        "text": data.columns_of("text"),
        "classification": (*data.columns_of("text"), data.label_column),
        "preference": (
            *(data.columns_of("prompt") if data.prompt_template else ()),
            data.chosen_column,
            data.rejected_column,
        ),
    }[name]


def _wanted(data: DataParams) -> list[str]:
    """The formats to try, in order."""
    if data.format != "auto":
        return [data.format]
    if data.text_template:
        return ["text"]
    if data.prompt_template or data.completion_template:
        return ["prompt_completion"]
    return ["chat", "prompt_completion", "text", "preference"]


def _says_nothing(data: DataParams) -> bool:
    """Whether the user named no column and wrote no template."""
    defaults = attrs.fields_dict(DataParams)
    of_texts = {f"{name}_template" for names in TEMPLATES.values() for name in names}  # chat_template is not one
    said = [name for name in defaults if name.endswith("_column") or name in of_texts]
    return all(getattr(data, name) == defaults[name].default for name in said)


def _as_recognised(have: Sequence[str], data: DataParams) -> ColumnReading | None:
    """The reading of columns that have their names in public datasets; None if there is none, or more than one."""
    if not _says_nothing(data):
        return None
    if data.format in ("auto", "chat") and len(found := [c for c in MESSAGES if c in have]) == 1:
        tools = next((c for c in TOOLS if c in have), None)
        changed = attrs.evolve(data, messages_column=found[0], tools_column=tools or data.tools_column)
        return ColumnReading(format="chat", data=changed, used=(found[0], *([tools] if tools else [])))
    if data.format in ("auto", "chat", "prompt_completion") and (pair := _pair(have, data)):
        return pair
    if data.format in ("auto", "text") and len(texts := [c for c in TEXTS if c in have]) == 1:
        return ColumnReading(format="text", data=attrs.evolve(data, text_column=texts[0]), used=(texts[0],))
    return None


def _pair(have: Sequence[str], data: DataParams) -> ColumnReading | None:
    """A question and its answer, each under one of its usual names."""
    answers = [c for c in COMPLETIONS if c in have]
    questions = [c for c in PROMPTS if c in have and c not in answers]
    asked = next(iter(questions), None)
    contexts = (
        [c for c in CONTEXTS if c in have and c != asked] if asked in ("instruction", "question", "query") else []
    )
    if asked is None or len(answers) != 1 or len(questions) - len([c for c in contexts if c in questions]) != 1:
        return None
    context = contexts[0] if contexts else None
    prompt = (f"{{{asked}}}\n{{{context}}}", f"{{{asked}}}") if context else (f"{{{asked}}}",)
    tools = next((c for c in TOOLS if c in have), None)
    history = HISTORY if HISTORY in have else None
    changed = attrs.evolve(
        data,
        prompt_template=prompt,
        completion_template=(f"{{{answers[0]}}}",),
        tools_column=tools or data.tools_column,
        history_column=history or data.history_column,
    )
    used = [asked, context, answers[0], tools, history]
    form = "chat" if data.format == "chat" else "prompt_completion"
    return ColumnReading(format=form, data=changed, used=tuple(c for c in used if c), asked=data.format == "auto")


def _with_system(found: ColumnReading, have: Sequence[str]) -> ColumnReading:
    """Use a system prompt that stands in a column of its own."""
    data = found.data
    named = data.system_column
    if named is not None and named not in have:
        remedy = f"Its columns are: {', '.join(have) or 'none'}."
        raise RequestError(f"has no column {named!r}", field="dataset", remedy=remedy)
    column = named or next((c for c in SYSTEMS if c in have), None)
    if column is None or column in found.used or column in data.ignore_columns:
        return found
    if found.format not in ("chat", "prompt_completion"):
        return found
    asked = found.asked or found.format == "prompt_completion"
    if asked and not data.prompt_template:
        data = attrs.evolve(
            data,
            prompt_template=(f"{{{data.prompt_column}}}",),
            completion_template=(f"{{{data.completion_column}}}",),
            prompt_column="prompt",
            completion_column="completion",
        )
    return attrs.evolve(
        found,
        data=attrs.evolve(data, system_column=column),
        used=(column, *found.used),
        asked=asked and found.format != "chat",
    )


def _account_for(rest: Sequence[str], found: ColumnReading, field: str) -> None:
    """Refuse a column that may mean something and is not used.

    Raises:
        RequestError: the first such column.
    """
    for column in rest:
        if found.format == "preference" and column.startswith(("score", "rating", "margin")):
            continue  # what the Trainer classes for pairs do not read
        why = MEANINGFUL.get(column.strip().lower())
        if why is None and has_no_meaning(column):
            continue
        problem = f"has a column {column!r}, which {why or 'is not used'} when the rows are read as {found.format}"
        remedy = (
            f"To train without it: trainer.data.ignore_columns: [{column}]; "
            "to use it, name the columns or write a template in trainer.data."
        )
        raise RequestError(problem, field=field, remedy=remedy)


def _unknown(have: Sequence[str], data: DataParams, field: str) -> RequestError:
    """The error for columns that are not recognised, with the lines of a job file that would make them train."""
    missing = [[c for c in _needed(name, data) if c not in have] for name in _wanted(data)]
    shown = " or ".join(" and ".join(map(repr, columns)) for columns in missing)
    close = {c: near for columns in missing for c in columns for near in get_close_matches(c, have, n=1)}
    meant = "".join(f"Did you mean {near!r} instead of {column!r}? " for column, near in close.items())
    listed = f"Its columns are: {', '.join(have) or 'none'}."
    return RequestError(f"has no column {shown}", field=field, remedy=f"{meant}{listed}{_suggestion(have)}")


def _suggestion(have: Sequence[str]) -> str:
    telling = [c for c in have if not has_no_meaning(c) and c.strip().lower() not in MEANINGFUL] or list(have)
    if not telling:
        return ""
    if len(telling) == 1:
        return f' Write, for example, in the job file:\n  trainer.data.text_column: "{telling[0]}"'
    asked, answered = telling[0], telling[-1]
    return (
        " Write, for example, in the job file:\n"
        f'  trainer.data.prompt_template: "{{{asked}}}"\n'
        f'  trainer.data.completion_template: "{{{answered}}}"'
    )
