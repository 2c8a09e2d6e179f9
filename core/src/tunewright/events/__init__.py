"""Events: what the containers report to the client, one JSON line each on standard output.

The client draws its progress from them and hides them from the plain log. On the wire an event is an object whose key `event`
says which one it is, and whose other keys are the attributes of its class:

    {"event": "progress", "phase": "fetch", "slot": "model", "done": 1048576, "total": 20200000}

`parse_event` reads a line and `format_event` writes one. Keys that a class does not have are kept in `extra`, and an event that
this module does not know is a `CustomEvent`, so what other plugins send survives.

The events of a training are imported on first use: a fetch does not need their classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunewright._lazy import lazy_names
from tunewright.events._event import CustomEvent, Event, Json
from tunewright.events._lines import emit, format_event, parse_event
from tunewright.events._pace import Pace, announced
from tunewright.events._phases import Fetched, Phase, Progress, Retry

if TYPE_CHECKING:
    from tunewright.events._kinds import (
        EVENTS,
        Attempt,
        Checkpoint,
        ClusterEvent,
        Data,
        End,
        Environment,
        Eval,
        Failed,
        Log,
        Sample,
        Saved,
        Start,
        Step,
        Uploaded,
    )

__all__ = [
    "EVENTS",
    "Attempt",
    "Checkpoint",
    "ClusterEvent",
    "CustomEvent",
    "Data",
    "End",
    "Environment",
    "Eval",
    "Event",
    "Failed",
    "Fetched",
    "Json",
    "Log",
    "Pace",
    "Phase",
    "Progress",
    "Retry",
    "Sample",
    "Saved",
    "Start",
    "Step",
    "Uploaded",
    "announced",
    "emit",
    "format_event",
    "parse_event",
]

__getattr__ = lazy_names(
    __name__,
    {
        "tunewright.events._kinds": [
            "EVENTS",
            "Attempt",
            "Checkpoint",
            "ClusterEvent",
            "Data",
            "End",
            "Environment",
            "Eval",
            "Failed",
            "Log",
            "Sample",
            "Saved",
            "Start",
            "Step",
            "Uploaded",
        ]
    },
)
