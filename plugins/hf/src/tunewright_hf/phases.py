"""What a check and a training say that they are doing; see `tunewright.events.Phase`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import attrs

from tunewright.events import Event, Phase, announced
from tunewright.providers import TrainRun

LONG = 1.0
"""Seconds after which what is usually short is worth an event."""


def say(run: TrainRun, name: str, text: str) -> None:
    """Emit that a phase begins. Only rank 0 does it."""
    if run.rank == 0:
        run.emit(Phase(name=name, text=text))


def lasting(
    run: TrainRun, phase: Phase, *, after: float = 0.0, count: Callable[[], int] | None = None
) -> AbstractContextManager[None]:
    """Emit a phase and what is counted while it lasts; see `tunewright.events.announced`. Only rank 0 does it."""
    return announced(run.emit, phase, after=after, count=count) if run.rank == 0 else contextlib.nullcontext()


def phases_of(run: TrainRun, name: str) -> Callable[[Event], None]:
    """Return what passes on only the phases of one dataset of a mixture, whose other events would be taken for the whole."""

    def emit(event: Event) -> None:
        if isinstance(event, Phase):
            run.emit(attrs.evolve(event, text=f"{name}: {event.text}"))

    return emit
