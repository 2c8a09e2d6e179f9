"""The end of each supervised turn: a token that generation stops at."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import TYPE_CHECKING

import attrs
import numpy as np

from tunewright_hf.data.templates.probes import TurnEnds, added_tokens
from tunewright_hf.data.tokenize import IGNORED, Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@attrs.frozen(kw_only=True)
class Stops:
    """Where generation stops.

    Attributes:
        tokens: ids of the tokens that the model's folder names.
        fixed: whether the result can name no others, as an adapter: what loads one asks the base model.
    """

    tokens: tuple[int, ...] = ()
    fixed: bool = False

    def with_eos(self, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
        """Return the tokens that the result stops at, of which the end-of-text token is one."""
        return frozenset({*self.tokens, tokenizer.eos_token_id} - {None})

    def closing(self, tokenizer: PreTrainedTokenizerBase, end: int) -> int | None:
        """Return the token that must follow an end at which generation does not stop and cannot be made to; None if it can."""
        if not self.fixed or not self.tokens or end in self.tokens:
            return None
        return int(tokenizer.eos_token_id) if tokenizer.eos_token_id in self.tokens else self.tokens[0]


def closed(tokenizer: PreTrainedTokenizerBase, sample: Sample, stops: Stops) -> Sample:
    """Return a sample that teaches a token that generation stops at behind its last one, if that is not one already."""
    ids, labels = list(sample.ids), list(sample.labels)
    _close(ids, labels, _last_token(tokenizer, ids, 0, len(ids)), stops, tokenizer)
    return attrs.evolve(sample, ids=ids, labels=labels)


def _close(ids: list[int], labels: list[int], end: int, stops: Stops, tokenizer: PreTrainedTokenizerBase) -> None:
    token = stops.closing(tokenizer, ids[end])
    if token is None:
        return
    if end + 1 == len(ids):
        ids.append(token)
        labels.append(token)
    else:
        labels[end + 1] = token  # instead of a line break, or of what begins the next message


def with_ends(
    tokenizer: PreTrainedTokenizerBase,
    sample: Sample,
    ends: TurnEnds,
    stops: Stops,
    *,
    calls: bool | None,
    whole_turns: bool,
) -> Sample:
    """Return a sample whose supervised turns teach the model to stop.

    - A token behind a turn is supervised if generation stops at it, although it begins the next message (GLM 4.5).
    - Where the template ends an earlier turn differently than the last one, or not at all, the label is the token of a last
      turn, at which generation stops; the input stays as the template writes it (GPT-OSS).
    - A last turn without any end gets the token that would follow it, or the end-of-text token.

    Args:
        tokenizer: the model's tokenizer.
        sample: the sample.
        ends: how the template ends turns.
        stops: where generation stops.
        calls: whether the last message is a call, rather than an answer; None if it is not a supervised turn.
        whole_turns: whether each run of supervised tokens is a turn, rather than possibly a part of one.
    """
    ids, labels, found = list(sample.ids), list(sample.labels), stops.with_eos(tokenizer)
    for begin, end in _runs(sample.labels) if ends.known else ():
        last = _last_token(tokenizer, ids, begin, end)
        if ids[last] not in found and ids[last] not in ends.last:
            _end_turn(tokenizer, ids, labels, ends, found, last=last, end=end, whole_turns=whole_turns)
        elif whole_turns and end < len(ids):
            _close(ids, labels, last, stops, tokenizer)
    if calls is None:
        return attrs.evolve(sample, labels=labels)
    if not ends.last and ids[_last_token(tokenizer, ids, 0, len(ids))] not in found:
        token = _token_after(tokenizer, ends.next_call if calls else ends.next_answer, found)
        ids, labels = ([*ids, token], [*labels, token]) if token is not None else (ids, labels)
    return closed(tokenizer, attrs.evolve(sample, ids=ids, labels=labels), stops)


def _end_turn(
    tokenizer: PreTrainedTokenizerBase,
    ids: list[int],
    labels: list[int],
    ends: TurnEnds,
    stops: Collection[int],
    *,
    last: int,
    end: int,
    whole_turns: bool,
) -> None:
    """Let a turn that the conversation goes on after, and that has no end of its own, teach the model to stop."""
    if end < len(ids) and (ids[end] in stops or ids[end] in ends.last):
        labels[end] = ids[end]
    elif ends.last and ids[last] == ends.next_answer:
        labels[last] = _stopping(ends, stops)
    elif whole_turns and end < len(ids) and ids[last] != ends.call:
        token = _stopping(ends, stops) if ends.last else _token_after(tokenizer, ends.next_answer, stops)
        labels[end] = labels[end] if token is None else token


def _token_after(tokenizer: PreTrainedTokenizerBase, following: int | None, stops: Collection[int]) -> int | None:
    """Return the token that ends a turn without an end: what begins the next message, if generation stops at it."""
    return following if following in stops else tokenizer.eos_token_id


def unstopped(ends: TurnEnds, stops: Collection[int]) -> list[int]:
    """Return the tokens that end turns of a template although generation does not stop at them."""
    found = [] if not ends.last or set(ends.last) & set(stops) else [ends.last[0]]
    if ends.call is not None and ends.call not in {*stops, *ends.last}:
        found.append(ends.call)
    return found


def _stopping(ends: TurnEnds, stops: Collection[int]) -> int:
    return next((token for token in ends.last if token in stops), ends.last[0])


def _runs(labels: list[int]) -> list[tuple[int, int]]:
    """Return where each run of supervised tokens begins and ends."""
    supervised = np.zeros(len(labels) + 2, bool)  # with a label that is not at each end
    supervised[1:-1] = np.asarray(labels) != IGNORED
    edges = np.flatnonzero(supervised[1:] != supervised[:-1]).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _last_token(tokenizer: PreTrainedTokenizerBase, ids: list[int], begin: int, end: int) -> int:
    """Return the position of the last token of a turn that is more than white space."""
    return next((i for i in range(end - 1, begin - 1, -1) if not _is_blank(tokenizer, ids[i])), end - 1)


@functools.lru_cache(maxsize=4096)
def _is_blank(tokenizer: PreTrainedTokenizerBase, token: int) -> bool:
    return token not in added_tokens(tokenizer) and not tokenizer.decode([token]).strip()
