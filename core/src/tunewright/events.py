"""Events: what the containers tell the client, one JSON line each on standard output.

The client draws its progress from them and hides them from the plain log. An event is an object with the key `event`;
these are in use:

| event      | further keys                                                              | sent by          |
|------------|---------------------------------------------------------------------------|------------------|
| `progress` | `phase` ("fetch"), `item` (the slot), `done`, `total` (bytes)              | `fetch`          |
| `fetched`  | `item`, `files`, `bytes`, `revision`, `cached` (the marker matched already), else `seconds` | `fetch` |
| `start`    | `total_steps`, `epochs`, `world_size`, `resumed_from` (a step or null)     | the trainer      |
| `step`     | `step`, `total_steps`, `loss`, `epoch`, `tokens_per_second`, …             | the trainer      |
| `eval`     | `step`, `eval_loss`, …                                                     | the trainer      |
| `checkpoint` | `step`, `path`                                                           | the trainer      |
| `sample`   | `prompt`, `text`                                                           | the trainer      |
| `saved`    | `path`                                                                     | the trainer      |
| `uploaded` | `item` ("model", "checkpoint-<step>"), `uri`, `files`, `bytes`              | the launcher     |
| `attempt`  | `attempt`, `limit`                                                         | `run`            |
| `failed`   | `code`, `cause`, `remedy`                                                  | `fetch`, `run`   |

The `kubernetes` backend adds the cluster's own, about the job, its pods and its claims:

| event      | further keys                                                              |
|------------|---------------------------------------------------------------------------|
| `cluster`  | `time`, `type` ("Normal", "Warning"), `reason`, `about` ("Pod/name"), `message`, `count` |

With `--json` the client adds two of its own, so that there is nothing else on standard output:

| event      | further keys                                                              | when             |
|------------|---------------------------------------------------------------------------|------------------|
| `log`      | `step`, `worker`, `text`: a plain line of the user's own code, or, after a failure, one of the last lines of the step that failed | as it comes; at the end |
| `end`      | `name`, `state`, `detail`, `result`, `first_loss`, `last_loss`, `eval_loss`, `samples` | last |
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from typing import TextIO

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Event = Mapping[str, Json]

# torchrun's --tee puts this before each line of a rank.
_RANK_PREFIX = re.compile(r"^\[[A-Za-z_]+(\d+)\]:")


def format_event(event: Event) -> str:
    """One line of ASCII without its line break. NaN and infinities, which JSON does not have, become null."""
    # ASCII, because a log may be read or written in any encoding, and Unicode has line breaks of its own.
    return json.dumps({k: _finite(v) for k, v in event.items()}, separators=(", ", ": "))


def emit(event: Event, stream: TextIO | None = None) -> None:
    """Print an event, whole, at once: lines of several threads and processes must not mix."""
    out = stream or sys.stdout
    out.write(format_event(event) + "\n")
    out.flush()


def parse_event(line: str) -> dict[str, Json] | None:
    """The event in a line of a log, or None if the line is an ordinary one."""
    text = _RANK_PREFIX.sub("", line, count=1).strip()
    if not text.startswith('{"event"'):
        return None
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event.get("event"), str) else None


def _finite(value: Json) -> Json:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
