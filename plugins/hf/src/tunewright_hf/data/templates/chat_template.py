"""Render a conversation with the tokenizer's chat template, and find the assistant's tokens, which are supervised."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import attrs

from tunewright.errors import RequestError
from tunewright_hf.data.rows.dialects import RESULTS, Message, is_supervised
from tunewright_hf.data.templates import thoughts
from tunewright_hf.data.templates.probes import TurnEnds, turn_ends
from tunewright_hf.data.templates.turn_ends import Stops, with_ends
from tunewright_hf.data.tokenize import IGNORED, Sample, Span, encode

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
        stops: where generation stops.
    """

    tokenizer: PreTrainedTokenizerBase
    messages: list[Message]
    first: int = 0
    tools: Sequence[object] | None = None
    stops: Stops = attrs.field(factory=Stops)
    _rendered: dict[tuple[int, bool], str] = attrs.field(factory=dict, init=False, eq=False, repr=False)

    def sample(self) -> Sample:
        """Return the conversation's tokens, of which the assistant's turns are supervised.

        Raises:
            RequestError: the template rewrites earlier turns, leaves something out, or knows no tools.
            jinja2.exceptions.TemplateError: the template refuses the conversation.
        """
        check_template(self.tokenizer)
        if self.tools and not _TOOLS.search(self._template):
            remedy = "Give a model whose template writes tools, or DataParams(tools_column=None) to train without them."
            problem = "has a chat template that knows no tools, and the dataset has some"
            raise RequestError(problem, field="model", value=self.tokenizer.name_or_path, remedy=remedy)
        messages = thoughts.fitted(self.messages, self.tokenizer, self._template)
        said = attrs.evolve(self, messages=messages)
        unwritten = said._unwritten_thoughts()
        unsupervised = [m for i, m in enumerate(messages) if m["role"] == "assistant" and not self._learns(i)]
        sample, silent = said._without_thoughts(unwritten)._sample(), sum(map(has_content, unsupervised))
        if not unwritten and not silent:
            return sample
        return attrs.evolve(sample, thoughts_left_out=len(unwritten), answers_left_out=silent)

    @property
    def _template(self) -> str:
        return str(self.tokenizer.get_chat_template(tools=self.tools))

    def _sample(self) -> Sample:
        whole = self.render(len(self.messages))
        marked = bool(_GENERATION.search(self._template))
        found = self._masked_by_template() if marked else encode(self.tokenizer, self._turns(whole), special=False)
        self._check_written(whole)
        ends = turn_ends(self.tokenizer, self._template)
        last = self._last_call(ends, whole)
        return with_ends(self.tokenizer, found, ends, self.stops, calls=last, whole_turns=not marked)

    def _without_thoughts(self, turns: Sequence[int]) -> Conversation:
        """Leave out thoughts that the template does not write: it may write them in the first part of a conversation."""
        if not turns:
            return self
        bare = attrs.evolve(self, messages=thoughts.without(self.messages, turns))
        same = bare.render(len(self.messages)) == self.render(len(self.messages))
        return bare if same else self

    def _learns(self, turn: int) -> bool:
        message = self.messages[turn]
        return turn >= self.first and message["role"] == "assistant" and is_supervised(message)

    def _last_call(self, ends: TurnEnds, whole: str) -> bool | None:
        """Return whether the last message is a call; None if it needs no end, or none that is known."""
        last = self.messages[-1]
        if not self._learns(len(self.messages) - 1):
            return None
        if not ends.known and not (_text_of(last) and whole.rstrip().endswith(_text_of(last))):
            return None
        return bool(last.get("tool_calls"))

    def _check_written(self, whole: str) -> None:
        """Refuse a conversation of which the template leaves a message out.

        Raises:
            RequestError: naming what is left out.
        """
        for message in self.messages:
            if not _appears_in(message, whole):
                raise _omitted_message(message)

    def _unwritten_thoughts(self) -> list[int]:
        """Return the indices of supervised answers whose thoughts the template leaves out, as most do of earlier answers.

        Raises:
            RequestError: it leaves those of the last message out.
        """
        messages, marks = thoughts.marked(self.messages, self.first)
        if not marks:
            return []
        text = attrs.evolve(self, messages=messages).render(len(messages))
        unwritten = [i for i, mark in marks.items() if mark not in text and self._learns(i)]
        last = len(self.messages) - 1
        if last in unwritten:
            raise thoughts.left_out(self.messages[last], self.tokenizer, self._template)
        return unwritten

    def _masked_by_template(self) -> Sample:
        """Use the mask of templates with {% generation %}, which mark the assistant's tokens."""
        found = self.tokenizer.apply_chat_template(
            self.messages, tools=self.tools, return_dict=True, return_assistant_tokens_mask=True
        )
        ids, mask = list(found["input_ids"]), list(found["assistant_masks"])
        mask[: self._tokens_before(self.first, ids)] = [0] * self._tokens_before(self.first, ids)
        for i in range(self.first, len(self.messages)):
            if self.messages[i]["role"] == "assistant" and not self._learns(i):
                begin, end = self._tokens_before(i, ids), self._tokens_before(i + 1, ids)
                mask[begin:end] = [0] * (end - begin)
        return Sample(ids, [t if yes else IGNORED for t, yes in zip(ids, mask, strict=True)])

    def _tokens_before(self, count: int, ids: list[int]) -> int:
        """Return the number of tokens in the first messages."""
        if count in (0, len(self.messages)):
            return len(ids) if count else 0
        head = self.tokenizer(self.render(count), add_special_tokens=False)["input_ids"]
        if ids[: len(head)] != head:
            raise _inseparable_turns()
        return len(head)

    def _turns(self, whole: str) -> list[Span]:
        """Return the rendered conversation in pieces; an assistant's turn is what it adds to the prompt before it.

        If the prompt ends differently than the turn begins, as with a block of thoughts, the turn starts where they differ.
        """
        self._render_turns()
        spans: list[Span] = []
        done = 0
        for i, message in enumerate(self.messages):
            if message["role"] == "assistant" and i >= self.first and is_supervised(message):
                prompt = self.render(i, add_generation_prompt=True) if i else self._prefix_of_first(whole)
                begin = _common(prompt, whole)
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
        return whole[: _common(text, whole)]

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
        key = (count, add_generation_prompt)
        if key not in self._rendered:
            (self._rendered[key],) = self._render([count], add_generation_prompt=add_generation_prompt)
        return self._rendered[key]

    def _render(self, counts: Sequence[int], *, add_generation_prompt: bool) -> list[str]:
        texts = self.tokenizer.apply_chat_template(
            [[dict(m) for m in self.messages[:count]] for count in counts],
            tools=self.tools,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )
        return cast("list[str]", texts)

    def _render_turns(self) -> None:
        """Render what `_turns` is going to need at once, which takes less time than one by one."""
        from jinja2.exceptions import TemplateError

        turns = [i for i in range(len(self.messages)) if self._learns(i)]
        heads = sorted({count for i in turns for count in (i, i + 1)} - {0, len(self.messages)})
        for counts, prompted in ((heads, False), ([i for i in turns if i], True)):
            if len(counts) > 1:
                with contextlib.suppress(TemplateError, *UNEXPECTED):  # it comes up again where that part is needed
                    texts = self._render(counts, add_generation_prompt=prompted)
                    self._rendered.update({(n, prompted): text for n, text in zip(counts, texts, strict=True)})


UNEXPECTED = (TypeError, ValueError, LookupError, AttributeError)
"""What templates raise for a content of a type, or with keys, that they do not expect."""


def _common(one: str, other: str) -> int:
    """Return the length of the longest prefix of two texts."""
    if other.startswith(one):
        return len(one)
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def _text_of(message: Message) -> str:
    """Return a message's text, without surrounding whitespace, which templates may strip."""
    content = message.get("content") or ""
    if isinstance(content, list):  # parts; or an object that a call returned
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return str(content).strip()


def has_content(message: Message) -> bool:
    """Return whether a message has a text, or calls a function."""
    return bool(_text_of(message) or message.get("tool_calls"))


def _appears_in(message: Message, turn: str) -> bool:
    """Whether the last line of a message stands in a turn, and what it calls: templates may leave thoughts out, and strip texts."""
    if message["role"] in RESULTS and not isinstance(message.get("content") or "", str):
        return True  # an object that a call returned: each template writes those in its own way
    last = _text_of(message).rpartition("\n")[2].rpartition("</think>")[2].strip()
    written = last in turn or json.dumps(last, ensure_ascii=False)[1:-1] in turn or json.dumps(last)[1:-1] in turn
    return written and all(name in turn for name in _called_functions(message))


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
