"""What a chat template does, found out by rendering small conversations: where it writes thoughts, and how it ends turns.

A template is a program, so its text does not tell. What is found is kept for as long as the tokenizer has that template.
"""

from __future__ import annotations

import functools
import os.path
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import attrs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_Message = Mapping[str, object]

# Words that no template writes by itself.
ASKED, THOUGHT, ANSWER, CALLED = "Questionqx?", "Reasonqx.", "Answerqx.", "callqx"
_QUESTION: _Message = {"role": "user", "content": ASKED}
_SAID: _Message = {"role": "assistant", "content": ANSWER}
_CALL: _Message = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "id": "callqx000", "function": {"name": CALLED, "arguments": {"a": "b"}}}],
}
_RETURNED: _Message = {"role": "tool", "name": CALLED, "tool_call_id": "callqx000", "content": "Resultqx."}
_TOOL = {
    "type": "function",
    "function": {
        "name": CALLED,
        "description": "A function.",
        "parameters": {"type": "object", "properties": {"a": {"type": "string", "description": "A text."}}},
    },
}

KEYS = ("reasoning_content", "reasoning", "thinking")
"""Keys of a message that hold thoughts; templates read one of them, if any."""

PARTS, INLINE = "parts", "inline"
_DUMPED = re.compile(r"""['"]thinking['"]""")


def rendered(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[_Message], template: str, **more: object
) -> str | None:
    """Return a conversation as a template writes it; None if the template refuses it."""
    from jinja2.exceptions import TemplateError

    given = [dict(m) for m in messages]
    try:
        text = tokenizer.apply_chat_template(given, chat_template=template, tokenize=False, **more)
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError):  # whatever its expressions do
        return None
    return cast("str", text)


def with_thought(message: _Message, form: str, thought: str, answer: str) -> dict[str, object]:
    """Return an assistant's message with a thought and an answer.

    Args:
        message: the message.
        form: one of `KEYS`, "parts" (a content of parts, as Mistral's) or "inline" (between think tags in the content).
        thought: the thought.
        answer: the text behind it.
    """
    bare = {key: value for key, value in message.items() if key not in KEYS}
    if form == INLINE:
        return {**bare, "content": f"<think>\n{thought}\n</think>\n\n{answer}"}
    if form == PARTS:
        parts = [{"type": "thinking", "thinking": thought}, {"type": "text", "text": answer}]
        return {**bare, "content": [part for part in parts if part.get("text") != ""]}
    return {**bare, "content": answer, form: thought}


@attrs.frozen(kw_only=True)
class ThoughtForms:
    """In which forms a template writes the thoughts of the last answer.

    Attributes:
        native: the forms that it has a place for: keys of a message, or "parts".
        inline: whether it keeps think tags in a content.
        reads_inline: whether it takes thoughts from think tags in a content, and writes them where those of a key go.
    """

    native: tuple[str, ...]
    inline: bool
    reads_inline: bool


@functools.lru_cache(maxsize=8)
def thought_forms(tokenizer: PreTrainedTokenizerBase, template: str) -> ThoughtForms:
    """Return the forms in which a template writes thoughts."""
    found: dict[str, str] = {}
    for form in (*KEYS, PARTS, INLINE):
        text = rendered(tokenizer, [_QUESTION, with_thought(_SAID, form, THOUGHT, ANSWER)], template)
        # A template that expects a text would write a list of parts as Python or JSON does.
        if text is not None and THOUGHT in text and ANSWER in text and not _DUMPED.search(text):
            found[form] = text
    native = tuple(form for form in (*KEYS, PARTS) if form in found)
    reads = INLINE in found and any("".join(found[form].split()) == "".join(found[INLINE].split()) for form in native)
    return ThoughtForms(native=native, inline=INLINE in found, reads_inline=reads)


