"""Jobs side by side, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from tunewright._page.document import settings
from tunewright._views.text import as_json as to_line
from tunewright._views.text import facts
from tunewright.cli.show import table
from tunewright.events import Json
from tunewright.status.report import JobReport

_SHOWN = ("state", "took", "steps", "loss", "evaluation loss", "speed", "peak memory", "MFU", "data wait", "device")


def comparison(reports: Sequence[JobReport], *, as_json: bool) -> None:
    """Print the outcome of each job, and the settings in which they differ."""
    names = [report.status.name for report in reports]
    differing = differences([settings(report) for report in reports])
    outcomes = [facts(report) for report in reports]
    if as_json:
        found: dict[str, Json] = {
            "jobs": [report.to_dict() for report in reports],
            "differences": {key: list(values) for key, values in differing.items()},
        }
        click.echo(to_line(found))
        return
    known = [title for title in _SHOWN if any(title in outcome for outcome in outcomes)]
    table(["", *names], [[title, *(outcome.get(title, "") for outcome in outcomes)] for title in known])
    if differing:
        table(["DIFFERENT SETTING", *names], [[key, *map(_text, values)] for key, values in differing.items()])
    else:
        click.echo("Their job files differ in nothing but their names.")


def differences(settings_of: Sequence[dict[str, Json]]) -> dict[str, list[Json]]:
    """Return the settings in which jobs differ: dotted key → the value of each job; None where it is not set."""
    keys = dict.fromkeys(key for one in settings_of for key in one if key != "name")
    found = {key: [one.get(key) for one in settings_of] for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}


def _text(value: Json) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
