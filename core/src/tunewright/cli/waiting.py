"""What a command is doing before it has something to show."""

from __future__ import annotations

from contextlib import AbstractContextManager


def waiting(*, events: bool = False) -> AbstractContextManager[None]:
    """Say what the client does, if it takes longer than a moment: in words on standard error, or as events on standard output."""
    from tunewright._views.waiting import shown_as_event, shown_as_text, told

    return told(shown_as_event if events else shown_as_text)
