"""Conversations in the forms that people have, as messages of `role` and `content`. Pure; nothing heavy is imported here.

Recognised are ShareGPT (`from`/`value`), OpenAI (content parts, tool calls, weights), Anthropic (content blocks), Gemini
(`role`/`parts`) and mixtures of them. What a language model cannot read (images, sounds) is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from tunewright.errors import RequestError

Message = dict[str, object]

ROLE_KEYS = ("role", "from", "speaker", "author")
CONTENT_KEYS = ("content", "value", "text", "parts", "message")

TOOL_CALL = "function_call"

ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "function_call": TOOL_CALL,
    "tool_call": TOOL_CALL,
    "tool": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "function": "function",
    "ipython": "ipython",
}
"""A role as people write it, in lower case → the role that chat templates know; `function_call` is a call to make."""

RESULTS = ("tool", "ipython", "function")
"""Roles of what a call returned, which may be an object; templates write it as JSON."""

# Keys of a message or part that hold what a language model cannot read.
_MEDIA = {"image", "images", "image_url", "input_image", "audio", "audios", "input_audio", "video", "videos", "file"}

_PAIR = '[{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]'


def is_conversation(value: object) -> bool:
    """Return whether a value is a list of messages in one of the forms that are recognised."""
    return isinstance(value, list) and all(isinstance(m, Mapping) and _key(m, ROLE_KEYS) for m in value)


def messages_in(value: object, column: str, roles: Mapping[str, str]) -> list[Message]:
    """Return the messages of a conversation.

    Args:
        value: what the column holds, without keys that are None; None is a conversation without messages.
        column: its name, for errors.
        roles: a role as the data has it → "system", "developer", "user", "assistant" or "tool"; counts before `ROLES`.

    Raises:
        RequestError: it is not a list of messages, a role is unknown, or a content cannot be read as text.
    """
    if value is None:
        return []
    if not is_conversation(value):
        problem = f"column {column!r} holds something that is not a list of messages: {str(value)[:80]}"
        raise RequestError(problem, field="dataset", remedy=f"Make each row a list such as {_PAIR}.")
    given = cast("list[Mapping[str, object]]", value)
    return [message for one in given for message in _read(one, column, roles)]


def is_supervised(message: Mapping[str, object]) -> bool:
    """Return whether an assistant's message counts in the loss: OpenAI's `weight: 0` and `train: false` leave it out."""
    return message.get("weight") not in (0, False) and message.get("train") is not False


def _read(given: Mapping[str, object], column: str, roles: Mapping[str, str]) -> Iterator[Message]:
    role_key, content_key = _key(given, ROLE_KEYS), _key(given, CONTENT_KEYS)
    assert role_key is not None  # noqa: S101 - for the type checker: `is_conversation` has looked
    content = given[content_key] if content_key else None
    rest = {k: v for k, v in given.items() if k not in (role_key, content_key)}
    for name in _MEDIA & set(rest):
        if rest[name]:
            raise _media(column, name)
    role = _role(str(given[role_key]), column, roles)
    if role == TOOL_CALL:
        yield {**rest, "role": "assistant", "tool_calls": _calls(content, column)}
    elif isinstance(content, list) and not _is_result(role, content):
        yield from _from_parts(role, content, rest, column)
    else:
        yield {"role": role, **rest, **({} if content_key is None else {"content": _plain(role, content, column)})}


def _key(message: Mapping[str, object], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if message.get(name) is not None), None)


def _role(given: str, column: str, roles: Mapping[str, str]) -> str:
    role = roles.get(given) or ROLES.get(given.strip().lower())
    if role is None:
        problem = f"column {column!r} holds a message of an unknown role: {given!r}"
        remedy = f"Say what it stands for: trainer.data.roles: {{{given}: user}} (or assistant, system, tool)."
        raise RequestError(problem, field="dataset", remedy=remedy)
    return role


def _is_result(role: str, content: Sequence[object]) -> bool:
    """Return whether a list is what a call returned, rather than parts of a message."""
    return role in RESULTS and not all(isinstance(part, Mapping) and _text_of(part) is not None for part in content)


def _plain(role: str, content: object, column: str) -> object:
    if content is None or isinstance(content, str) or role in RESULTS:
        return content
    problem = f"column {column!r} holds a message whose content is not text: {str(content)[:80]}"
    remedy = 'Make it a text, or a list of parts such as {"type": "text", "text": "…"}.'
    raise RequestError(problem, field="dataset", remedy=remedy)


def _from_parts(role: str, parts: Sequence[object], rest: Message, column: str) -> Iterator[Message]:
    """Yield the messages that a list of parts stands for: results of calls become messages of their own."""
    texts: list[str] = []
    message: Message = {"role": role, **rest}
    calls = list(cast("list[object]", rest.get("tool_calls") or []))
    for part in parts:
        text = _text_of(part) if isinstance(part, Mapping) else None
        if text is not None:
            texts.append(text)
        elif isinstance(part, Mapping) and (result := _result_of(part)) is not None:
            yield result
        elif isinstance(part, Mapping) and (call := _call_of(part)) is not None:
            calls.append(call)
        elif isinstance(part, Mapping) and isinstance(thought := part.get("thinking"), str):
            message["reasoning_content"] = f"{message.get('reasoning_content') or ''}{thought}"
        else:
            raise _unreadable(part, column)
    if calls:
        message["tool_calls"] = calls
    if texts or (not calls and not _only_results(parts)):
        message["content"] = "".join(texts)
    if texts or calls or not _only_results(parts):
        yield message


def _only_results(parts: Sequence[object]) -> bool:
    return bool(parts) and all(isinstance(p, Mapping) and _result_of(p) is not None for p in parts)


def _text_of(part: Mapping[str, object]) -> str | None:
    """Return the text of a part: OpenAI's and Anthropic's `{"type": "text", …}`, Gemini's `{"text": …}`."""
    if part.get("type", "text") not in ("text", "input_text", "output_text"):
        return None
    found = next((part[k] for k in ("text", "value", "content") if isinstance(part.get(k), str)), None)
    return cast("str | None", found)


