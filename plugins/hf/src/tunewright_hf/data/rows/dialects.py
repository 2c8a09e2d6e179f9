"""Conversations in the forms that people have, as messages of `role` and `content`. Pure; nothing heavy is imported here.

Recognised are ShareGPT (`from`/`value`), OpenAI (content parts, tool calls, weights), Anthropic (content blocks), Gemini
(`role`/`parts`) and mixtures of them. What a language model cannot read (images, sounds) is refused by name.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from tunewright.errors import RequestError

Message = dict[str, object]

ROLE_KEYS = ("role", "from", "speaker", "author", "sender")
CONTENT_KEYS = ("content", "value", "text", "parts", "message", "utterance", "body")

_ASKED = ("human", "user", "input", "question", "prompt", "instruction", "query", "q")
_ANSWERED = ("assistant", "gpt", "bot", "output", "answer", "response", "completion", "model", "a")
"""Keys of one round of a conversation, and of its two messages."""

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
    "function response": "tool",
    "tool response": "tool",
    "instruction": "user",
    "response": "assistant",
    "patient": "user",
    "doctor": "assistant",
    "customer": "user",
    "agent": "assistant",
    "问": "user",
    "答": "assistant",
    "用户": "user",
    "助手": "assistant",
}
"""A role as people write it, in lower case → the role that chat templates know; `function_call` is a call to make."""

_IN_MESSAGES = {"q": "user", "question": "user", "a": "assistant", "answer": "assistant"}
"""Roles of messages; at the beginning of a line they may be a name, or a list."""

RESULTS = ("tool", "ipython", "function")
"""Roles of what a call returned, which may be an object; templates write it as JSON."""

# Keys of a message or part that hold what a language model cannot read.
_MEDIA = {"image", "images", "image_url", "input_image", "audio", "audios", "input_audio", "video", "videos", "file"}

_PAIR = '[{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]'


def is_conversation(value: object) -> bool:
    """Return whether a value is a list of messages in one of the forms that are recognised."""
    return isinstance(value, list) and all(isinstance(m, Mapping) and _speaker(m) for m in value)


def has_roles(value: object) -> bool:
    """Return whether a value is a list of messages, each with a role, or who says it, and a content."""
    if not isinstance(value, list) or not value or not is_conversation(value):
        return False
    return all(_key(message, ("role", "from")) and _key(message, CONTENT_KEYS) for message in value)


def _speaker(message: Mapping[str, object]) -> str | None:
    """Return who says a message: its role, or a name; None if it does not say."""
    said = message[key] if (key := _key(message, ROLE_KEYS)) else None
    if isinstance(said, Mapping):
        said = said.get("role") or said.get("name")
    return said if isinstance(said, str) else None


def looks_like_chat(value: object, roles: Mapping[str, str]) -> bool:
    """Return whether a value can be read as a conversation."""
    found = _as_list(value, roles)
    return bool(found) and is_conversation(found)


def speakers(value: object, roles: Mapping[str, str]) -> Iterator[str]:
    """Yield who says each message of a conversation, as the data has it; nothing for another value."""
    found = _as_list(value, roles)
    if isinstance(found, list) and is_conversation(found):
        yield from (str(_speaker(message)) for message in found)


def messages_in(value: object, column: str, roles: Mapping[str, str]) -> list[Message]:
    """Return the messages of a conversation.

    Args:
        value: what the column holds, without keys that are None; None is a conversation without messages.
        column: its name, for errors.
        roles: a role as the data has it → "system", "developer", "user", "assistant" or "tool"; counts before `ROLES`.

    Raises:
        RequestError: it is not a list of messages, a role is unknown, or a content cannot be read as text.
    """
    if value is None or value in ("", []):
        return []
    read = _as_list(value, roles)
    if not is_conversation(read):
        problem = f"column {column!r} holds something that is not a list of messages: {str(value)[:80]}"
        raise RequestError(problem, field="dataset", remedy=f"Make each row a list such as {_PAIR}.")
    given = cast("list[Mapping[str, object]]", read)
    _check_roles(given, column, roles)
    return [message for one in given for message in _read(one, column, roles)]


def _as_list(value: object, roles: Mapping[str, str]) -> object:
    """Return the messages of a conversation that is written as JSON, as a text with names of roles, in rounds, or in turns."""
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except ValueError:
                return value
        else:
            return _marked(value, roles) or value
    if not isinstance(value, list) or not value:
        return value
    if all(isinstance(said, str) for said in value):
        return _turns(cast("list[str]", value), roles)
    rounds = [_round(one) for one in value]
    return value if not all(rounds) else [message for one in rounds for message in one or ()]


def _turns(said: Sequence[str], roles: Mapping[str, str]) -> object:
    """Return the messages of texts that are said in turns, by the user first."""
    marked = [_marked(text, roles) for text in said]
    if all(found and len(found) == 1 for found in marked):
        return [message for found in marked for message in found or ()]
    if len(said) < 2:  # noqa: PLR2004 - a question and its answer
        return said
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]


def _round(value: object) -> list[Message] | None:
    """Return the two messages of an object with a question and its answer; None for another object."""
    if not isinstance(value, Mapping) or _key(value, ROLE_KEYS):
        return None
    asked, answered = ([name for name in value if str(name).lower() in names] for names in (_ASKED, _ANSWERED))
    if len(asked) != 1 or len(answered) != 1 or len(value) != 2:  # noqa: PLR2004 - and nothing else
        return None
    return [{"role": "user", "content": value[asked[0]]}, {"role": "assistant", "content": value[answered[0]]}]


def _marked(text: str, roles: Mapping[str, str]) -> list[Message] | None:
    """Return the messages of a text in which a name of a role and a colon begin each; None for another text."""
    pieces = _marker(tuple(roles)).split(text.strip())
    if len(pieces) < 3 or pieces[0].strip():  # noqa: PLR2004 - what stands before the first role, a role, and what it says
        return None
    said = zip(pieces[1::2], pieces[2::2], strict=True)
    return [{"role": role, "content": _END.sub("", content).strip()} for role, content in said]


_END = re.compile(r"\s*(?:<\|endoftext\|>|</s>|<\|im_end\|>)\s*\Z")


@functools.lru_cache(maxsize=16)
def _marker(own: tuple[str, ...]) -> re.Pattern[str]:
    names = "|".join(re.escape(name) for name in sorted((*own, *ROLES), key=len, reverse=True))
    return re.compile(rf"^[ \t]*(?:#{{1,3}}[ \t]*)?({names})[ \t]*[:\uff1a][ \t]*", re.IGNORECASE | re.MULTILINE)


def system_text(value: object) -> str | None:
    """Return a system prompt: a text, or a list of parts, or Gemini's object of parts; None for anything else."""
    if isinstance(value, Mapping):
        value = value.get("parts") or value.get("content") or value.get("text")
    if isinstance(value, list):
        parts = [_text_of(part) for part in value if isinstance(part, Mapping)]
        return "".join(part or "" for part in parts) if len(parts) == len(value) else None
    if not isinstance(value, str):
        return None
    marked = _marked(value, {})
    return str(marked[0]["content"]) if marked and len(marked) == 1 and marked[0]["role"] == "SYSTEM" else value


