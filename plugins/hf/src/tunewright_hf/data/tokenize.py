"""Tokenise texts of which some parts are supervised."""

from __future__ import annotations

import bisect
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
_SHORT = 64  # characters of a text that is likely to recur


@attrs.frozen
class Sample:
    """One tokenised row.

    Attributes:
        ids: token ids.
        labels: the label mask, as long as `ids`: the token itself if it is supervised, else -100. At the end of a turn it may be
            another token: the one that generation stops at.
        thoughts_left_out: number of supervised answers whose thoughts the chat template left out.
        answers_left_out: number of the assistant's messages that are not supervised.
        further_answers: number of other answers to the same question, of which the first is trained on.
    """

    ids: list[int]
    labels: list[int]
    thoughts_left_out: int = 0
    answers_left_out: int = 0
    further_answers: int = 0

    def cut(self, length: int) -> Sample:
        """Return the first `length` tokens."""
        return attrs.evolve(self, ids=self.ids[:length], labels=self.labels[:length])

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return len(self.ids)

    @property
    def supervised(self) -> int:
        """Number of tokens that count in the loss; the first is never predicted."""
        return sum(label != IGNORED for label in self.labels[1:])


Span = tuple[str, bool]
"""A piece of text, and whether it is supervised."""


def encode(tokenizer: PreTrainedTokenizerBase, spans: Sequence[Span], *, special: bool) -> Sample:
    """Tokenise the pieces of one text so that each token belongs to one piece.

    The text is tokenised as a whole if every piece then begins with a new token. If a token would span two pieces, they are
    tokenised one by one: a prompt must have the same ids as at inference.
    """
    pieces = [text for text, _ in spans]
    whole = _Whole.of(tokenizer, "".join(pieces), special=special)
    ends: list[int] = []
    for position in itertools.accumulate(map(len, pieces[:-1])):
        end = whole.tokens_before(position)
        if end is None:
            return _encode_apart(tokenizer, spans, special=special)
        ends.append(end)
    labels: list[int] = []
    for end, (_, supervised) in zip([*ends, len(whole.ids)], spans, strict=True):
        start = len(labels)
        labels += whole.ids[start:end] if supervised else [IGNORED] * (end - start)
    return Sample(whole.ids, labels)


@attrs.frozen
class _Whole:
    """A text that is tokenised as a whole.

    Attributes:
        tokenizer: the tokenizer.
        text: the text.
        special: whether the tokenizer's leading special tokens (BOS) belong to it.
        ids: its token ids.
        starts: where its control tokens begin in the text.
        numbers: the numbers of these tokens, from 0.
    """

    tokenizer: PreTrainedTokenizerBase
    text: str
    special: bool
    ids: list[int]
    starts: list[int]
    numbers: list[int]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> _Whole:
        found = tokenizer(text, add_special_tokens=special)
        ids = list(found["input_ids"])
        ids = ids[: len(ids) - (trailing_specials(tokenizer) if special else 0)]
        controls, starts, numbers = _separators(tokenizer), [], []
        for number in [number for number, token in enumerate(ids) if token in controls] if controls else ():
            place = found.token_to_chars(number)  # None for a token that the tokenizer adds
            if place is not None and text[place.start : place.end] == controls[ids[number]]:
                starts.append(place.start)
                numbers.append(number)
        return cls(tokenizer, text, special, ids, starts, numbers)

    def tokens_before(self, position: int) -> int | None:
        """Return how many tokens the text before a position has; None if they are not the first tokens of the whole.

        What stands behind a control token is tokenised by itself, so only the text from the last one on need be tokenised.
        """
        last = bisect.bisect_left(self.starts, position) - 1
        while (
            last >= 0 and self.starts[last] + len(_separators(self.tokenizer)[self.ids[self.numbers[last]]]) > position
        ):
            last -= 1
        if last < 0:
            before, rest = 0, token_ids(self.tokenizer, self.text[:position], special=self.special)
        else:
            before, rest = (
                self.numbers[last],
                _ids_from_control(self.tokenizer, self.text[self.starts[last] : position]),
            )
        end = before + len(rest)
        return end if self.ids[before:end] == rest else None


