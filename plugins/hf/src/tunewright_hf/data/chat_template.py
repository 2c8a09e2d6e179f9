"""Render a conversation with the tokenizer's chat template, and find the assistant's tokens, which are supervised."""

from __future__ import annotations

import json
import os.path
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import attrs

from tunewright.errors import RequestError
from tunewright_hf.data.dialects import Message, is_supervised
from tunewright_hf.data.tokenize import IGNORED, Sample, Span, encode, with_eos

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_TOOLS = re.compile(r"\btools\b")


@attrs.frozen
class Conversation:
    """One conversation.

    Attributes:
        tokenizer: the model's tokenizer.
        messages: the messages.
        first: index of the first message that may be supervised.
        tools: the tools that the assistant may call, or None.
    """

    tokenizer: PreTrainedTokenizerBase
    messages: list[Message]
    first: int = 0
    tools: Sequence[object] | None = None

    def sample(self) -> Sample:
        """Return the conversation's tokens, of which the assistant's turns are supervised.

        Raises:
            RequestError: the template rewrites earlier turns, or knows no tools.
            jinja2.exceptions.TemplateError: the template refuses the conversation.
        """
        check_template(self.tokenizer)
        template = self.tokenizer.get_chat_template(tools=self.tools)
        if self.tools and not _TOOLS.search(template):
            remedy = "Give a model whose template writes tools, or DataParams(tools_column=None) to train without them."
            problem = "has a chat template that knows no tools, and the dataset has some"
            raise RequestError(problem, field="model", value=self.tokenizer.name_or_path, remedy=remedy)
        whole = self.render(len(self.messages))
        sample = self._masked_by_template(whole) if _GENERATION.search(template) else self._masked_by_turns(whole)
        self._check_written(whole)
        return sample

    def _masked_by_turns(self, whole: str) -> Sample:
        """An assistant's turn is what it adds to the prompt before it."""
        sample = encode(self.tokenizer, self._turns(whole), special=False)
        # Without an end marker the model would never learn to stop.
        return with_eos(self.tokenizer, sample) if self._lacks_end_marker(whole) else sample

    def _lacks_end_marker(self, whole: str) -> bool:
        """Return whether the template ends with an answer and adds no end marker after it."""
        last = self.messages[-1]
        if last["role"] != "assistant":
            return False
        if said := _text_of(last):
            return whole.rstrip().endswith(said)
        # Of a call, or of nothing said, it is not known where it ends: the template ends it as it does an answer.
        answer: Message = {"role": "assistant", "content": "a"}
        text = attrs.evolve(self, messages=[*self.messages[:-1], answer]).render(len(self.messages))
        return text.rstrip().endswith("a")

    def _check_written(self, whole: str) -> None:
        """Refuse a conversation of which the template leaves a message out, or the thoughts of the last turn.

        Raises:
            RequestError: naming what is left out.
        """
        for message in self.messages:
            if not _appears_in(message, whole):
                raise _omitted_message(message)
        last = self.messages[-1]
        thought = _thought_of(last) if last["role"] == "assistant" and is_supervised(last) else ""
        if thought.rpartition("\n")[2].strip() not in whole:
            problem = f"the tokenizer's chat template leaves the thoughts of an answer out: {thought[:80]!r}"
            remedy = "Remove the thoughts from the data, or give a model whose template writes them."
            raise RequestError(problem, field="model", remedy=remedy)

    def _masked_by_template(self, whole: str) -> Sample:
        """Use the mask of templates with {% generation %}, which mark the assistant's tokens."""
        for message in self.messages[self.first :]:
            if _called_functions(message) and not _appears_in(message, whole):
                raise _omitted_message(message)
        found = self.tokenizer.apply_chat_template(
            self.messages, tools=self.tools, return_dict=True, return_assistant_tokens_mask=True
        )
        ids, mask = list(found["input_ids"]), list(found["assistant_masks"])
        # Many of these blocks end before the token that ends the turn, which must be supervised all the same.
        eos = self.tokenizer.eos_token_id
        supervised = [bool(m or (i and mask[i - 1] and ids[i] == eos)) for i, m in enumerate(mask)]
        before = self._tokens_before(ids)
        labels = [t if yes and i >= before else IGNORED for i, (t, yes) in enumerate(zip(ids, supervised, strict=True))]
        return Sample(ids, labels)

    def _tokens_before(self, ids: list[int]) -> int:
        """Return the number of tokens in messages that are not supervised."""
        if not self.first:
            return 0
        head = self.tokenizer(self.render(self.first), add_special_tokens=False)["input_ids"]
        if ids[: len(head)] != head:
            raise _inseparable_turns()
        return len(head)

    def _turns(self, whole: str) -> list[Span]:
        """Return the rendered conversation in pieces; an assistant's turn is what it adds to the prompt before it.

        If the prompt ends differently than the turn begins, as with a block of thoughts, the turn starts where they differ.
        """
        spans: list[Span] = []
        done = 0
        for i, message in enumerate(self.messages):
            if message["role"] == "assistant" and i >= self.first and is_supervised(message):
                prompt = self.render(i, add_generation_prompt=True) if i else self._prefix_of_first(whole)
                begin = len(os.path.commonprefix([prompt, whole]))  # noqa: RUF071 - texts, and no paths
                end = self._end(i, whole)
                if not max(done, len(self._head(i, whole))) <= begin <= end:
                    raise _inseparable_turns()
                if not _appears_in(message, whole[begin:end]):
                    raise _omitted_message(message)
                spans += [(whole[done:begin], False), (whole[begin:end], True)]
                done = end
        return [*spans, (whole[done:], False)] if whole[done:] else spans

    def _prefix_of_first(self, whole: str) -> str:
        """Return the text before the first message's content, which may be a default system prompt of the template.

        Templates cannot render an empty conversation. So another first message is rendered: its text has the same prefix.
        """
        first = self.messages[0]
        # A content that differs from the first message's in its very first letter: the common prefix ends before both.
        content = "b" if _text_of(first).startswith("a") else "a"
        other: Message = {"role": first["role"], "content": content}
        text = attrs.evolve(self, messages=[other, *self.messages[1:]]).render(len(self.messages))
        return os.path.commonprefix([text, whole])  # noqa: RUF071 - texts, and no paths

    def _ends(self) -> tuple[str, str]:
        """Return what a template may append to every conversation, and so to a part of one: nothing, or end-of-text."""
        return "", str(self.tokenizer.eos_token or "")

    def _head(self, count: int, whole: str) -> str:
        """Return the text of the first messages as it occurs in the whole conversation.

        Raises:
            RequestError: it does not occur there.
        """
        text = self.render(count) if count else ""
        for end in self._ends():
            if whole.startswith(text.removesuffix(end)):
                return text.removesuffix(end)
        raise _inseparable_turns()

    def _end(self, turn: int, whole: str) -> int:
        """Return where an assistant's turn ends in the rendered conversation.

        Raises:
            RequestError: the end cannot be determined.
        """
        if turn + 1 == len(self.messages):
            return len(whole)
        try:
            return len(self._head(turn + 1, whole))
        except RequestError:
            pass
        # Some templates render the last turn differently than earlier ones: Qwen 3's adds an empty block of thoughts. Then a
        # turn ends before the text that the later messages add to the earlier ones.
        later = next((i for i in range(turn + 1, len(self.messages)) if self.messages[i]["role"] == "assistant"), None)
        through = whole if later is None else self._head(later, whole)
        kept = [*self.messages[:turn], *self.messages[turn + 1 : later]]
        text = attrs.evolve(self, messages=kept).render(len(kept))
        for end in self._ends():
            behind = text.removesuffix("" if later is None else end).removeprefix(self._head(turn, whole))
            if through.endswith(behind) and behind != text:
                return len(through) - len(behind)
        raise _inseparable_turns()

    def render(self, count: int, *, add_generation_prompt: bool = False) -> str:
        """Return the text of the first `count` messages."""
        text = self.tokenizer.apply_chat_template(
            [dict(m) for m in self.messages[:count]],
            tools=self.tools,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )
        return cast("str", text)


