"""Thoughts of the assistant: given to the chat template in the form that it reads, and found again in what it writes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, cast

from tunewright.errors import RequestError
from tunewright_hf.data.rows.dialects import Message
from tunewright_hf.data.templates.overrides import fits
from tunewright_hf.data.templates.probes import INLINE, KEYS, PARTS, thought_forms, with_thought

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_OPEN, _CLOSE = "<think>", "</think>"
_R1 = "deepseek-r1"


def form_of(message: Message) -> str | None:
    """Return the form in which an assistant's message holds thoughts; None if it has none."""
    if message["role"] != "assistant":
        return None
    content = message.get("content")
    for key in KEYS:
        if isinstance(thought := message.get(key), str) and thought.strip():
            return key
    if isinstance(content, list):
        return PARTS
    return INLINE if _inline_thought(str(content or "")) else None


def fitted(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, template: str) -> list[Message]:
    """Return the messages with their thoughts in a form that the template has a place for, if it has one."""
    return [_fitted(message, tokenizer, template) for message in messages]


def marked(messages: Sequence[Message], first: int) -> tuple[list[Message], dict[int, str]]:
    """Return the messages with a mark for each thought from the first message on, and the marks by index of the message.

    The template writes the mark of a thought exactly if it writes the thought.
    """
    marks: dict[int, str] = {}
    found: list[Message] = []
    for i, message in enumerate(messages):
        form = form_of(message) if i >= first else None
        if form is None:
            found.append(message)
            continue
        marks[i] = f"Markqx{i}."
        found.append(with_thought(message, form, marks[i], _split(message)[1]))
    return found, marks


def without(messages: Sequence[Message], turns: Collection[int]) -> list[Message]:
    """Return the messages, some of them without their thoughts."""
    return [_without(message) if i in turns else message for i, message in enumerate(messages)]


def _without(message: Message) -> Message:
    bare = {key: value for key, value in message.items() if key not in KEYS}
    return {**bare, "content": _split(message)[1]} if "content" in message else bare


def left_out(message: Message, tokenizer: PreTrainedTokenizerBase, template: str) -> RequestError:
    """Return the error for an answer whose thoughts the template leaves out."""
    problem = f"the tokenizer's chat template leaves the thoughts of an answer out: {_split(message)[0][:80]!r}"
    if fits(tokenizer, _R1):
        remedy = f"To train on them: trainer.data.chat_template: {_R1}. Otherwise remove them from the data."
    elif form_of(message) != INLINE and thought_forms(tokenizer, template).inline:
        remedy = f"Write them into the content, {_OPEN}…{_CLOSE} before the answer, which this template keeps; or remove them."
    else:
        remedy = "Remove the thoughts from the data, or give a template that writes them: trainer.data.chat_template."
    return RequestError(problem, field="model", remedy=remedy)


def _fitted(message: Message, tokenizer: PreTrainedTokenizerBase, template: str) -> Message:
    form = form_of(message)
    if form is None:
        return message
    forms = thought_forms(tokenizer, template)
    if form in forms.native or not forms.native or (form == INLINE and forms.reads_inline):
        return message
    return with_thought(message, forms.native[0], *_split(message))


def _split(message: Message) -> tuple[str, str]:
    """Return the thoughts and the answer of an assistant's message."""
    content, form = message.get("content"), form_of(message)
    if isinstance(content, list):
        parts = cast("list[dict[str, object]]", content)
        thoughts, texts = ("".join(str(p.get(key) or "") for p in parts) for key in ("thinking", "text"))
        return thoughts, texts
    text = str(content or "")
    if form in KEYS:
        return str(message[form]).strip(), text
    return _inline_thought(text), text.rpartition(_CLOSE)[2].lstrip()


def _inline_thought(content: str) -> str:
    # Some data has no opening tag, because the prompt ends with it.
    before, tag, _ = content.rpartition(_CLOSE)
    return before.rpartition(_OPEN)[2].strip() if tag else ""
