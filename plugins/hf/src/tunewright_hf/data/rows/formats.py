"""The format of a dataset: which columns hold what, and that none of them is passed over in silence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import attrs

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import TEMPLATES, DataParams
from tunewright_hf.data.reading.files import _empty, evaluation_split, first_rows, peek, training_split
from tunewright_hf.data.rows.accounting import Beside, Columns, are_numbers, columns_in
from tunewright_hf.data.rows.column_reading import ColumnReading
from tunewright_hf.data.rows.columns import value_at
from tunewright_hf.data.rows.dialects import has_roles, looks_like_chat
from tunewright_hf.data.rows.suggestions import pair_suggestion, suggestion, tells
from tunewright_hf.data.rows.vocabulary import (
    COMPLETIONS,
    CONTEXTS,
    HISTORY,
    LABELS,
    MEANINGFUL,
    MESSAGES,
    PARTS,
    PROMPTS,
    SURE_MESSAGES,
    SYSTEMS,
    TEXTS,
    TOOLS,
    WITH_CONTEXT,
    has_no_meaning,
    is_rating,
    plain,
)


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
    columns, has_rows = peek(split, field)
    if has_rows is False:
        raise _empty(folder, field)
    return None if columns is None else read_columns(columns_in(first_rows(split), columns), data, field).format


def read_columns(columns: Iterable[str], data: DataParams, field: str = "dataset") -> ColumnReading:
    """Find out what the columns of a dataset hold.

    A format or column that the user names counts as said: other columns are ignored then. For "auto" every column must be
    used, be known to carry no meaning, or be named in `ignore_columns`.

    Args:
        columns: the names, or `Columns` with the first values of each.
        data: what the user said.
        field: the slot, for errors.

    Raises:
        RequestError: a column is missing, is not accounted for, or several readings are possible.
    """
    given: Columns = columns if isinstance(columns, dict) else columns_in((), columns)
    have = list(given)
    readings = [_with_system(found, have) for found in _readings(have, given, data)]
    if not readings:
        raise _unknown(given, data, field)
    rests = [_unaccounted(found, given, data) for found in readings]
    # A conversation is rarely what is to be left out, of all columns.
    best = min(range(len(rests)), key=lambda i: (bool(rests[i]), readings[i].format != "chat", len(rests[i])))
    if rests[best]:
        raise _not_accounted_for(rests[best], readings[best], field)
    found = readings[best]
    if data.tools_column in data.ignore_columns:
        found = attrs.evolve(found, data=attrs.evolve(found.data, tools_column=None))
    return attrs.evolve(found, ignored=tuple(c for c in have if c not in found.used))


def _readings(have: Sequence[str], columns: Columns, data: DataParams) -> list[ColumnReading]:
    """Return the readings to try, in order: one of the user's own, if the user said anything."""
    if not _says_nothing(data) or data.format not in ("auto", "chat", "prompt_completion", "text"):
        said = set(named_columns(data).values())
        return sorted(_as_said(have, columns, data), key=lambda found: len(said - {*found.used}))[:1]
    kept = [column for column in have if column not in data.ignore_columns]
    chat = _conversation(kept, columns, data) if data.format in ("auto", "chat") else None
    pair = _pair(kept, columns, data) if data.format != "text" else None
    text = _text(kept, columns, data) if data.format in ("auto", "text") else None
    preference = _preference(kept, data) if data.format == "auto" else None
    known = [found for found in (chat, *_as_said(kept, columns, data), pair, text, preference) if found]
    only = None if known or data.format not in ("auto", "text") else _only_text(kept, columns, data)
    answered = _only_answered(kept, columns, data) if data.format == "auto" else None
    return [only] if only else [*known, *([answered] if answered else [])]


def _as_said(have: Sequence[str], columns: Columns, data: DataParams) -> list[ColumnReading]:
    """The readings that the user's own columns, templates and format give, defaults included."""
    found = []
    for name in _wanted(data):
        paths = _needed(name, data)
        if name == data.format == "preference" and not {data.chosen_column, data.rejected_column} & set(have):
            paths = (*data.columns_of("prompt"), data.completion_column, data.label_column)  # of unpaired ones
        if all(_leads_to_a_value(path, have, columns) for path in paths):
            needed = tuple(dict.fromkeys(column_of(path, have) for path in paths))
            more = [c for c in _beside(name, columns, data) if c in have and c not in (*needed, *data.ignore_columns)]
            found.append(ColumnReading(format=name, data=data, used=(*needed, *(c for c in more if c))))
    return found


def _beside(name: str, columns: Columns, data: DataParams) -> list[str | None]:
    """The columns that a format may do without."""
    if name == "preference":
        return [data.prompt_column, data.tools_column]
    writes = bool(data.prompt_template or data.completion_template)
    if name == "chat":
        return [data.tools_column, data.history_column if writes else None]
    said = name == "prompt_completion" and not writes and _is_chat(columns.get(data.prompt_column, ()), data)
    return [data.tools_column] if said else []


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


