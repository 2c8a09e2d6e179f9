"""Trained models: what a trainer gives back to use its result with, for `tunewright chat`, `generate`, `merge` and `push`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from tunewright.errors import RequestError

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


class UsableResult:
    """What a trainer does with a result, once it is finished. All of it is called on the client, and all of it is optional."""

    __slots__ = ()

    def load_result(self, folder: Path, model: Path | None) -> TrainedModel:  # noqa: ARG002 - for subclasses
        """Load a finished model, for `tunewright chat`, `generate` and `merge`.

        Args:
            folder: the result of a training, as the trainer wrote it to `run.result`.
            model: folder of the model that was trained, for results that are adapters; None where the user named none.

        Raises:
            RequestError: the result cannot be loaded, or the trainer does not support it.
        """
        remedy = "Load its result with the library that it saves for, or ask its author to implement load_result()."
        problem = "does not load what it trained"
        raise RequestError(problem, field="trainer", value=type(self).__name__, remedy=remedy)

    def result_commands(self) -> tuple[str, ...]:
        """Return the commands that fit the result of a training with this configuration: "chat", "merge".

        `tunewright` names them at the end of a job. By default "chat", if the trainer implements `load_result`.
        """
        return () if type(self).load_result is UsableResult.load_result else ("chat",)

    def check_result(self, folder: Path) -> None:
        """Refuse a folder that is not a finished result, for `tunewright push`. Needs no heavy libraries.

        Raises:
            RequestError: it is something else, or incomplete.
        """