@attrs.frozen(kw_only=True)
class TurnEnds:
    """How a template ends an assistant's turns.

    Attributes:
        known: whether the template wrote the conversations that show it.
        last: ids of the control tokens that it writes behind the last answer, in their order.
        call: the control token at the end of a call, if there is one.
        next_answer: the control token behind an answer that another question follows: the answer's own end, or what begins
            the question.
        next_call: the control token behind a call that its result follows, likewise.
        tail: the text behind the last answer.
        unprompted: the text that a prompt ends with and an answer without thoughts does not begin with.
    """

    known: bool = False
    last: tuple[int, ...] = ()
    call: int | None = None
    next_answer: int | None = None
    next_call: int | None = None
    tail: str = ""
    unprompted: str = ""


@functools.lru_cache(maxsize=8)
def turn_ends(tokenizer: PreTrainedTokenizerBase, template: str) -> TurnEnds:
    """Return how a template ends turns; without ends if it refuses the simplest of conversations."""
    whole = rendered(tokenizer, [_QUESTION, _SAID], template)
    if whole is None or ANSWER not in whole:
        return TurnEnds()
    tail = whole.rpartition(ANSWER)[2]
    continued = rendered(tokenizer, [_QUESTION, _SAID, _QUESTION], template) or ""
    called = rendered(tokenizer, [_QUESTION, _CALL], template, tools=[_TOOL]) or ""
    called = called if CALLED in called.rpartition(ASKED)[2] else ""  # else the template does not write calls
    returned = rendered(tokenizer, [_QUESTION, _CALL, _RETURNED], template, tools=[_TOOL]) or ""
    prompt = rendered(tokenizer, [_QUESTION], template, add_generation_prompt=True) or ""
    controls = added_tokens(tokenizer)
    last = [t for t in _ids(tokenizer, tail) if t in controls]
    at_call = [t for t in _ids(tokenizer, called.rpartition(CALLED)[2]) if not _is_blank(tokenizer, t)]
    ends_call = at_call[-1] if at_call and at_call[-1] in _special(tokenizer) else None
    return TurnEnds(
        known=True,
        last=tuple(last),
        call=ends_call,
        next_answer=_first(tokenizer, continued.rpartition(ANSWER)[2]),
        next_call=_first(tokenizer, returned.removeprefix(called.rstrip())) if called else None,
        tail=tail,
        unprompted=_unprompted(prompt, whole),
    )


def control_tokens(tokenizer: PreTrainedTokenizerBase, template: str) -> list[int]:
    """Return the ids of the control tokens that a template writes in a conversation of one answer, each once."""
    found = _ids(tokenizer, rendered(tokenizer, [_QUESTION, _SAID], template) or "")
    return list(dict.fromkeys(token for token in found if token in added_tokens(tokenizer)))


def _unprompted(prompt: str, whole: str) -> str:
    same = len(os.path.commonprefix([prompt, whole]))  # noqa: RUF071 - texts, and no paths
    return prompt[same:]


def _first(tokenizer: PreTrainedTokenizerBase, text: str) -> int | None:
    """Return the control token that a text begins with."""
    ids = _ids(tokenizer, text.lstrip())
    return ids[0] if ids and ids[0] in added_tokens(tokenizer) else None


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _is_blank(tokenizer: PreTrainedTokenizerBase, token: int) -> bool:
    return not tokenizer.decode([token]).strip()


@functools.lru_cache(maxsize=4)
def added_tokens(tokenizer: PreTrainedTokenizerBase) -> Collection[int]:
    """Return the ids of tokens that a tokenizer never makes of ordinary words: control tokens, tags, …."""
    return frozenset([*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids])


@functools.lru_cache(maxsize=4)
def _special(tokenizer: PreTrainedTokenizerBase) -> Collection[int]:
    """Return the ids of those that decoding leaves out."""
    marked = [token for token, added in tokenizer.added_tokens_decoder.items() if added.special]
    return frozenset([*marked, *tokenizer.all_special_ids])
