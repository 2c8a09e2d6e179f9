"""Which events are worth a line, where lines stay: in a pipe, in a log, above the bars."""

from __future__ import annotations

from tunewright._views.text import describe
from tunewright.events import Attempt, Event, Phase, Progress, Step
from tunewright.status.summary import Summary

_TENTHS = 10  # lines for what is counted, however long it takes
_TWENTIETHS = 20  # lines for the steps of a run


class Narrator:
    """Describe events, each phase once and what is counted about ten times.

    Args:
        all_steps: describe every logged step, rather than about twenty of a run.
    """

    def __init__(self, *, all_steps: bool = False) -> None:
        self._all_steps = all_steps
        self._part = -1
        self._last: str | None = None
        self._tenths: dict[str, int] = {}

    def tell(self, event: Event, summary: Summary) -> str | None:
        """Return a line for an event, or None; `summary` already includes it."""
        if not self._is_worth_a_line(event, summary):
            return None
        text = describe(event, summary)
        if text is None or (text == self._last and isinstance(event, Phase | Attempt)):
            return None  # several workers say the same
        self._last = text
        return text

    def _is_worth_a_line(self, event: Event, summary: Summary) -> bool:
        match event:
            case Step() if not self._all_steps:
                part = summary.step * _TWENTIETHS // summary.total_steps if summary.total_steps else summary.step
                fresh, self._part = part != self._part, part
                return fresh
            case Phase(done=int(done)):
                return not done or self._is_further(event.text, done, event.total)
            case Progress():
                return self._is_further(event.slot, event.done, event.total)
        return True

    def _is_further(self, what: str, done: int, total: int | None) -> bool:
        """Return whether another tenth is done; of an unknown total, whether it is twice as much."""
        tenth = done * _TENTHS // total if total else done.bit_length()
        before = self._tenths.get(what, 0)
        self._tenths[what] = tenth
        return tenth > before and not (total and done >= total)
