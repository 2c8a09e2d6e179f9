"""From one row to token ids and labels: what is learnt in each format, and what is not.

A label is the token itself where it is learnt and -100 (torch's `ignore_index`) where it is not. Position i of the
labels belongs to position i of the ids; the model shifts them. So the first position is never predicted.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import attrs

from tunewright.errors import RequestError
from tunewright_hf.params import DataParams

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


@attrs.frozen
class Sample:
    """One tokenised row.

    Attributes:
        ids: token ids.
        labels: as long as `ids`.
    """

    ids: list[int]
    labels: list[int]

    def cut(self, length: int) -> Sample:
        """Its first `length` tokens."""
        return Sample(self.ids[:length], self.labels[:length])

    @property
    def learnt(self) -> int:
        """How many tokens are predicted and learnt."""
        return sum(label != IGNORED for label in self.labels[1:])


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, form: str) -> None:
    """A chat needs a template, and everything else a token that ends it.

    Raises:
        RequestError: the tokenizer has none.
    """
    folder = tokenizer.name_or_path
    if form == "chat" and not tokenizer.chat_template:
        remedy = "Give a model with a chat template, or data as prompt and completion."
        raise RequestError("has a tokenizer without a chat template", field="model", value=folder, remedy=remedy)
    if form != "chat" and tokenizer.eos_token_id is None:
        remedy = "Set eos_token in tokenizer_config.json: without it the model would never learn to stop."
        raise RequestError("has a tokenizer without an end-of-text token", field="model", value=folder, remedy=remedy)


Span = tuple[str, bool]
"""A piece of text, and whether it is learnt."""


@attrs.frozen
class Encoder:
    """Makes samples from rows.

    Attributes:
        tokenizer: the model's own.
        format: "text", "prompt_completion" or "chat".
        data: the names of the columns.
    """

    tokenizer: PreTrainedTokenizerBase
    format: str
    data: DataParams

    def __call__(self, row: Mapping[str, object]) -> Sample | None:
        """The whole sample, however long; None if the row has nothing to learn from.

        Raises:
            RequestError: a column does not hold what the format needs.
        """
        if self.format == "chat":
            return self._chat(row)
        names = [self.data.text_column]
        if self.format == "prompt_completion":
            names = [self.data.prompt_column, self.data.completion_column]
        texts = [self._text(row, name) for name in names]
        if any(t is None for t in texts) or not "".join(t or "" for t in texts).strip():
            return None
        learnt_from = len(texts) - 1
        spans = [(t or "", i == learnt_from) for i, t in enumerate(texts)]
        return self._with_eos(encode(self.tokenizer, spans, special=True))

    def prompt(self, text: str) -> list[int]:
        """The ids of a prompt as the model saw prompts in training, for it to go on from."""
        if self.format == "chat":
            text = self._render([{"role": "user", "content": text}], add_generation_prompt=True)
        return token_ids(self.tokenizer, text, special=self.format != "chat")

    def _text(self, row: Mapping[str, object], column: str) -> str | None:
        value = row[column]
        if value is None or isinstance(value, str):
            return value
        shown = type(value).__name__
        remedy = f"Make column {column!r} a column of texts, or name another one in DataParams."
        problem = f"column {column!r} holds a {shown} where a text is needed: {str(value)[:80]}"
        raise RequestError(problem, field="dataset", remedy=remedy)

    def _with_eos(self, sample: Sample) -> Sample:
        eos = self.tokenizer.eos_token_id
        if eos is None or sample.ids[-1:] == [eos]:
            return sample
        return Sample([*sample.ids, eos], [*sample.labels, eos])

    def _chat(self, row: Mapping[str, object]) -> Sample | None:
        from jinja2.exceptions import TemplateError

        messages = _messages(row[self.data.messages_column], self.data.messages_column)
        if not any(m["role"] == "assistant" for m in messages):
            return None
        try:
            return self._conversation(messages)
        except TemplateError as error:
            roles = ", ".join(str(m["role"]) for m in messages)
            remedy = "Change these conversations, or leave them out."
            problem = f"the tokenizer's chat template refuses a conversation ({roles}): {error}"
            raise RequestError(problem, field="dataset", remedy=remedy) from error

    def _conversation(self, messages: list[dict[str, object]]) -> Sample:
        if _GENERATION.search(self.tokenizer.get_chat_template()):
            return self._marked_by_template(messages)
        whole = self._render(messages)
        sample = encode(self.tokenizer, self._turns(messages, whole), special=False)
        last = str(messages[-1].get("content") or "").strip()
        ends_bare = messages[-1]["role"] == "assistant" and whole.rstrip().endswith(last)
        # A template that writes nothing behind an answer would teach the model never to stop.
        return self._with_eos(sample) if ends_bare else sample

    def _marked_by_template(self, messages: list[dict[str, object]]) -> Sample:
        """Templates with {% generation %} tell which tokens are the assistant's."""
        found = self.tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
        ids, mask = list(found["input_ids"]), list(found["assistant_masks"])
        # Many of these blocks end before the token that ends the turn; it has to be learnt all the same.
        eos = self.tokenizer.eos_token_id
        learnt = [bool(m or (i and mask[i - 1] and ids[i] == eos)) for i, m in enumerate(mask)]
        return Sample(ids, [t if yes else IGNORED for t, yes in zip(ids, learnt, strict=True)])

    def _turns(self, messages: list[dict[str, object]], whole: str) -> list[Span]:
        """The rendered conversation in pieces: an assistant's turn is what it adds to the prompt before it."""
        spans: list[Span] = []
        done = 0
        for i, message in enumerate(messages):
            if message["role"] == "assistant":
                before = self._render(messages[:i], add_generation_prompt=True) if i else ""
                after = whole if i + 1 == len(messages) else self._render(messages[: i + 1])
                if not (whole.startswith(before) and whole.startswith(after) and done <= len(before) <= len(after)):
                    raise _unmarkable()
                spans += [(whole[done : len(before)], False), (whole[len(before) : len(after)], True)]
                done = len(after)
        return [*spans, (whole[done:], False)] if whole[done:] else spans

    def _render(self, messages: Sequence[Mapping[str, object]], *, add_generation_prompt: bool = False) -> str:
        text = self.tokenizer.apply_chat_template(
            [dict(m) for m in messages], tokenize=False, add_generation_prompt=add_generation_prompt
        )
        return cast("str", text)


