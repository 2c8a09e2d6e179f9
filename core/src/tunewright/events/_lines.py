"""Events as lines of a log."""

from __future__ import annotations

import json
import math
import re
import sys
from typing import TextIO

from tunewright.events._event import CustomEvent, Event, Json

# torchrun --tee prefixes each line of a rank with this.
_RANK_PREFIX = re.compile(r"^\[[A-Za-z_]+(\d+)\]:")


def format_event(event: Event) -> str:
    """Return an event as one line of ASCII, without its line break. NaN and infinities, which JSON lacks, become null."""
    # ASCII, because a log may be read or written in any encoding, and Unicode has line breaks of its own.
    return json.dumps({k: _finite(v) for k, v in event.to_dict().items()}, separators=(", ", ": "))


def emit(event: Event, stream: TextIO | None = None) -> None:
    """Print an event at once and in one piece: the lines of several threads and processes must not mix."""
    out = stream or sys.stdout
    out.write(format_event(event) + "\n")
    out.flush()


def parse_event(line: str) -> Event | None:
    """Return the event in a line of a log, or None if the line is a plain one.

    An event whose name is unknown, or whose keys are not those of its class, is a `CustomEvent`.
    """
    text = _RANK_PREFIX.sub("", line, count=1).strip()
    if not text.startswith('{"event"'):
        return None
    try:
        keys = json.loads(text)
    except (ValueError, RecursionError):
        return None
    name = keys.pop("event")
    if not isinstance(name, str):
        return None
    from tunewright.events._kinds import EVENTS

    known = EVENTS.get(name)
    return (known and known.from_keys(keys)) or CustomEvent(event=name, extra=keys)


def _finite(value: Json) -> Json:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
