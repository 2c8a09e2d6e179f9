"""What a job's events add up to."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from tunewright.events import Event, Json


@attrs.define(kw_only=True)
class Summary:
    """Grows with each event.

    Attributes:
        first_loss: of the first step that was logged.
        last_loss: of the last one.
        eval_loss: of the last evaluation.
        step: the last step.
        total_steps: steps in the whole run.
        tokens_per_second: at the last step.
        resumed_from: the step of the checkpoint that the newest attempt started from.
        attempt: how often the workers were started since the last new checkpoint.
        samples: prompt → generated text.
        failure: the `failed` event, if there was one since the last start.
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
    failure: Mapping[str, Json] | None = None

    def add(self, event: Event) -> None:
        """Take one event in; unknown ones, and unknown keys, are for others."""
        match event:
            case {"event": "start"}:
                self.total_steps = _int(event.get("total_steps"))
                self.resumed_from = _int(event.get("resumed_from"))
                self.failure = None
            case {"event": "step"}:
                self._step(event)
            case {"event": "eval", "eval_loss": float(loss)}:
                self.eval_loss = loss
            case {"event": "sample", "prompt": str(prompt), "text": str(text)}:
                self.samples[prompt] = text
            case {"event": "attempt", "attempt": int(attempt)}:
                self.attempt = attempt
            case {"event": "failed"}:
                self.failure = event

    def _step(self, event: Event) -> None:
        self.step = _int(event.get("step")) or self.step
        self.total_steps = _int(event.get("total_steps")) or self.total_steps
        if isinstance(rate := event.get("tokens_per_second"), int | float):
            self.tokens_per_second = float(rate)
        if isinstance(loss := event.get("loss"), int | float):
            self.last_loss = float(loss)
            self.first_loss = self.last_loss if self.first_loss is None else self.first_loss

    @property
    def loss_reduction(self) -> float | None:
        """By which part of the first loss the last one is lower: 0.4 is 40%."""
        if not self.first_loss or self.last_loss is None:
            return None
        return 1 - self.last_loss / self.first_loss


def progress_of(event: Event, *, fetching: bool) -> str | None:
    """How far a job is, in a few words, if the event says so: "model, 43%" while it fetches, "step 12/100" after it."""
    match event:
        case {"event": "progress", "item": str(item), "done": int(done)} if fetching:
            total = event.get("total")
            return f"{item}, {done * 100 // total}%" if isinstance(total, int) and total else f"{item}, {done:,} bytes"
        case {"event": "step", "step": int(step), "total_steps": int(total)} if not fetching:
            return f"step {step}/{total}"
    return None


def _int(value: Json) -> int | None:
    return value if isinstance(value, int) else None
