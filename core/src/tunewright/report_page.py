"""A report as one HTML page. plotly draws the curves; its script is in the page, which therefore needs no network."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tunewright.errors import RequestError
from tunewright.progress import size_text

if TYPE_CHECKING:
    from tunewright.report import JobReport

_CURVES = {"loss": "loss", "learning_rate": "learning rate", "tokens_per_second": "tokens/s"}
"""What is drawn over the steps: key of the steps → title."""
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "th{text-align:left;padding-right:2rem;vertical-align:top}td{padding-right:2rem}pre{white-space:pre-wrap}"
)
_HEIGHT = 260  # pixels of one curve


def page(report: JobReport) -> str:
    """The page.

    Raises:
        RequestError: plotly is not installed.
    """
    name = html.escape(report.status.name)
    sections = (
        _section("", _facts(report)),
        _section("Curves", _curves(report)),
        _section("States", _states(report)),
        _section("Downloads", _downloads(report)),
        _section("Uploads", _table(list(upload.values()) for upload in report.uploads)),
        _section("Samples", _table(report.samples.items())),
        _section("What was asked for", _request(report)),
    )
    head = f'<meta charset="utf-8"><title>{name}</title><style>{_STYLE}</style>'
    return f"<!doctype html>\n<html><head>{head}</head><body><h1>{name}</h1>\n{''.join(sections)}</body></html>\n"


def facts(report: JobReport) -> dict[str, str]:
    """What people want to know first, as texts; what is not known is not there."""
    status, record = report.status, report.record
    last, evaluation = (points[-1] if points else {} for points in (report.steps, report.evaluations))
    found: dict[str, object] = {
        "state": f"{status.state} {status.detail}".strip(),
        "started": status.started,
        "took": f"{report.seconds:,.0f} s" if report.seconds is not None else None,
        "result": status.result,
        "workers": f"{record.workers}, with {record.processes} processes each",
        "attempts": report.attempts or None,
        "steps": f"{last['step']:,.0f}" if last else None,
        "loss": f"{report.steps[0]['loss']:.4f} → {last['loss']:.4f}" if _has_loss(report.steps) else None,
        "evaluation loss": f"{evaluation['eval_loss']:.4f}" if "eval_loss" in evaluation else None,
        "speed": _speed(report.steps),
        "downloads": ", ".join(_download_text(row) for row in _download_rows(report)) or None,
        "images": ", ".join(dict.fromkeys(record.images.values())) or None,
        "versions": ", ".join(f"{dist} {version}" for dist, version in report.versions.items()) or None,
    }
    return {title: str(value) for title, value in found.items() if value is not None}


def _has_loss(steps: Sequence[Mapping[str, float]]) -> bool:
    return bool(steps) and "loss" in steps[0] and "loss" in steps[-1]


def _speed(steps: Sequence[Mapping[str, float]]) -> str | None:
    rates = sorted(step["tokens_per_second"] for step in steps if "tokens_per_second" in step)
    return f"{rates[len(rates) // 2]:,.0f} tokens/s (median)" if rates else None


def _facts(report: JobReport) -> str:
    return _table(facts(report).items())


def _states(report: JobReport) -> str:
    rows = ((c.since or "", c.state, c.detail) for c in report.record.conditions)
    return _table(rows)


def _downloads(report: JobReport) -> str:
    return _table(_download_rows(report))


def _download_rows(report: JobReport) -> list[tuple[str, str, str, str]]:
    return [
        (
            f"{d.item} (worker {d.worker})" if d.worker else d.item,
            f"{d.files} files",
            size_text(d.bytes),
            f"{size_text(d.rate)}/s" if d.rate else "was there already",
        )
        for d in report.downloads
    ]


def _download_text(row: tuple[str, str, str, str]) -> str:
    item, _, size, how = row
    return f"{item}: {size}, {how}"


def _request(report: JobReport) -> str:
    asked = {"command": list(report.record.command), **report.request}
    return f"<pre>{html.escape(json.dumps(asked, indent=2, ensure_ascii=False))}</pre>"


def _section(title: str, body: str) -> str:
    if not body:
        return ""
    return f"<h2>{title}</h2>\n{body}\n" if title else f"{body}\n"


def _table(rows: Iterable[Iterable[object]]) -> str:
    texts = [[html.escape(str(cell)) for cell in row] for row in rows]
    lines = [f"<tr><th>{first}</th>{''.join(f'<td>{cell}</td>' for cell in rest)}</tr>" for first, *rest in texts]
    return f"<table>{''.join(lines)}</table>" if lines else ""


def _curves(report: JobReport) -> str:
    try:
        from plotly.graph_objects import Scatter
        from plotly.subplots import make_subplots
    except ImportError as error:
        problem = "needs the module plotly, which this Python environment lacks"
        remedy = "Install it: pip install 'tunewright[report]'"
        raise RequestError(problem, field="html", remedy=remedy) from error
    keys = [key for key in _CURVES if any(key in step for step in report.steps)]
    if not keys:
        return ""
    figure = make_subplots(len(keys), 1, shared_xaxes=True, vertical_spacing=0.06)
    for row, key in enumerate(keys, 1):
        points = [(step["step"], step[key]) for step in report.steps if key in step]
        figure.add_trace(Scatter(**_line(points, _CURVES[key])), row, 1)
        figure.update_yaxes(title_text=_CURVES[key], row=row, col=1)
    if keys[0] == "loss":
        measured = [(e["step"], e["eval_loss"]) for e in report.evaluations if "eval_loss" in e]
        figure.add_trace(Scatter(**_line(measured, "evaluation loss")), 1, 1)
    figure.update_xaxes(title_text="step", row=len(keys), col=1)
    figure.update_layout(height=_HEIGHT * len(keys), showlegend=False, hovermode="x unified", margin={"t": 10})
    return str(figure.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False}))


def _line(points: Sequence[tuple[float, float]], name: str) -> dict[str, object]:
    return {
        "x": [x for x, _ in points],
        "y": [y for _, y in points],
        "name": name,
        "mode": "lines+markers" if len(points) < 100 else "lines",  # noqa: PLR2004 - more marks hide the line
    }