def encode(tokenizer: PreTrainedTokenizerBase, spans: Sequence[Span], *, special: bool) -> Sample:
    """Tokenise pieces of one text so that each token belongs to one piece.

    The text is tokenised as a whole where that keeps every piece's beginning at a token's beginning. Where a token would
    reach over the seam, the pieces are tokenised one by one: a prompt must have the ids that it will have when the
    model is asked.
    """
    whole = token_ids(tokenizer, "".join(text for text, _ in spans), special=special)
    ends, text = [], ""
    for piece, _ in spans[:-1]:
        text += piece
        head = token_ids(tokenizer, text, special=special)
        if whole[: len(head)] != head:
            return _encode_apart(tokenizer, spans, special=special)
        ends.append(len(head))
    labels: list[int] = []
    for end, (_, learnt) in zip([*ends, len(whole)], spans, strict=True):
        start = len(labels)
        labels += whole[start:end] if learnt else [IGNORED] * (end - start)
    return Sample(whole, labels)


def _encode_apart(tokenizer: PreTrainedTokenizerBase, spans: Sequence[Span], *, special: bool) -> Sample:
    ids: list[int] = []
    labels: list[int] = []
    for i, (text, learnt) in enumerate(spans):
        piece = token_ids(tokenizer, text, special=special and i == 0)
        ids += piece
        labels += piece if learnt else [IGNORED] * len(piece)
    return Sample(ids, labels)


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> list[int]:
    """The ids of a text; with the tokenizer's special tokens in front of it (BOS), and none behind it."""
    ids = list(tokenizer(text, add_special_tokens=special)["input_ids"])
    behind = _tokens_behind(tokenizer) if special else 0
    return ids[: len(ids) - behind]


@functools.lru_cache(maxsize=4)
def _tokens_behind(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many special tokens the tokenizer itself puts behind a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a", add_special_tokens=True)["input_ids"]
    for behind in range(len(full) - len(bare) + 1):
        start = len(full) - behind - len(bare)
        if full[start : start + len(bare)] == bare:
            return behind
    return 0


def _messages(value: object, column: str) -> list[dict[str, object]]:
    remedy = 'Make each row a list such as [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}].'
    if not isinstance(value, list) or not all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in value):
        problem = f"column {column!r} holds something else than messages: {str(value)[:80]}"
        raise RequestError(problem, field="dataset", remedy=remedy)
    # Arrow gives every message the keys of all messages; those that it did not have are None.
    return [{k: v for k, v in m.items() if v is not None} for m in value]


def _unmarkable() -> RequestError:
    problem = "the tokenizer's chat template changes earlier turns when later ones follow: they cannot be told apart"
    remedy = "Give the model a template that marks the assistant's turns with {% generation %}, or use another format."
    return RequestError(problem, field="model", remedy=remedy)