def _check_roles(given: Sequence[Mapping[str, object]], column: str, roles: Mapping[str, str]) -> None:
    """Refuse roles that are unknown, all of them at once.

    Raises:
        RequestError: there are some.
    """
    names = list(dict.fromkeys(str(_speaker(one)) for one in given))
    unknown = [name for name in names if _role(name, roles) is None]
    if not unknown:
        return
    stand_for = ["user"] * len(unknown)
    if not any(_role(name, roles) == "assistant" for name in names):
        stand_for[-1] = "assistant"
    mapping = json.dumps(dict(zip(unknown, stand_for, strict=True)), ensure_ascii=False)
    shown = ", ".join(map(repr, unknown))
    problem = f"column {column!r} holds a message of an unknown role: {shown}"
    remedy = f"Say what it stands for, for example: trainer.data.roles: {mapping} (or system, tool)."
    raise RequestError(problem, field="dataset", remedy=remedy)


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
    role = cast("str", _role(str(_speaker(given)), roles))
    if isinstance(call := rest.pop("function_call", None), Mapping):  # as OpenAI wrote it before `tool_calls`
        rest["tool_calls"] = _calls(call, column)
    if role == TOOL_CALL:
        yield {**rest, "role": "assistant", "tool_calls": _calls(content, column)}
    elif isinstance(content, list) and not _is_result(role, content):
        yield from _from_parts(role, content, rest, column)
    else:
        yield {"role": role, **rest, **({} if content_key is None else {"content": _plain(role, content, column)})}


def _key(message: Mapping[str, object], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if message.get(name) is not None), None)


def _role(given: str, roles: Mapping[str, str]) -> str | None:
    name = given.strip().lower()
    own = roles.get(given) or next((role for said, role in roles.items() if said.strip().lower() == name), None)
    return own or ROLES.get(name) or _IN_MESSAGES.get(name)


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