def _call_of(part: Mapping[str, object]) -> Message | None:
    """Return a call: Anthropic's `tool_use`, Gemini's `functionCall`."""
    if part.get("type") == "tool_use":
        call: Message = {
            "type": "function",
            "function": {"name": part.get("name"), "arguments": part.get("input") or {}},
        }
        return {**call, **({"id": part["id"]} if part.get("id") else {})}
    found = part.get("functionCall") or part.get("function_call")
    if isinstance(found, Mapping):
        return {"type": "function", "function": {"name": found.get("name"), "arguments": found.get("args") or {}}}
    return None


def _result_of(part: Mapping[str, object]) -> Message | None:
    """Return what a call returned: Anthropic's `tool_result`, Gemini's `functionResponse`."""
    if part.get("type") == "tool_result":
        content = part.get("content")
        if isinstance(content, list):
            content = "".join(t for p in content if isinstance(p, Mapping) and (t := _text_of(p)) is not None)
        known = {"tool_call_id": part["tool_use_id"]} if part.get("tool_use_id") else {}
        return {"role": "tool", **known, "content": content if content is not None else ""}
    found = part.get("functionResponse") or part.get("function_response")
    if isinstance(found, Mapping):
        return {"role": "tool", "name": found.get("name"), "content": found.get("response") or ""}
    return None


def _calls(said: object, column: str) -> list[object]:
    """Return calls that are written as JSON in a message's text: one object, or a list of them."""
    try:
        read = json.loads(said) if isinstance(said, str) else said
    except ValueError:
        read = None
    calls = read if isinstance(read, list) else [read]
    if not all(isinstance(call, Mapping) and isinstance(call.get("name"), str) for call in calls):
        problem = f"column {column!r} holds a tool call that is not JSON with a name: {str(said)[:80]}"
        remedy = 'Write it as {"name": "…", "arguments": {…}}, or a list of such objects.'
        raise RequestError(problem, field="dataset", remedy=remedy)
    return [{"type": "function", "function": call} for call in calls]


def _unreadable(part: object, column: str) -> RequestError:
    kind = str(part.get("type")) if isinstance(part, Mapping) else type(part).__name__
    if kind in _MEDIA or (isinstance(part, Mapping) and _MEDIA & set(part)):
        return _media(column, kind)
    problem = f"column {column!r} holds a message with a part of an unknown type: {kind!r} in {str(part)[:80]}"
    remedy = 'Make it a text, or a list of parts such as {"type": "text", "text": "…"}.'
    return RequestError(problem, field="dataset", remedy=remedy)


def _media(column: str, what: str) -> RequestError:
    problem = f"column {column!r} holds a message with {what!r}, and only text is trained on"
    return RequestError(problem, field="dataset", remedy="Leave these rows out, or remove that part from them.")
