"""What a row of the dataset says: its texts, messages and tools, by the columns and templates of `DataParams`."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import cast

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DataParams, Template
from tunewright_hf.data.rows.dialects import Message, messages_in, system_text
from tunewright_hf.data.rows.suggestions import path_lines

_ROLES = ("user", "assistant")
_PAIR = len(_ROLES)


def text_of(row: Mapping[str, object], name: str, data: DataParams) -> str | None:
    """One of a row's texts: "text", "prompt" or "completion"; None if there is nothing to write it of.

    Raises:
        RequestError: a column holds something else than a text, or for a template a text or number.
    """
    templates = _parsed(data, name)
    if not templates:
        return _text(row, getattr(data, f"{name}_column"))
    values = {column: _written(row, column, data) for column in data.columns_of(name)}
    if not any(value.strip() for value in values.values()):
        return None
    fitting = (t for t in templates if all(values[column].strip() for column in t.columns))
    return next(fitting, templates[-1]).fill(values)


@functools.lru_cache(maxsize=16)
def _parsed(data: DataParams, name: str) -> tuple[Template, ...]:
    return data.templates(name)


def _written(row: Mapping[str, object], column: str, data: DataParams) -> str:
    """A column's value in a template, or what a path leads to: numbers as Python writes them."""
    value = value_at(row, column)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    text = _only_text(value)
    return _checked(text if text is None or isinstance(text, str) else value, column, data) or ""


def value_at(row: Mapping[str, object], path: str) -> object:
    """Return the value of a column, or the one that a path leads to: `answers.text.0`; None if there is none."""
    if path in row:
        return row[path]
    value: object = row
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal():
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def _only_text(value: object) -> object:
    """Return the one text of a list, or of an answer as SQuAD writes it; anything else as it is."""
    if isinstance(value, Mapping) and isinstance(found := value.get("text"), str | list):
        several = _starts_of_answers(value) and len(found) > 1
        return _only_text(found[:1] if several else found)
    if isinstance(value, Mapping) and isinstance(value.get("value"), str):
        return value["value"]
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        texts = list(dict.fromkeys(value))
        return value if len(texts) > 1 else next(iter(texts), None)
    return value


def _starts_of_answers(value: Mapping[str, object]) -> bool:
    """Whether a value is answers as SQuAD writes them: by several people, to be compared with; all train on the first."""
    texts, starts = value.get("text"), value.get("answer_start")
    return isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)


def further_answers(row: Mapping[str, object], data: DataParams) -> int:
    """Return how many other answers a row has than the one that is trained on."""
    names = data.columns_of("completion") if data.completion_template else ()
    values = [value for name in names if isinstance(value := row.get(name), Mapping)]
    texts = [cast("list[object]", value["text"]) for value in values if _starts_of_answers(value)]
    return sum(len({str(text) for text in answers}) - 1 for answers in texts if answers)


def _text(row: Mapping[str, object], column: str) -> str | None:
    return _checked(row.get(column), column, None)  # a row of a stream may lack what others have


def _checked(value: object, column: str, data: DataParams | None) -> str | None:
    """Return a text, or None.

    Raises:
        RequestError: it is something else.
    """
    if value is None or isinstance(value, str):
        return value
    remedy = f"Make column {column!r} a column of texts, or name another one in DataParams."
    if lines := path_lines(column, value, data):
        remedy = f"Say where the text is. Write, for example, in the job file:{lines}"
    elif isinstance(value, bool):
        remedy = f"Write into column {column!r} of the files what the model is to read or say."
    problem = f"column {column!r} holds a {type(value).__name__} where a text is needed: {str(value)[:80]}"
    raise RequestError(problem, field="dataset", remedy=remedy)


def conversation_of(row: Mapping[str, object], form: str, data: DataParams) -> tuple[list[Message], int] | None:
    """Return a row's messages, and the index of the first that may be supervised; None if its columns hold texts.

    Raises:
        RequestError: a column holds something else.
    """
    found = _messages_of_row(row, form, data)
    if found is None or not data.system_column:
        return found
    value = row.get(data.system_column)
    said = value if value is None else system_text(without_nones(value))
    if said is None and value is not None:
        _text(row, data.system_column)
    return found if not (said or "").strip() else ([{"role": "system", "content": said}, *found[0]], found[1] + 1)