@functools.lru_cache(maxsize=4)
def _separators(tokenizer: PreTrainedTokenizerBase) -> Mapping[int, str]:
    """Return the control tokens that part a text before anything else is done to it, and how they are written.

    None of a tokenizer that is not of the library tokenizers, which may do otherwise.
    """
    if not tokenizer.is_fast:
        return {}
    added = tokenizer.added_tokens_decoder.items()
    return {
        token: str(t) for token, t in added if t.special and not (t.normalized or t.lstrip or t.rstrip or t.single_word)
    }


def _ids_from_control(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of a text that begins with a control token: most are the beginnings and ends of turns, and recur."""
    return _known_ids(tokenizer, text) if len(text) < _SHORT else token_ids(tokenizer, text, special=False)


@functools.lru_cache(maxsize=512)
def _known_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return token_ids(tokenizer, text, special=False)


def _encode_apart(tokenizer: PreTrainedTokenizerBase, spans: Sequence[Span], *, special: bool) -> Sample:
    ids: list[int] = []
    labels: list[int] = []
    for i, (text, supervised) in enumerate(spans):
        piece = token_ids(tokenizer, text, special=special) if i == 0 else _ids_mid_text(tokenizer, text)
        ids += piece
        labels += piece if supervised else [IGNORED] * len(piece)
    return Sample(ids, labels)


def _ids_mid_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of a text that follows another, without the space that some tokenizers add to the first."""
    return (
        _ids_after_newline(tokenizer, text)
        if _adds_leading_space(tokenizer)
        else token_ids(tokenizer, text, special=False)
    )


@functools.lru_cache(maxsize=4)
def _adds_leading_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the tokenizer adds a space before a text, as SentencePiece does."""
    return _ids_after_newline(tokenizer, "a") != token_ids(tokenizer, "a", special=False)


def _ids_after_newline(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of a text after a line break, or of the text alone if it shares a token with the line break."""
    line, whole = (token_ids(tokenizer, t, special=False) for t in ("\n", f"\n{text}"))
    # An unknown line break could be merged with unknown text into one token.
    known = tokenizer.unk_token_id not in line
    return whole[len(line) :] if known and whole[: len(line)] == line else token_ids(tokenizer, text, special=False)


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> list[int]:
    """Return the ids of a text, with the tokenizer's leading special tokens (BOS) if `special`, never with trailing ones."""
    ids = list(tokenizer(text, add_special_tokens=special)["input_ids"])
    trailing = trailing_specials(tokenizer) if special else 0
    return ids[: len(ids) - trailing]


@functools.lru_cache(maxsize=4)
def trailing_specials(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the number of special tokens that the tokenizer itself appends to a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a", add_special_tokens=True)["input_ids"]
    for behind in range(len(full) - len(bare) + 1):
        start = len(full) - behind - len(bare)
        if full[start : start + len(bare)] == bare:
            return behind
    return 0


def with_eos(tokenizer: PreTrainedTokenizerBase, sample: Sample) -> Sample:
    """Return the sample with a supervised end-of-text token at its end."""
    eos = tokenizer.eos_token_id
    if eos is None or sample.ids[-1:] == [eos]:
        return sample
    return attrs.evolve(sample, ids=[*sample.ids, eos], labels=[*sample.labels, eos])


def truncate_keeping_tail(ids: list[int], length: int, tail: int) -> list[int]:
    """Return at most `length` tokens, dropping those before the last `tail` ones, if these fit."""
    if len(ids) <= length or tail >= length:
        return ids[:length]
    return [*ids[: length - tail], *ids[len(ids) - tail :]]


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token to pad with. Padding is masked everywhere, so any token that the model has will do.

    It may lack the tokenizer's own pad token: people add one to a tokenizer without resizing the embeddings.
    """
    return 0 if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)
