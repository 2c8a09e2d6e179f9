"""How fast something moves, and how long it will take."""

from __future__ import annotations

import attrs


@attrs.frozen
class Start:
    """Where something began, from which its speed is computed.

    Attributes:
        done: how much was done.
        at: when, in seconds of any clock.
    """

    done: int
    at: float

    def seconds_left(self, done: int, total: int | None, now: float) -> float | None:
        """Return the seconds that are left at the speed so far; None while that is unknown."""
        passed, moved = now - self.at, done - self.done
        return (total - done) * passed / moved if total and moved > 0 and passed > 0 else None
