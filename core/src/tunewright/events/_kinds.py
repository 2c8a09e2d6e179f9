"""One class for each event; those of every step are in `_phases`, as defining the others takes a fetch 15 ms."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import attrs

from tunewright._convert import to_dict
from tunewright.events._event import ONLY_IF_KNOWN, Event, Json, numbers_of
from tunewright.events._phases import Fetched, Phase, Progress, Retry
from tunewright.runner.failure import Failure


@attrs.frozen(kw_only=True)
class Attempt(Event):
    """A worker starts its training command. Sent by `run`.

    Attributes:
        attempt: number of the start since the newest checkpoint, from 1.
        limit: how many are allowed.
        after: how the start before it ended, as its pod may be gone with its log; None for nothing known.
    """

    wire_name: ClassVar[str] = "attempt"

    attempt: int
    limit: int | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)
    after: str | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)


@attrs.frozen(kw_only=True)
class Start(Event):
    """The training begins, or resumes. Sent by the trainer.

    Attributes:
        total_steps: optimizer steps in the whole run.
        epochs: passes over the dataset.
        world_size: number of ranks.
        resumed_from: step of the checkpoint that it resumes from; None for a fresh start.
    """

    wire_name: ClassVar[str] = "start"

    total_steps: int | None = None
    epochs: float | None = None
    world_size: int = 1
    resumed_from: int | None = None


@attrs.frozen(kw_only=True)
class Environment(Event):
    """What the training runs on. Sent by the trainer, before `start`.

    Attributes:
        device: the device of rank 0: "NVIDIA H100 80GB HBM3", or "cpu".
        devices: number of devices, over all workers.
        libraries: name → version of the libraries that compute the result, and of Python.
    """

    wire_name: ClassVar[str] = "environment"

    device: str
    devices: int = 1
    libraries: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)


@attrs.frozen(kw_only=True)
class Data(Event):
    """A split of the data is read. Sent by the trainer before the first step, and for streamed data at the end.

    Further counts are in `extra`.

    Attributes:
        split: "train" or "evaluation"; of each dataset of a mixture also "NAME: train" and "NAME: evaluation".
        rows: number of rows that were read.
        samples: number of rows that are trained, or evaluated, on.
        dropped: number of the other rows.
        reasons: why rows were dropped → how many.
    """

    wire_name: ClassVar[str] = "data"

    split: str
    rows: int
    samples: int
    dropped: int = 0
    reasons: Mapping[str, int] = attrs.field(factory=dict, converter=to_dict)


@attrs.frozen(kw_only=True)
class Step(Event):
    """Measurements at an optimizer step. Sent by the trainer; further numbers are in `extra`.

    Attributes:
        step: the optimizer step, from 1.
        total_steps: optimizer steps in the whole run.
        loss: mean training loss since the last such event; None if it is NaN or infinite, or not measured.
        epoch: passes over the dataset so far.
        learning_rate: at this step.
        tokens_per_second: of one rank, since the last such event.
        sources: by dataset of a mixture, since the last such event: "loss", and the "samples" and "tokens" trained on.
    """

    wire_name: ClassVar[str] = "step"

    step: int
    total_steps: int | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)
    loss: float | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)
    epoch: float | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)
    learning_rate: float | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)
    tokens_per_second: float | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)
    sources: Mapping[str, Mapping[str, float]] | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)

    @property
    def numbers(self) -> dict[str, float]:
        """All numbers of the event, those in `extra` included."""
        return numbers_of(self)


@attrs.frozen(kw_only=True)
class Eval(Event):
    """The result of an evaluation. Sent by the trainer; further numbers are in `extra`.

    Attributes:
        step: the optimizer step after which it was evaluated.
        eval_loss: mean loss on the evaluation dataset.
        eval_accuracy: share of correct predictions, for trainers that measure it.
        sources: by dataset of a mixture that was evaluated on: its "loss".
    """

    wire_name: ClassVar[str] = "eval"

    step: int | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)
    eval_loss: float | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)
    eval_accuracy: float | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)
    sources: Mapping[str, Mapping[str, float]] | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)

    @property
    def numbers(self) -> dict[str, float]:
        """All numbers of the event, those in `extra` included."""
        return numbers_of(self)


@attrs.frozen(kw_only=True)
class Checkpoint(Event):
    """A checkpoint is complete. Sent by the trainer.

    Attributes:
        step: the optimizer step.
        path: its folder in the container.
    """

    wire_name: ClassVar[str] = "checkpoint"

    step: int
    path: str | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)


@attrs.frozen(kw_only=True)
class Sample(Event):
    """What the model generates. Sent by the trainer, at the end, and by some trainers before the first step too.

    Attributes:
        prompt: what the model was given.
        text: what it generated.
        step: the optimizer step after which it was generated: 0 before the training; None at the end.
    """

    wire_name: ClassVar[str] = "sample"

    prompt: str
    text: str
    step: int | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)

    @property
    def before_training(self) -> bool:
        """Whether the model had not been trained yet."""
        return self.step == 0


@attrs.frozen(kw_only=True)
class Saved(Event):
    """The finished model is in the output folder. Sent by the trainer.

    Attributes:
        path: its folder in the container.
    """

    wire_name: ClassVar[str] = "saved"

    path: str


@attrs.frozen(kw_only=True)
class Uploaded(Event):
    """A part of the output is uploaded. Sent by the launcher, from rank 0.

    Attributes:
        item: "model", or "checkpoint-<step>".
        uri: where it was uploaded to.
        files: number of files.
        bytes: bytes of all files.
    """

    wire_name: ClassVar[str] = "uploaded"

    item: str
    uri: str
    files: int
    bytes: int


@attrs.frozen(kw_only=True)
class Failed(Event):
    """The job has failed for good. Sent by the container that failed, and once more by `run`, which ends the job.

    On the wire the failure's own attributes stand beside `event`: `code`, `cause`, `remedy`, and `container` and `worker` where
    they are known. Without a `container` it is the one that sends the event.

    Attributes:
        failure: why, and what to do.
    """

    wire_name: ClassVar[str] = "failed"

    failure: Failure

    def _keys(self) -> dict[str, Json]:
        return {**self.failure.to_dict()}

    @classmethod
    def from_keys(cls, keys: Mapping[str, Json]) -> Failed | None:
        try:
            failure = Failure.from_dict(keys)
        except ValueError:
            return None
        known = {f.name for f in dataclasses.fields(Failure)}
        return cls(failure=failure, extra={k: v for k, v in keys.items() if k not in known})


@attrs.frozen(kw_only=True)
class ClusterEvent(Event):
    """An event of Kubernetes itself about the job, its pods or its claims. From the Kubernetes backends.

    Attributes:
        time: when it was last seen, as the API writes it.
        type: "Normal" or "Warning".
        reason: why, in one word: "FailedScheduling".
        about: kind and name of the object: "Pod/sft-worker-0".
        message: what happened.
        count: how often.
    """

    wire_name: ClassVar[str] = "cluster"

    time: str
    type: str = "Normal"
    reason: str = ""
    about: str = ""
    message: str = ""
    count: int = 1


@attrs.frozen(kw_only=True)
class Log(Event):
    """A plain line of a log. Added by the client with `--json`, where there is nothing but events on standard output.

    Lines of the user's own code are shown as they come. After a failure, the last lines of the container that failed follow.

    Attributes:
        container: the container that wrote it.
        worker: index of the worker.
        text: the line.
    """

    wire_name: ClassVar[str] = "log"

    container: str
    worker: int
    text: str


@attrs.frozen(kw_only=True)
class End(Event):
    """How the job ended. Added by the client with `--json`, as the last event.

    Attributes:
        name: the job's name.
        state: its state: "Succeeded", "Failed" or "Suspended".
        detail: about the state, for people.
        failure: why it failed; left out unless it did.
        result: where the finished model is.
        first_loss: loss of the first step that was logged.
        last_loss: loss of the last one.
        eval_loss: loss of the last evaluation.
        samples: prompt → generated text.
    """

    wire_name: ClassVar[str] = "end"

    name: str
    state: str
    detail: str = ""
    failure: Failure | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)
    result: str | None = None
    first_loss: float | None = None
    last_loss: float | None = None
    eval_loss: float | None = None
    samples: Mapping[str, str] = attrs.field(factory=dict, converter=to_dict)

    def _keys(self) -> dict[str, Json]:
        found = super()._keys()
        return found | ({"failure": {**self.failure.to_dict()}} if self.failure else {})


EVENTS: Mapping[str, type[Event]] = {
    cls.wire_name: cls
    for cls in (
        *(
            Phase,
            Retry,
            Progress,
            Fetched,
            Attempt,
            Environment,
            Start,
            Data,
            Step,
            Eval,
            Checkpoint,
            Sample,
            Saved,
            Uploaded,
            Failed,
        ),
        *(ClusterEvent, Log, End),
    )
}
"""Name on the wire → class, in the order in which a job sends them."""
