"""How often a phase is reported: soon at first, so that nobody looks at an empty screen, and few times in all, as logs are kept."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import attrs

from tunewright.events._event import Event
from tunewright.events._phases import Phase

_FIRST, _LAST = 1.0, 60.0  # seconds between two reports
_SHARE = 50  # a report is due when a fiftieth of the time so far has passed again


@attrs.define
class Pace:
    """When to report again: after a second at first, and then less and less often, at last once a minute.

    An hour gets about 250 reports, and each further one 60.

    Args:
        clock: returns seconds.
    """

    _clock: Callable[[], float] = time.monotonic
    _began: float = attrs.field(init=False)
    _last: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._began = self._last = self._clock()

    def pause(self) -> float:
        """Return the seconds from one report to the next."""
        return min(max(_FIRST, (self._clock() - self._began) / _SHARE), _LAST)

    def is_due(self) -> bool:
        """Return whether to report now; the next report is due after a pause from then on."""
        now = self._clock()
        if now - self._last < self.pause():
            return False
        self._last = now
        return True


@contextlib.contextmanager
def announced(
    emit: Callable[[Event], None], phase: Phase, *, after: float = 0.0, count: Callable[[], int] | None = None
) -> Iterator[None]:
    """Emit a phase, and while the body runs, again with what is done, at a `Pace`.

    Args:
        emit: receives the events, from a thread of its own unless it is for the first one at once.
        phase: what begins.
        after: seconds that the body may take before the phase is worth an event.
        count: returns how much is done; None if nothing is counted.
    """
    if not after:
        emit(phase)
        if count is None:
            yield
            return
    ended = threading.Event()
    thread = threading.Thread(target=_report, args=(emit, phase, after, count, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _report(
    emit: Callable[[Event], None],
    phase: Phase,
    after: float,
    count: Callable[[], int] | None,
    ended: threading.Event,
) -> None:
    pace, last = Pace(), None if after else phase
    pause = after or pace.pause()
    while not ended.wait(pause):
        now = phase if count is None else attrs.evolve(phase, done=count())
        if now != last:
            with contextlib.suppress(OSError):  # nobody reads it any more, or what is counted is gone
                emit(now)
        last, pause = now, pace.pause()