def column_of(path: str, have: Sequence[str]) -> str:
    """Return the column that a template names, by itself or at the start of a path such as `answers.text.0`."""
    return path if path in have else path.partition(".")[0]


def _leads_to_a_value(path: str, have: Sequence[str], columns: Columns) -> bool:
    """Whether a template names a column, or a path within one that leads to something in one of its first values."""
    column = column_of(path, have)
    if path == column or column not in have:
        return column in have
    values = columns[column]
    return not values or any(value_at({column: value}, path) is not None for value in values)


def _wanted(data: DataParams) -> list[str]:
    """The formats to try, in order."""
    if data.format != "auto":
        return [data.format]
    if data.text_template:
        return ["text"]
    if data.prompt_template or data.completion_template:
        return ["prompt_completion"]
    return ["chat", "prompt_completion", "text", "preference"]


def named_columns(data: DataParams) -> dict[str, str]:
    """Return the columns that the user named, by the fields that name them."""
    return {name: str(value) for name, value in data.given().items() if value is not None and name.endswith("_column")}


def _says_nothing(data: DataParams) -> bool:
    """Whether the user named no column and wrote no template."""
    of_texts = {f"{name}_template" for names in TEMPLATES.values() for name in names}  # chat_template is not one
    return not any(name.endswith("_column") or name in of_texts for name in data.given())


