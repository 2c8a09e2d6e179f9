"""Preference pairs: rows with a better and a worse answer, for Trainer classes that learn from such.

Tunewright validates the pairs and hands them over as they are, as columns `chosen`, `rejected` and, unless both begin with it,
`prompt` (and `tools`): all texts, or all lists of messages; of these, the parts of a content are padding_free to a text. The class
tokenises them, and knows the loss; TRL's trainers do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import datasets
import pyarrow as pa

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.data.columns import messages_of, text_of, tools_of
from tunewright_hf.data.dialects import Message

PREFERENCE = "preference"
_TEXTS = ("prompt", "chosen", "rejected")


def pairs_of(rows: datasets.Dataset, data: DataParams, cache: Path) -> datasets.Dataset:
    """The rows that are pairs: without those that lack an answer, or whose answers are alike.

    Args:
        rows: of a split.
        data: its columns.
        cache: a folder of its own, for files that the result lies in; the dataset's is the user's, and may be read-only.

    Raises:
        RequestError: a column holds neither texts nor messages.
    """
    cache.mkdir(parents=True, exist_ok=True)
    if data.prompt_template:
        file = str(cache / "prompts.arrow")
        rows = rows.map(_with_prompt, fn_kwargs={"data": data}, cache_file_name=file, load_from_cache_file=False)
    there = {name: column for name, column in _columns(data).items() if column in rows.column_names}
    rows = rows.select_columns(list(there.values())).rename_columns({c: name for name, c in there.items() if c != name})
    if any(_is_in_parts(rows, name) for name in _TEXTS if name in there):
        rows = rows.map(_with_texts, cache_file_name=str(cache / "texts.arrow"), load_from_cache_file=False)
    return rows.filter(is_pair, cache_file_name=str(cache / "pairs.arrow"), load_from_cache_file=False)


def pair_of(row: Mapping[str, object], data: DataParams) -> dict[str, object] | None:
    """One row as `pairs_of` makes it; None if it is no pair.

    Raises:
        RequestError: as `pairs_of`.
    """
    written = {**row, **_with_prompt(row, data)} if data.prompt_template else row
    pair = {name: written[column] for name, column in _columns(data).items() if column in written}
    return _with_texts(pair) if is_pair(pair) else None


def _is_in_parts(rows: datasets.Dataset, name: str) -> bool:
    """Whether messages of a column have lists of parts as their content; Arrow has one type for all of them."""
    messages = rows.features.arrow_schema.field(name).type
    of_one = getattr(messages, "value_type", None)
    if not isinstance(of_one, pa.StructType) or of_one.get_field_index("content") < 0:
        return False
    return hasattr(of_one.field("content").type, "value_type")


def _with_texts(row: dict[str, object]) -> dict[str, object]:
    """A row whose messages have texts as their content, as templates of language models want them."""
    found = {name: messages_of(row, name) for name in _TEXTS if isinstance(row.get(name), list)}
    return {**row, **found}


def _columns(data: DataParams) -> dict[str, str]:
    columns = {"prompt": data.prompt_column, "chosen": data.chosen_column, "rejected": data.rejected_column}
    return columns | ({"tools": data.tools_column} if data.tools_column else {})


def _with_prompt(row: Mapping[str, object], data: DataParams) -> dict[str, object]:
    return {data.prompt_column: text_of(row, "prompt", data)}


def is_pair(row: Mapping[str, object]) -> bool:
    """Whether a row has two answers that differ, and a prompt if there is such a column.

    Raises:
        RequestError: a column holds neither a text nor messages, or not all hold the same.
    """
    parts = {name: row[name] for name in _TEXTS if name in row}
    if any(not value for value in parts.values()):
        return False
    kinds = {type(value) for value in parts.values()}
    if kinds == {list}:
        parts = {name: messages_of(row, name) for name in parts}
        tools_of(row, DataParams())
        answers: list[Message] = [parts[name][-1] for name in ("chosen", "rejected")]  # type: ignore[index]
        if any(message["role"] != "assistant" for message in answers):
            raise _no_pair("has an answer that does not end with the assistant's message")
    elif kinds != {str}:
        shown = ", ".join(f"{name} a {type(value).__name__}" for name, value in parts.items())
        raise _no_pair(f"has a row where the columns hold different things: {shown}")
    elif any(not str(value).strip() for value in parts.values()):
        return False
    return parts["chosen"] != parts["rejected"]


def _no_pair(problem: str) -> RequestError:
    remedy = "Make prompt, chosen and rejected all texts, or all lists of messages, or name others in DataParams."
    return RequestError(problem, field="dataset", remedy=remedy)


def shown(value: object) -> str:
    """A text, or messages, for people to read."""
    return "".join(f"\n{m['role']}: {m.get('content')}" for m in value) if isinstance(value, list) else str(value)


def is_conversation(pairs: datasets.Dataset) -> bool:
    """Whether the answers are lists of messages."""
    return not isinstance(pairs.features["chosen"], datasets.Value)
