"""What the page shows of one job, as JSON values: made from its report, for the live page and for the frozen one alike."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

import attrs

from tunewright._views.text import size_text
from tunewright.events import Json
from tunewright.status.report import Download, JobReport, source_of

_NOT_CURVES = ("step", "total_steps", "epoch")
_DATASET = re.compile(r"dataset(_\d+)?")  # several where datasets are mixed
_DIGITS = 6  # significant ones of a point

Point = tuple[float, float]


@attrs.frozen(kw_only=True)
class Detail:
    """How much of a job the page shows.

    Attributes:
        points: the most points of one curve; more than a thousand cannot be told apart on a screen.
        curves: the most curves.
        samples: the most samples.
        characters: the most characters of a prompt or an answer.
    """

    points: int = 1000
    curves: int = 60
    samples: int = 50
    characters: int = 4000


FULL = Detail()


def job_document(report: JobReport, backend: str = "", detail: Detail = FULL) -> dict[str, Json]:
    """Return what the page shows of a job.

    Args:
        report: the job's report.
        backend: name of its backend; "" where that does not matter.
        detail: how much of it.
    """
    known = report.to_dict()
    shown = ("name", "state", "detail", "failure", "created", "started", "finished", "seconds", "result", "labels")
    ran = ("workers", "processes", "command", "images", "versions", "states", "attempts", "data", "uploads")
    file = job_file_text(report)
    return {
        **{key: known[key] for key in (*shown, *ran, "checkpoints", "environment", "total_steps")},
        "backend": backend,
        "model": source_of(report.request, "model"),
        "dataset": ", ".join(
            source_of(report.request, slot) for slot in sorted(report.request) if _DATASET.fullmatch(slot)
        ),
        "trainer": _provider_of(report.request, "trainer"),
        "step": int(report.steps[-1]["step"]) if report.steps else 0,
        "epoch": report.steps[-1].get("epoch") if report.steps else None,
        "curves": curves(report, detail),
        "downloads": [_download(download) for download in report.downloads],
        "samples": _samples(report, detail),
        "job_file": file,
        "request": {} if file else known["request"],
        "settings": settings(report),
    }


def _provider_of(request: Mapping[str, Json], slot: str) -> str:
    match request.get(slot):
        case {"provider": str(name)}:
            return name
    return ""


def settings(report: JobReport) -> dict[str, Json]:
    """Return the job's settings for a comparison: the job file, or else the request, flattened to dotted keys."""
    chosen: Mapping[str, Json] = report.job_file if report.job_file is not None else report.request
    return dict(_flat(chosen))


def _flat(values: Mapping[str, Json], prefix: str = "") -> list[tuple[str, Json]]:
    found: list[tuple[str, Json]] = []
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found


def job_file_text(report: JobReport) -> str:
    """Return the job file that repeats the job, as YAML; "" if it is unknown."""
    if report.job_file is None:
        return ""
    import yaml

    return yaml.safe_dump(dict(report.job_file), sort_keys=False, allow_unicode=True, width=100)


def curves(report: JobReport, detail: Detail = FULL) -> dict[str, Json]:
    """Return the curves of a job: name of the number → the steps and the values."""
    found: dict[str, list[Point]] = {}
    for numbers in (*report.steps, *report.evaluations):
        for key, value in numbers.items():
            if key not in _NOT_CURVES and math.isfinite(value):
                found.setdefault(key, []).append((numbers["step"], value))
    chosen = list(found.items())[: detail.curves]
    return {key: _columns(thin(points, detail.points)) for key, points in chosen}


def thin(points: Sequence[Point], limit: int) -> list[Point]:
    """Return at most `limit` points of a curve, with its ends, and the lowest and highest point of each stretch.

    Args:
        points: step and value, in the order of the steps.
        limit: number of points, at least 4.
    """
    if len(points) <= limit:
        return list(points)
    inner, stretches = points[1:-1], (limit - 2) // 2
    bounds = [len(inner) * i // stretches for i in range(stretches + 1)]
    kept = [points[0]]
    for begin, end in itertools.pairwise(bounds):
        stretch = inner[begin:end]
        ends = {min(stretch, key=_value), max(stretch, key=_value)}
        kept += sorted(ends)
    return [*kept, points[-1]]


def _value(point: Point) -> float:
    return point[1]


def _columns(points: Sequence[Point]) -> Json:
    return {"steps": [_short(step) for step, _ in points], "values": [_short(value) for _, value in points]}


def _short(number: float) -> float:
    if isinstance(number, int) or number.is_integer():
        return number
    return float(f"{number:.{_DIGITS}g}")


def _download(download: Download) -> Json:
    rate = f"{size_text(download.rate)}/s" if download.rate else "was there already"
    return {
        "slot": download.slot,
        "worker": download.worker,
        "files": download.files,
        "size": size_text(download.bytes),
        "rate": rate,
        "revision": download.revision,
    }


def _samples(report: JobReport, detail: Detail) -> list[Json]:
    def cut(text: str | None) -> str | None:
        if text is None or len(text) <= detail.characters:
            return text
        return f"{text[: detail.characters]} … ({len(text) - detail.characters:,} more characters)"

    prompts = list(dict.fromkeys([*report.samples_before, *report.samples]))[: detail.samples]
    return [
        {
            "prompt": cut(prompt),
            "before": cut(report.samples_before.get(prompt)),
            "after": cut(report.samples.get(prompt)),
        }
        for prompt in prompts
    ]
