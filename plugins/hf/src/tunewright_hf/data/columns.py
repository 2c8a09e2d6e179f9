"""What a row of the dataset says: its texts, messages and tools, by the columns and templates of `DataParams`."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import cast

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DataParams, Template

Message = dict[str, object]

# Roles of what a call gave, which may be an object; templates write it as JSON.
_RESULTS = ("tool", "ipython", "function")

_EXAMPLE = '[{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]'


def text_of(row: Mapping[str, object], name: str, data: DataParams) -> str | None:
    """One of a row's texts: "text", "prompt" or "completion"; None if there is nothing to write it of.

    Raises:
        RequestError: a column holds something else than a text, or for a template a text or number.
    """
    templates = _parsed(data, name)
    if not templates:
        return _text(row, getattr(data, f"{name}_column"))
    values = {column: _written(row, column) for column in data.columns(name)}
    if not any(value.strip() for value in values.values()):
        return None
    fitting = (t for t in templates if all(values[column].strip() for column in t.columns))
    return next(fitting, templates[-1]).fill(values)


@functools.lru_cache(maxsize=16)
def _parsed(data: DataParams, name: str) -> tuple[Template, ...]:
    return data.templates(name)


def _written(row: Mapping[str, object], column: str) -> str:
    """A column's value in a template: numbers as Python writes them."""
    value = row[column]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return _text(row, column) or ""


def _text(row: Mapping[str, object], column: str) -> str | None:
    value = row[column]
    if value is None or isinstance(value, str):
        return value
    remedy = f"Make column {column!r} a column of texts, or name another one in DataParams."
    problem = f"column {column!r} holds a {type(value).__name__} where a text is needed: {str(value)[:80]}"
    raise RequestError(problem, field="dataset", remedy=remedy)


def conversation_of(row: Mapping[str, object], form: str, data: DataParams) -> tuple[list[Message], int] | None:
    """A row's messages, and the index of the first that may be learnt; None if its format's columns hold texts.

    Raises:
        RequestError: a column holds something else.
    """
    if form == "prompt_completion":
        return _two_parts(row, data)
    if not (data.prompt_template or data.completion_template):
        return messages_of(row, data.messages_column), 0
    texts = {role: text_of(row, name, data) for role, name in (("user", "prompt"), ("assistant", "completion"))}
    if any(text is None for text in texts.values()):
        return [], 0
    return [{"role": role, "content": text} for role, text in texts.items()], 0


def _two_parts(row: Mapping[str, object], data: DataParams) -> tuple[list[Message], int] | None:
    """Prompt and completion as lists of messages."""
    if data.prompt_template or data.completion_template:
        return None
    columns = [data.prompt_column, data.completion_column]
    given = [row[column] for column in columns if row[column] is not None]
    if not given or not isinstance(given[0], list):
        return None
    if len(given) < len(columns):
        return [], 0
    prompt, completion = (messages_of(row, column) for column in columns)
    return [*prompt, *completion], len(prompt)


def messages_of(row: Mapping[str, object], column: str) -> list[Message]:
    """The messages of a column; none if it holds nothing.

    Raises:
        RequestError: it holds something else.
    """
    value = [] if row[column] is None else row[column]
    if not isinstance(value, list) or not all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in value):
        problem = f"column {column!r} holds something else than messages: {str(value)[:80]}"
        raise RequestError(problem, field="dataset", remedy=f"Make each row a list such as {_EXAMPLE}.")
    found = [_with_read_arguments(cast("Message", without_nones(message))) for message in value]
    return [m if m["role"] in _RESULTS else _with_text(m, column) for m in found]


def _with_text(message: Message, column: str) -> Message:
    """Its content as a text: templates of language models do not join the parts of a list, or write it as Python does."""
    content = message.get("content")
    if content is None or isinstance(content, str):
        return message
    if isinstance(content, list) and all(_is_text(part) for part in content):
        return {**message, "content": "".join(part["text"] for part in content)}
    problem = f"column {column!r} holds a message whose content is no text: {str(content)[:80]}"
    remedy = 'Make it a text, or a list of parts such as {"type": "text", "text": "…"}; others are not learnt from.'
    raise RequestError(problem, field="dataset", remedy=remedy)


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str)


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
