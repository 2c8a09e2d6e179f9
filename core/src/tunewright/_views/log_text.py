"""A job's log as lines for people: plain lines as they are, events in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tunewright._views.narrator import Narrator
from tunewright.events import parse_event
from tunewright.status.status import LogLine
from tunewright.status.summary import Summary


def readable(lines: Iterable[LogLine]) -> Iterator[str]:
    """Yield the lines of a log with its events in words, each as soon as it comes; those that say nothing to people are left out."""
    told: dict[tuple[str, int], tuple[Narrator, Summary]] = {}
    for line in lines:
        event = parse_event(line.text)
        if event is None:
            yield line.text
            continue
        narrator, summary = told.setdefault((line.container, line.worker), (Narrator(all_steps=True), Summary()))
        summary.add(event)
        if text := narrator.tell(event, summary):
            yield text
