"""A JSON file that is one object, with its rows under one of its keys: `{"data": [{…}, …]}`.

The same could be a single row with a list in it, such as a conversation. So only what is inside tells them apart.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from tunewright_hf.data.reading.bad_data import BadFileError
from tunewright_hf.data.reading.compression import open_text, stamp
from tunewright_hf.data.reading.json_stream import JsonStream

CONVERSATIONS = (
    *("messages", "conversations", "conversation", "chat", "dialog", "turns", "contents"),
    *("dialogue", "chat_history", "dialogs", "chats", "message_list", "utterances"),
)
"""Keys under which a list is a conversation, and not rows."""

_HOLDERS = {
    "data",
    "rows",
    "examples",
    "samples",
    "records",
    "items",
    "entries",
    "dataset",
    "train",
    "validation",
    "test",
}
"""Keys that hold rows, even if others stand beside them."""

_LINES = {".jsonl", ".ndjson"}  # a line is a row, whatever is in it
_ROLES = ("role", "from")  # keys of a message, which no row has beside all that it says
_ROWS, _EMPTY, _MESSAGES, _PLAIN, _NUMBERED = "rows", "empty", "messages", "plain", "numbered"


def key_of_rows(file: Path, encoding: str | None = None) -> str | None:
    """Return the key that the rows of a JSON file are under; None for JSON lines, a list, and a file that is broken.

    Raises:
        BadFileError: the file is one object with rows in it, and more beside them, or with a column under each key.
    """
    return _key_of_rows(file, encoding, stamp(file))


@functools.lru_cache(maxsize=256)
def _key_of_rows(file: Path, encoding: str | None, _stamp: str) -> str | None:
    if set(file.suffixes) & _LINES:
        return None
    try:
        with open_text(file, encoding) as text:
            kinds = _kinds(JsonStream(file, text))
    except (BadFileError, UnicodeError):
        return None  # whoever reads the rows names the line
    if len(kinds) == 1:
        ((key, kind),) = kinds.items()
        if kind == _ROWS or (kind == _EMPTY and key.lower() in _HOLDERS):
            return None if key.lower() in CONVERSATIONS else key
    holding = [key for key, kind in kinds.items() if kind == _ROWS]
    if holding and _MESSAGES not in kinds.values() and all(key.lower() in _HOLDERS for key in holding):
        beside = ", ".join(repr(key) for key in kinds if key != holding[0])
        problem = f"is one object that holds rows under {holding[0]!r}, and has {beside} beside them"
        alone = f"jq .{holding[0]} {file.name} > {holding[0]}.json"
        remedy = (
            f"Write the rows into a file of their own: {alone}. Or, if the object is a row, write brackets around it."
        )
        raise BadFileError(file, problem, remedy=remedy)
    if set(kinds.values()) == {_NUMBERED}:
        problem = "is one object with a column under each key, as DataFrame.to_json() writes it"
        remedy = 'Write one object for each row: to_json("rows.jsonl", orient="records", lines=True).'
        raise BadFileError(file, problem, remedy=remedy)
    return None


def _kinds(stream: JsonStream) -> Mapping[str, str]:
    """Return what stands under each key of the only object in a file; nothing if the file is not one object.

    Raises:
        BadFileError: it is not JSON.
    """
    if stream.next() != "{":
        return {}
    stream.at += 1
    kinds: dict[str, str] = {}
    while stream.next() == '"':
        _, key = stream.value()
        if stream.next() != ":":
            return {}
        stream.at += 1
        if key in kinds:
            return {}
        kinds[str(key)] = _kind(stream)
        if stream.next() == ",":
            stream.at += 1
    closed = stream.next() == "}"
    stream.at += 1
    return kinds if closed and not stream.next() else {}


def _kind(stream: JsonStream) -> str:
    """Pass over a value, and return what it is; the elements of a list are not kept."""
    if stream.next() != "[":
        _, value = stream.value()
        numbered = isinstance(value, dict) and bool(value) and all(str(key).isdecimal() for key in value)
        return _NUMBERED if numbered else _PLAIN
    kind = _EMPTY
    for _, value in stream.elements():
        if not isinstance(value, dict):
            kind = _PLAIN if kind != _MESSAGES else kind
        elif any(value.get(role) is not None for role in _ROLES):
            kind = _MESSAGES
        elif kind == _EMPTY:
            kind = _ROWS
    return kind
