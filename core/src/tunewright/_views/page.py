"""A report as one HTML page. plotly draws the curves; its script is included, so the page needs no network."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence

import attrs

from tunewright._views.text import download_rows, facts
from tunewright.errors import RequestError
from tunewright.status.report import JobReport

_CURVES = {"loss": "loss", "learning_rate": "learning rate", "tokens_per_second": "tokens/s"}
"""Curves over the steps: key of a step → title."""

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "th{text-align:left;padding-right:2rem;vertical-align:top}td{padding-right:2rem}pre{white-space:pre-wrap}"
)

_HEIGHT = 260  # pixels of one curve


@attrs.frozen(kw_only=True)
class PageReport(JobReport):
    """A report that can be drawn as a page."""

    def to_html(self) -> str:
        """Draw the report as one HTML page that needs no network, with curves of loss, learning rate and speed.

        Raises:
            RequestError: plotly is not installed.
        """
        return page(self)


def page(report: JobReport) -> str:
    """Return the page.

    Raises:
        RequestError: plotly is not installed.
    """
    name = html.escape(report.status.name)
    sections = (
        _section("", _facts(report)),
        _section("Curves", _curves(report)),
        _section("States", _states(report)),
        _section("Downloads", _downloads(report)),
        _section("Uploads", _table((u.item, u.uri, u.files, u.bytes) for u in report.uploads)),
        _section("Samples", _table(report.samples.items())),
        _section("What was asked for", _request(report)),
    )
    head = f'<meta charset="utf-8"><title>{name}</title><style>{_STYLE}</style>'
    return f"<!doctype html>\n<html><head>{head}</head><body><h1>{name}</h1>\n{''.join(sections)}</body></html>\n"


def _facts(report: JobReport) -> str:
    return _table(facts(report).items())


def _states(report: JobReport) -> str:
    rows = ((c.since or "", c.state, c.detail) for c in report.record.conditions)
    return _table(rows)


def _downloads(report: JobReport) -> str:
    return _table(download_rows(report))


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