def _named(have: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the columns that have one of the names, however they are written, in the order of the names."""
    by_name = {plain(column): column for column in reversed(have)}
    return [by_name[name] for name in names if name in by_name]


def _conversation(have: Sequence[str], columns: Columns, data: DataParams) -> ColumnReading | None:
    """A column that holds a conversation; None if there is none, or more than one."""
    found = [c for c in _named(have, MESSAGES) if _is_sure(c, columns) or _is_chat(columns[c], data)]
    if not found:
        found = [
            c
            for c in have
            if _is_chat(columns[c], data, strict=True) and c not in ("prompt", "completion", "chosen", "rejected")
        ]
    if len(found) != 1:
        return None
    tools = next(iter(_named(have, TOOLS)), None)
    changed = attrs.evolve(data, messages_column=found[0], tools_column=tools or data.tools_column)
    return ColumnReading(format="chat", data=changed, used=(found[0], *([tools] if tools else [])))


def _is_sure(column: str, columns: Columns) -> bool:
    """Whether a column holds a conversation by its name, unless its values are numbers."""
    return plain(column) in SURE_MESSAGES and not any(isinstance(value, int | float) for value in columns[column])


def _is_chat(values: Sequence[object], data: DataParams, *, strict: bool = False) -> bool:
    """Whether the first values of a column are conversations; if `strict`, lists of messages with roles."""
    there = [value for value in values if value]
    return bool(there) and all(has_roles(v) if strict else looks_like_chat(v, data.roles) for v in there)


def _may_hold_text(values: Sequence[object]) -> bool:
    """Whether any of the first values of a column is filled; those of columns whose values are not known may be."""
    return not values or any(value not in (None, "", [], {}) for value in values)


def _text(have: Sequence[str], columns: Columns, data: DataParams) -> ColumnReading | None:
    found = _named(have, TEXTS)
    if len(found) != 1 or not _may_hold_text(columns[found[0]]):
        return None
    return ColumnReading(format="text", data=attrs.evolve(data, text_column=found[0]), used=(found[0],))


def _only_text(have: Sequence[str], columns: Columns, data: DataParams) -> ColumnReading | None:
    """A column of any name that is the only one to say something, in words: there is nothing else to train on."""
    telling = [c for c in have if not has_no_meaning(c) or plain(c) in MEANINGFUL]
    if len(telling) != 1:
        return None
    (column,) = telling
    name, values = plain(column), [value for value in columns[column] if value is not None]
    if name in PARTS or name in MEANINGFUL or name.rpartition("_")[2] in LABELS or is_rating(name):
        return None
    if not all(isinstance(value, str) for value in values) or not any(" " in str(value) for value in values):
        return None
    return ColumnReading(format="text", data=attrs.evolve(data, text_column=column), used=(column,))


def _pair(have: Sequence[str], columns: Columns, data: DataParams) -> ColumnReading | None:
    """A question and its answer, each under one of its usual names."""
    have = [c for c in have if not all(map(are_numbers, columns[c] or [None]))]  # token ids of what stands beside them
    answers = _named(have, COMPLETIONS)
    questions = [c for c in _named(have, PROMPTS) if c not in answers]
    if len(questions) > 1:  # where a text comes from, rather than the text
        questions = [
            c for c in questions if plain(c) != "source" and not (plain(c) == "user" and _named(have, ("prompt",)))
        ]
    asked = next(iter(questions), None)
    if (
        asked is None
        or len(answers) != 1
        or not (_may_hold_text(columns[asked]) and _may_hold_text(columns[answers[0]]))
        or _is_chat(columns[asked], data, strict=True)
    ):
        return None
    contexts = [c for c in _named(have, CONTEXTS) if c != asked] if plain(asked) in WITH_CONTEXT else []
    if len(questions) - len([c for c in contexts if c in questions]) != 1:
        return None
    context = contexts[0] if contexts else None
    prompt = (f"{{{asked}}}\n{{{context}}}", f"{{{asked}}}") if context else (f"{{{asked}}}",)
    tools = next(iter(_named(have, TOOLS)), None)
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


def _only_answered(have: Sequence[str], columns: Columns, data: DataParams) -> ColumnReading | None:
    """An answer in words under its usual name, and one other column that says something: what else could be asked?"""
    answers = [c for c in _named(have, COMPLETIONS) if plain(c) not in ("target", "targets")]  # which may be labels
    others = [c for c in have if c not in answers and (not has_no_meaning(c) or plain(c) in (*PROMPTS, *MEANINGFUL))]
    if len(answers) != 1 or len(others) != 1 or not tells(others[0]) or _named(others, (*PROMPTS, *PARTS)):
        return None
    if {*_words(others[0])} & {*COMPLETIONS, *MEANINGFUL, *SYSTEMS}:
        return None
    said, answered = ([v for v in columns[c] if v not in (None, "")] for c in (others[0], answers[0]))
    if not said or not all(isinstance(v, str) for v in (*said, *answered)) or not any(" " in str(v) for v in answered):
        return None
    prompt, completion = (f"{{{others[0]}}}",), (f"{{{answers[0]}}}",)
    changed = attrs.evolve(data, prompt_template=prompt, completion_template=completion)
    return ColumnReading(format="prompt_completion", data=changed, used=(others[0], answers[0]), asked=True)


def _words(column: str) -> list[str]:
    return [word.rstrip("0123456789") for word in plain(column).split("_")]


def _with_system(found: ColumnReading, have: Sequence[str]) -> ColumnReading:
    """Use a system prompt that stands in a column of its own."""
    data = found.data
    named = data.system_column
    if named is not None and named not in have:
        remedy = f"Its columns are: {', '.join(have) or 'none'}."
        raise RequestError(f"has no column {named!r}", field="dataset", remedy=remedy)
    column = named or next(iter(_named(have, SYSTEMS)), None)
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


def _preference(have: Sequence[str], data: DataParams) -> ColumnReading | None:
    """A better and a worse answer to a question that has another name than "prompt"."""
    questions = [column for column in _named(have, PROMPTS) if plain(column) != "source"]
    if data.chosen_column not in have or data.rejected_column not in have or len(questions) != 1:
        return None
    changed = attrs.evolve(data, prompt_template=(f"{{{questions[0]}}}",))
    return ColumnReading(
        format="preference", data=changed, used=(questions[0], data.chosen_column, data.rejected_column)
    )


def _unaccounted(found: ColumnReading, columns: Columns, data: DataParams) -> dict[str, str]:
    """Return the columns that may mean something and are not used, and what each may mean."""
    if data.format != "auto" or not _says_nothing(data):
        return {}
    beside = Beside(format=found.format, used=[c for c in found.used if c in columns], columns=columns)
    rest = [c for c in columns if c not in found.used and c not in data.ignore_columns]
    return {column: why for column in rest if (why := beside.objection(column))}


def _not_accounted_for(rest: Mapping[str, str], found: ColumnReading, field: str) -> RequestError:
    column, why = next(iter(rest.items()))
    more = [repr(other) for other in rest if other != column]
    also = f" (nor may {', '.join(more)} be passed over)" if more else ""
    problem = f"has a column {column!r}, which {why} when the rows are read as {found.format}{also}"
    listed = ", ".join(map(_in_yaml, rest))
    remedy = (
        f"To train without {'them' if more else 'it'}: trainer.data.ignore_columns: [{listed}]; "
        "to use it, name the columns or write a template in trainer.data."
    )
    if found.format == "text" and any(plain(c) in LABELS or plain(c) in ("label", "labels") for c in rest):
        remedy += " To train a classifier: trainer.transformer_type: AutoModelForSequenceClassification."
    return RequestError(problem, field=field, remedy=remedy)


def _in_yaml(column: str) -> str:
    return column if re.fullmatch(r"[A-Za-z_][\w ]*", column) else json.dumps(column)


def _unknown(columns: Columns, data: DataParams, field: str) -> RequestError:
    """The error for columns that are not recognised, with the lines of a job file that would make them train."""
    have = list(columns)
    missing = [[c for c in _needed(name, data) if not _leads_to_a_value(c, have, columns)] for name in _wanted(data)]
    shown = " or ".join(" and ".join(map(repr, names)) for names in missing)
    close = {c: near for names in missing for c in names for near in get_close_matches(c, have, n=1)}
    meant = "".join(f"Did you mean {near!r} instead of {column!r}? " for column, near in close.items())
    meant = "" if _says_nothing(data) else meant  # of names that nobody wrote
    listed = f"Its columns are: {', '.join(have) or 'none'}."
    lines = pair_suggestion(columns) if data.format == "preference" else suggestion(columns)
    return RequestError(f"has no column {shown}", field=field, remedy=f"{meant}{listed}{lines}")
