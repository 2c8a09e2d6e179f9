"""Trained models: what a trainer gives back to use its result with, for `tunewright chat`, `generate` and `merge`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

Message = Mapping[str, str]
"""A message of a conversation: its `role` ("system", "user" or "assistant") and its `content`."""


@attrs.frozen(kw_only=True)
class Sampling:
    """How answers are generated.

    Attributes:
        max_tokens: tokens of an answer, at most.
        temperature: 0 takes the most likely token each time; larger values make answers more varied.
        seed: of the random choices; None for other ones each time.
        as_text: continue the last message's text as it is, without the model's chat template.
    """

    max_tokens: int = 512
    temperature: float = 0.0
    seed: int | None = None
    as_text: bool = False


class TrainedModel(ABC):
    """A finished model, loaded by the plugin that trained it."""

    @abstractmethod
    def answer(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """Yield the answer to a conversation, piece by piece as it is generated.

        Args:
            messages: the conversation so far; the last message is the user's.
            sampling: how to generate.

        Raises:
            RequestError: the model cannot answer this conversation.
        """

    @abstractmethod
    def merge(self, folder: Path) -> None:
        """Write the model with its adapter merged into the weights, as a model that needs no adapter library.

        Args:
            folder: a folder that does not exist yet.

        Raises:
            RequestError: the model has no adapter, or one that cannot be merged.
        """