def _text_of(message: Message) -> str:
    """Return a message's text, without surrounding whitespace, which templates may strip."""
    return str(message.get("content") or "").strip()


def has_content(message: Message) -> bool:
    """Return whether a message has a text, or calls a function."""
    return bool(_text_of(message) or message.get("tool_calls"))


def _appears_in(message: Message, turn: str) -> bool:
    """Whether the last line of a message stands in a turn, and what it calls: templates may leave thoughts out, and strip texts."""
    if not isinstance(message.get("content") or "", str):
        return True  # an object that a call returned: each template writes those in its own way
    last = _text_of(message).rpartition("\n")[2].rpartition("</think>")[2].strip()
    written = last in turn or json.dumps(last, ensure_ascii=False)[1:-1] in turn or json.dumps(last)[1:-1] in turn
    return written and all(name in turn for name in _called_functions(message))


def _thought_of(message: Message) -> str:
    """Return the thoughts before an answer: `reasoning_content`, or what stands between think tags in the content."""
    given = message.get("reasoning_content") or message.get("reasoning") or message.get("thinking")
    if isinstance(given, str):
        return given.strip()
    before, tag, _ = _text_of(message).rpartition("</think>")
    return before.rpartition("<think>")[2].strip() if tag else ""


def _called_functions(message: Message) -> list[str]:
    """Return the names of the functions that a message calls."""
    calls = message.get("tool_calls")
    found = [c for c in calls if isinstance(c, dict)] if isinstance(calls, list) else []
    functions = [f if isinstance(f := call.get("function"), dict) else call for call in found]
    return [name for function in functions if isinstance(name := function.get("name"), str)]


def _omitted_message(message: Message) -> RequestError:
    left = " ".join([_text_of(message), *_called_functions(message)]).strip()
    whose = "an assistant's message" if message["role"] == "assistant" else f"a message of the role {message['role']!r}"
    problem = f"the tokenizer's chat template leaves {whose} out: {left[:80]!r}"
    remedy = "Give a model with another template, or contents as this one wants them, or use another format."
    return RequestError(problem, field="model", remedy=remedy)


def check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise RequestError for a tokenizer without a chat template."""
    if not tokenizer.chat_template:
        remedy = "Give a model with a chat template, or data with prompts and completions."
        problem = "has a tokenizer without a chat template"
        raise RequestError(problem, field="model", value=tokenizer.name_or_path, remedy=remedy)


def _inseparable_turns() -> RequestError:
    problem = "the tokenizer's chat template changes earlier turns when later ones follow, so turns cannot be separated"
    remedy = "Give the model a template that marks the assistant's turns with {% generation %}, or use another format."
    return RequestError(problem, field="model", remedy=remedy)
