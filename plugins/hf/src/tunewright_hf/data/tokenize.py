"""Texts to token ids, of which some are learnt."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100


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
    def tokens(self) -> int:
        """How many there are."""
        return len(self.ids)

    @property
    def learnt(self) -> int:
        """How many tokens are predicted and learnt."""
        return sum(label != IGNORED for label in self.labels[1:])


Span = tuple[str, bool]
"""A piece of text, and whether it is learnt."""


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
        piece = token_ids(tokenizer, text, special=special) if i == 0 else _ids_mid_text(tokenizer, text)
        ids += piece
        labels += piece if learnt else [IGNORED] * len(piece)
    return Sample(ids, labels)


def _ids_mid_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text that others stand before: without the space that some tokenizers write before the first."""
    return (
        _ids_after_newline(tokenizer, text)
        if _adds_leading_space(tokenizer)
        else token_ids(tokenizer, text, special=False)
    )


@functools.lru_cache(maxsize=4)
def _adds_leading_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer writes a space before a text, as SentencePiece does."""
    return _ids_after_newline(tokenizer, "a") != token_ids(tokenizer, "a", special=False)


def _ids_after_newline(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text behind a line break; of the text alone, if the two share a token."""
    line, whole = (token_ids(tokenizer, t, special=False) for t in ("\n", f"\n{text}"))
    # Of a line break that it does not know it cannot be told apart what else it does not know.
    known = tokenizer.unk_token_id not in line
    return whole[len(line) :] if known and whole[: len(line)] == line else token_ids(tokenizer, text, special=False)


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> list[int]:
    """The ids of a text; with the tokenizer's special tokens in front of it (BOS), and none behind it."""
    ids = list(tokenizer(text, add_special_tokens=special)["input_ids"])
    behind = trailing_specials(tokenizer) if special else 0
    return ids[: len(ids) - behind]


@functools.lru_cache(maxsize=4)
def trailing_specials(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many special tokens the tokenizer itself puts behind a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a", add_special_tokens=True)["input_ids"]
    for behind in range(len(full) - len(bare) + 1):
        start = len(full) - behind - len(bare)
        if full[start : start + len(bare)] == bare:
            return behind
    return 0


def with_eos(tokenizer: PreTrainedTokenizerBase, sample: Sample) -> Sample:
    """A sample that ends with the end-of-text token, which is learnt."""
    eos = tokenizer.eos_token_id
    if eos is None or sample.ids[-1:] == [eos]:
        return sample
    return Sample([*sample.ids, eos], [*sample.labels, eos])


def truncate_keeping_tail(ids: list[int], length: int, tail: int) -> list[int]:
    """At most `length` tokens: left out are those before the last `tail`, if these fit in."""
    if len(ids) <= length or tail >= length:
        return ids[:length]
    return [*ids[: length - tail], *ids[len(ids) - tail :]]
