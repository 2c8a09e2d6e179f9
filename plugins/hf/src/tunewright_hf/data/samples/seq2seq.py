"""Samples and batches for encoder-decoder models: a prompt for the encoder, a completion for the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from tunewright_hf.config.data_params import DataParams
from tunewright_hf.data.rows.columns import further_answers, text_of
from tunewright_hf.data.tokenize import trailing_specials, truncate_keeping_tail

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@attrs.frozen
class Pair:
    """A prompt and its completion.

    Attributes:
        ids: the prompt's token ids, including the tokenizer's special tokens.
        labels: the completion's token ids, likewise; all are supervised.
        tail: number of special tokens at the prompt's end.
        further_answers: number of other answers to the same question, of which the first is trained on.
    """

    ids: list[int]
    labels: list[int]
    tail: int = 0
    further_answers: int = 0

    def cut(self, length: int) -> Pair:
        """Truncate both to at most `length` tokens; the prompt keeps its trailing special tokens, which mark its end."""
        return Pair(truncate_keeping_tail(self.ids, length, self.tail), self.labels[:length], self.tail)

    @property
    def tokens(self) -> int:
        """Number of tokens in both."""
        return len(self.ids) + len(self.labels)

    @property
    def supervised(self) -> int:
        """Number of tokens that count in the loss."""
        return len(self.labels)


@attrs.frozen
class PairEncoder:
    """Makes samples from rows, as `tunewright_hf.data.samples.language_modeling.Encoder` does for causal language models.

    Attributes:
        tokenizer: the model's tokenizer.
        data: the names of the columns.
    """

    tokenizer: PreTrainedTokenizerBase
    data: DataParams

    def __call__(self, row: Mapping[str, object]) -> Pair | None:
        """Return the whole sample, without truncation; None if the row lacks a prompt or a completion.

        Raises:
            RequestError: a column does not hold text.
        """
        texts = [text_of(row, name, self.data) for name in ("prompt", "completion")]
        if any(text is None or not text.strip() for text in texts):
            return None
        labels = list(self.tokenizer(text_target=texts[1])["input_ids"])
        eos = self.tokenizer.eos_token_id
        if eos is not None and labels[-1:] != [eos]:
            labels.append(eos)
        more = further_answers(row, self.data)
        return Pair(self.prompt(str(texts[0])), labels, trailing_specials(self.tokenizer), more)

    def prompt(self, text: str) -> list[int]:
        """Return the ids of a prompt, in the same form as in training."""
        return list(self.tokenizer(text)["input_ids"])