def _messages_of_row(row: Mapping[str, object], form: str, data: DataParams) -> tuple[list[Message], int] | None:
    if form == "prompt_completion":
        return _two_parts(row, data)
    if not (data.prompt_template or data.completion_template):
        return messages_of(row, data.messages_column, data.roles), 0
    asked, answered = (text_of(row, name, data) for name in ("prompt", "completion"))
    if asked is None or answered is None:
        return [], 0
    earlier = _earlier_turns(row, data.history_column) if data.history_column else []
    answer = _as_calls(answered, tools_of(row, data)) or {"role": "assistant", "content": answered}
    return [*earlier, {"role": "user", "content": asked}, answer], len(earlier)


def _earlier_turns(row: Mapping[str, object], column: str) -> list[Message]:
    """Return the messages of a column of earlier turns, each a pair of a question and its answer.

    Raises:
        RequestError: it holds something else.
    """
    value = row.get(column) or []
    if not isinstance(value, list) or not all(isinstance(p, list | tuple) and len(p) == _PAIR for p in value):
        problem = f"column {column!r} holds something that is not a list of pairs: {str(value)[:80]}"
        remedy = f'Write [["question", "answer"], …], or leave it out: trainer.data.ignore_columns: [{column}]'
        raise RequestError(problem, field="dataset", remedy=remedy)
    return [{"role": role, "content": str(said)} for pair in value for role, said in zip(_ROLES, pair, strict=True)]


def _as_calls(answer: str, tools: Sequence[object] | None) -> Message | None:
    """Return the message for an answer that is written as calls of the row's tools; None if it is a text."""
    names = {name for tool in tools or () if (name := _name_of(tool))}
    try:
        read = json.loads(answer) if names else None
    except ValueError:
        return None
    calls = read if isinstance(read, list) else [read]
    if not calls or not all(isinstance(c, dict) and c.get("name") in names for c in calls):
        return None
    return {"role": "assistant", "tool_calls": [{"type": "function", "function": call} for call in calls]}


def _name_of(tool: object) -> str | None:
    described = tool.get("function", tool) if isinstance(tool, dict) else None
    name = described.get("name") if isinstance(described, dict) else None
    return name if isinstance(name, str) else None


def _two_parts(row: Mapping[str, object], data: DataParams) -> tuple[list[Message], int] | None:
    """Return prompt and completion as lists of messages; None if they are texts."""
    if data.prompt_template or data.completion_template:
        return None
    columns = [data.prompt_column, data.completion_column]
    given = [row[column] for column in columns if row.get(column) is not None]
    if not given or not isinstance(given[0], list):
        return None
    if len(given) < len(columns):
        return [], 0
    prompt, completion = (messages_of(row, column, data.roles) for column in columns)
    return [*prompt, *completion], len(prompt)


def messages_of(row: Mapping[str, object], column: str, roles: Mapping[str, str] | None = None) -> list[Message]:
    """Return the messages of a column, in whichever known form they are written; none if it holds nothing.

    Raises:
        RequestError: it holds something else.
    """
    found = messages_in(without_nones(row.get(column)), column, roles or {})
    return [_with_read_arguments(message) for message in found]


def without_nones(value: object) -> object:
    """Without keys that are None: Arrow gives every object of a column the keys of all of them."""
    if isinstance(value, dict):
        return {k: without_nones(v) for k, v in value.items() if v is not None}
    return [without_nones(v) for v in value] if isinstance(value, list) else value


def _with_read_arguments(message: Message) -> Message:
    """Arguments of tool calls as objects: templates write them as JSON, and would write a text's quotes, too."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [_with_object(call) for call in calls]}


def _with_object(call: object) -> object:
    if not isinstance(call, dict):
        return call
    if isinstance(call.get("function"), dict):
        return {**call, "function": _with_object(call["function"])}
    read = _read(call.get("arguments"))
    return {**call, "arguments": read} if isinstance(read, dict) else call


def _read(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def tools_of(row: Mapping[str, object], data: DataParams) -> Sequence[object] | None:
    """A row's tools, which may be written as JSON; None if it has none.

    Raises:
        RequestError: the column holds something else.
    """
    value = without_nones(_read(row.get(data.tools_column))) if data.tools_column else None
    if not value:
        return None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        problem = f"column {data.tools_column!r} holds something else than tools: {str(value)[:80]}"
        remedy = "Make it a list of JSON schemas of functions, or give DataParams(tools_column=None)."
        raise RequestError(problem, field="dataset", remedy=remedy)
    return value
