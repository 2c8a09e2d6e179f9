"""Encode a row as token ids and labels, for language models: which tokens are supervised in each format.

A label is the token itself if it is supervised, else -100 (torch's `ignore_index`). Position i of the labels belongs to
position i of the ids, and the model shifts them. So the first position is never predicted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.data.rows.columns import conversation_of, further_answers, text_of, tools_of
from tunewright_hf.data.rows.dialects import Message, is_supervised
from tunewright_hf.data.templates.chat_template import UNEXPECTED, Conversation, check_template, has_content
from tunewright_hf.data.templates.turn_ends import Stops, closed
from tunewright_hf.data.tokenize import Sample, encode, token_ids, with_eos

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, form: str) -> None:
    """Check that the tokenizer has a chat template for chats, and an end-of-text token for other texts.

    Raises:
        RequestError: it does not.
    """
    if form == "chat":
        check_template(tokenizer)
    if form not in ("chat", "classification") and tokenizer.eos_token_id is None:
        remedy = "Set eos_token in tokenizer_config.json: without it the model would never learn to stop."
        raise RequestError(
            "has a tokenizer without an end-of-text token", field="model", value=tokenizer.name_or_path, remedy=remedy
        )


@attrs.frozen
class Encoder:
    """Makes samples from rows.

    Attributes:
        tokenizer: the model's own.
        format: "text", "prompt_completion" or "chat".
        data: the names of the columns.
        stops: where generation stops.
    """

    tokenizer: PreTrainedTokenizerBase
    format: str
    data: DataParams
    stops: Stops = attrs.field(factory=Stops)

    def __call__(self, row: Mapping[str, object]) -> Sample | None:
        """Return the whole sample, without truncation; None if the row leaves nothing to learn.

        Raises:
            RequestError: a column does not hold what the format needs.
        """
        sample, more = self._sample(row), further_answers(row, self.data)
        return attrs.evolve(sample, further_answers=more) if sample and more else sample

    def _sample(self, row: Mapping[str, object]) -> Sample | None:
        if self.format != "text" and (found := conversation_of(row, self.format, self.data)):
            return self._chat(*found, tools_of(row, self.data))
        if self.data.chat_template is not None:
            raise _unused_template()
        names = ["text"] if self.format == "text" else ["prompt", "completion"]
        texts = [text_of(row, name, self.data) for name in names]
        if any(t is None for t in texts) or not (texts[-1] or "").strip():
            return None
        last = len(texts) - 1
        spans = [(t or "", i == last) for i, t in enumerate(texts)]
        ended = with_eos(self.tokenizer, encode(self.tokenizer, spans, special=True))
        return closed(self.tokenizer, ended, self.stops)

    def prompt(self, text: str) -> list[int]:
        """Return the ids of a prompt, in the same form as in training, for generation."""
        if self.format == "chat":
            text = Conversation(self.tokenizer, [{"role": "user", "content": text}]).render(
                1, add_generation_prompt=True
            )
        return token_ids(self.tokenizer, text, special=self.format != "chat")

    def _chat(self, messages: list[Message], first: int, tools: Sequence[object] | None) -> Sample | None:
        from jinja2.exceptions import TemplateError

        if not any(m["role"] == "assistant" and is_supervised(m) and has_content(m) for m in messages[first:]):
            return None
        try:
            return Conversation(self.tokenizer, messages, first, tools, self.stops).sample()
        except (TemplateError, *UNEXPECTED) as error:
            roles = ", ".join(str(m["role"]) for m in messages)
            remedy = "Change these conversations, or leave them out."
            problem = (
                f"the tokenizer's chat template refuses a conversation: {str(error).rstrip('.')} (its roles: {roles})"
            )
            raise RequestError(problem, field="dataset", remedy=remedy) from error


def _unused_template() -> RequestError:
    problem = "renders conversations, and the rows hold prompts and completions, which are concatenated as they are"
    remedy = (
        'Leave it out, or make conversations of the rows: trainer.data.format: chat, with prompt_template: "{prompt}" and '
        'completion_template: "{completion}".'
    )
    return RequestError(problem, field="DataParams.chat_template", remedy=remedy)
