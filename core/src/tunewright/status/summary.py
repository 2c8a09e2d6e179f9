"""The summary of a job, folded from its events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from tunewright.errors import Failure
from tunewright.events import (
    Attempt,
    Checkpoint,
    Eval,
    Event,
    Failed,
    Fetched,
    Phase,
    Progress,
    Retry,
    Sample,
    Start,
    Step,
)


@attrs.define(kw_only=True)
class Summary:
    """What a job's events add up to; it grows with each one.

    Attributes:
        first_loss: loss of the first step that was logged.
        last_loss: loss of the last one.
        eval_loss: loss of the last evaluation.
        step: the last step.
        total_steps: steps in the whole run.
        tokens_per_second: at the last step.
        resumed_from: step of the checkpoint that the newest attempt started from.
        attempt: how often the workers were started since the newest checkpoint.
        samples: prompt → generated text.
        failure: the first failure since the training last started, if there was one.
    """

    first_loss: float | None = None
    last_loss: float | None = None
    eval_loss: float | None = None
    step: int = 0
    total_steps: int | None = None
    tokens_per_second: float | None = None
    resumed_from: int | None = None
    attempt: int = 1
    samples: dict[str, str] = attrs.field(factory=dict)
    failure: Failure | None = None

    def add(self, event: Event) -> None:
        """Add an event; those that do not concern a summary change nothing."""
        match event:
            case Start():
                self.total_steps, self.resumed_from = event.total_steps, event.resumed_from
                self.failure = None
            case Step():
                self._step(event)
            case Eval(eval_loss=float(loss)):
                self.eval_loss = loss
            case Sample(before_training=False):
                self.samples[event.prompt] = event.text
            case Attempt():
                self.attempt = event.attempt
            case Failed():
                self.failure = self.failure or event.failure

    def _step(self, event: Step) -> None:
        self.step = event.step
        self.total_steps = event.total_steps or self.total_steps
        if event.tokens_per_second is not None:
            self.tokens_per_second = float(event.tokens_per_second)
        if event.loss is not None:
            self.last_loss = float(event.loss)
            self.first_loss = self.last_loss if self.first_loss is None else self.first_loss

    @property
    def loss_reduction(self) -> float | None:
        """By which share of the first loss the last one is lower: 0.4 means 40%."""
        if not self.first_loss or self.last_loss is None:
            return None
        return 1 - self.last_loss / self.first_loss


def progress_of(newest_first: Iterable[Event], *, fetching: bool) -> str:
    """Describe what a container is doing, from its events: "model, 43%" during a download, and later "step 12/100".

    Args:
        newest_first: its events, the newest first.
        fetching: whether it is an init container.

    Returns:
        The description; "" if the events do not say it.
    """
    events = iter(newest_first)
    over = False  # whether a later event has ended the phases that follow here
    for event in events:
        if isinstance(event, Attempt):  # what follows is of an earlier one
            return ""
        if (text := _counted(event, fetching=fetching)) is not None:
            retry = _no_further_since(event, events) if isinstance(event, Progress) else None
            return retry_text(retry) if retry else text
        if not over and isinstance(event, Phase | Retry):
            return phase_text(event) if isinstance(event, Phase) else retry_text(event)
        over = over or isinstance(event, Eval | Checkpoint | Fetched)
    return ""


def _no_further_since(now: Progress, older: Iterator[Event]) -> Retry | None:
    """Return the retry since which a download has got no further, by what a status shows of it; None if there is none.

    A download that is tried again says at once how far it is: that must not hide why it gets no further.
    """
    retry: Retry | None = None
    for event in older:
        match event:
            case Retry(about=now.slot):
                retry = retry or event
            case Progress(slot=now.slot) if retry:
                return retry if _shown(event) >= _shown(now) else None
            case Phase(name="stall"):
                continue
            case Attempt() | Phase():
                break
    return None if _shown(now) else retry


def _shown(progress: Progress) -> int:
    return progress.done * 100 // progress.total if progress.total else progress.done


def _counted(event: Event, *, fetching: bool) -> str | None:
    match event:
        case Progress() if fetching and (event.done or event.total):
            return f"{event.slot}, {_shown(event)}%" if event.total else f"{event.slot}, {_shown(event):,} bytes"
        case Step(total_steps=int(total)) if not fetching:
            return f"step {event.step}/{total}"
        case Start(total_steps=int(total)) if not fetching:
            return f"step {event.resumed_from or 0}/{total}"
    return None


def phase_text(phase: Phase) -> str:
    """Describe a phase: "tokenising the train split: 12,000 of 200,000 rows"."""
    if phase.done is None:
        return phase.text
    of = f" of {phase.total:,}" if phase.total is not None else ""
    return f"{phase.text}: {phase.done:,}{of}{f' {phase.unit}' if phase.unit else ''}"


def retry_text(retry: Retry) -> str:
    """Describe what failed, and when it is tried again."""
    when = f"in {retry.seconds:.0f} s" if round(retry.seconds) else "now"
    return f"{retry.about}: {retry.cause} Trying again {when}, attempt {retry.attempt + 1}."
