"""Preferences: rows with a better and a worse answer, or one answer and its label, for Trainer classes such as TRL's.

Tunewright validates the pairs and passes them on, in columns `chosen`, `rejected` and, unless both begin with it, `prompt`
(and `tools`). They are either all texts or all lists of messages; a message's content in parts is joined to one text. The
Trainer class tokenises the pairs and computes the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import datasets
import pyarrow as pa

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.data.rows.columns import messages_of, text_of, tools_of
from tunewright_hf.data.rows.dialects import Message
from tunewright_hf.data.samples.bad_rows import NOTHING, Dropped, drop, refuse_or_drop
from tunewright_hf.data.samples.unpaired import is_unpaired, labelled, unpaired_columns

PREFERENCE = "preference"
NO_PAIR = f"{NOTHING}, because there are no two different answers, or no prompt"
_TEXTS = ("prompt", "chosen", "rejected")


def pairs_of(rows: datasets.Dataset, data: DataParams, cache: Path) -> tuple[datasets.Dataset, Dropped]:
    """Return the rows that are pairs, and the rows that were dropped: they lack an answer, or have two equal answers.

    Args:
        rows: the rows of a split.
        data: the names of the columns.
        cache: an empty folder for the files that back the result; the dataset's own folder may be read-only.

    Raises:
        BadRowError: a column holds neither texts nor messages, and such rows are not to be dropped.
    """
    cache.mkdir(parents=True, exist_ok=True)
    dropped: Dropped = {}
    unpaired = is_unpaired(rows.column_names, data)
    keep = {"data": data, "dropped": dropped}
    file = str(cache / "pairs.arrow")
    rows = rows.filter(
        _is_kept,
        with_indices=True,
        fn_kwargs=keep,
        cache_file_name=file,
        new_fingerprint="pairs",
        load_from_cache_file=False,
    )
    if data.prompt_template:
        file = str(cache / "prompts.arrow")
        rows = rows.map(_with_prompt, fn_kwargs={"data": data}, cache_file_name=file, load_from_cache_file=False)
    wanted = unpaired_columns(data) if unpaired else _columns(data)
    there = {name: column for name, column in wanted.items() if column in rows.column_names}
    rows = rows.select_columns(list(there.values())).rename_columns({c: name for name, c in there.items() if c != name})
    as_said = {"fn_kwargs": {"roles": data.roles}, "load_from_cache_file": False}
    if unpaired:
        features = datasets.Features({**rows.features, "label": datasets.Value("bool")})
        return rows.map(labelled, features=features, cache_file_name=str(cache / "labelled.arrow"), **as_said), dropped
    if _is_text(rows, "prompt") and not _is_text(rows, "chosen"):
        rows = rows.map(_with_messages, cache_file_name=str(cache / "messages.arrow"), load_from_cache_file=False)
    if any(_is_read(rows, name, data) for name in _TEXTS if name in there):
        rows = rows.map(_with_texts, cache_file_name=str(cache / "texts.arrow"), **as_said)
    return rows, dropped


def _is_kept(row: Mapping[str, object], number: int, data: DataParams, dropped: Dropped) -> bool:
    try:
        if pair_of(row, data) is not None:
            return True
        drop(dropped, NO_PAIR, number)
    except RequestError as error:
        refuse_or_drop(error, number, data, dropped)
    return False


def pair_of(row: Mapping[str, object], data: DataParams) -> dict[str, object] | None:
    """Return one row as a pair; None if it is not one.

    Raises:
        RequestError: as `pairs_of`.
    """
    written = {**row, **_with_prompt(row, data)} if data.prompt_template else row
    if is_unpaired(written, data):
        return labelled({name: written.get(column) for name, column in unpaired_columns(data).items()}, data.roles)
    pair = {name: written[column] for name, column in _columns(data).items() if column in written}
    pair = _with_messages(pair)
    return _with_texts(pair, data.roles) if is_pair(pair, data.roles) else None


def _is_text(rows: datasets.Dataset, name: str) -> bool:
    return name in rows.column_names and isinstance(rows.features[name], datasets.Value)


def _with_messages(row: dict[str, object]) -> dict[str, object]:
    """Return a row of answers that are messages with a prompt that is one too, though it is written as a text.

    Answers that begin with the prompt lose it there: it would be said twice.
    """
    prompt, answers = row.get("prompt"), {name: row.get(name) for name in ("chosen", "rejected")}
    if not isinstance(prompt, str) or not all(isinstance(messages, list) for messages in answers.values()):
        return row
    asked = {"role": "user", "content": prompt}
    if all(_begins_with(messages, prompt) for messages in answers.values()):
        return {**row, "prompt": [asked], **{name: messages[1:] for name, messages in answers.items()}}  # type: ignore[index]
    return {**row, "prompt": [asked]}


def _begins_with(messages: object, prompt: str) -> bool:
    first = messages[0] if isinstance(messages, list) and messages else None
    return isinstance(first, Mapping) and str(first.get("content") or "").strip() == prompt.strip()


def _is_read(rows: datasets.Dataset, name: str, data: DataParams) -> bool:
    """Return whether the messages of a column are not as chat templates expect them; Arrow has one type for all rows."""
    messages = rows.features.arrow_schema.field(name).type
    of_one = getattr(messages, "value_type", None)
    if not isinstance(of_one, pa.StructType):
        return False
    if data.roles or min(of_one.get_field_index(key) for key in ("role", "content")) < 0:
        return True
    return hasattr(of_one.field("content").type, "value_type")


def _with_texts(row: dict[str, object], roles: Mapping[str, str]) -> dict[str, object]:
    """Return a row whose messages have the roles and texts that chat templates expect."""
    found = {name: messages_of(row, name, roles) for name in _TEXTS if isinstance(row.get(name), list)}
    return {**row, **found}


def _columns(data: DataParams) -> dict[str, str]:
    columns = {"prompt": data.prompt_column, "chosen": data.chosen_column, "rejected": data.rejected_column}
    return columns | ({"tools": data.tools_column} if data.tools_column else {})


def _with_prompt(row: Mapping[str, object], data: DataParams) -> dict[str, object]:
    return {data.prompt_column: text_of(row, "prompt", data)}


def is_pair(row: Mapping[str, object], roles: Mapping[str, str] | None = None) -> bool:
    """Return whether a row has two different answers, and a prompt if there is such a column.

    Args:
        row: the row.
        roles: what the data's own role names stand for.

    Raises:
        RequestError: a column holds neither a text nor messages, or the columns hold different types.
    """
    parts = {name: row[name] for name in _TEXTS if name in row}
    if any(not value for value in parts.values()):
        return False
    kinds = {type(value) for value in parts.values()}
    if kinds == {list}:
        parts = {name: messages_of(row, name, roles) for name in parts}
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
    """Return a text or messages in readable form."""
    return "".join(f"\n{m['role']}: {m.get('content')}" for m in value) if isinstance(value, list) else str(value)


def is_conversation(pairs: datasets.Dataset) -> bool:
    """Return whether the answers are lists of messages."""
    answers = "chosen" if "chosen" in pairs.features else "completion"
    return not isinstance(pairs.features[answers], datasets.Value)
