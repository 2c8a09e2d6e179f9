"""What a notebook shows of jobs: small pieces of HTML without scripts, which follow the notebook's own colours."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from tunewright._page.document import Point, thin
from tunewright._views.text import facts
from tunewright.status.report import JobReport

_WIDTH, _HEIGHT, _POINTS = 480, 96, 240
_CELL = 'style="text-align:left;vertical-align:top;padding:2px 16px 2px 0"'


def report_snippet(report: JobReport) -> str:
    """Return the most important facts of a report, and the curve of its loss."""
    losses = [(step["step"], step["loss"]) for step in report.steps if "loss" in step]
    rows = "".join(f"<tr><th {_CELL}>{_text(k)}</th><td {_CELL}>{_text(v)}</td></tr>" for k, v in facts(report).items())
    return f"<div><p><b>{_text(report.status.name)}</b></p>{_curve(losses)}<table>{rows}</table></div>"


def status_snippet(name: str, text: str, command: str = "") -> str:
    """Return a line about a job, and a command; "" if there is nothing to say."""
    said = f"<b>{_text(name)}</b> {_text(text)}" if name else ""
    typed = f"<code>{_text(command)}</code>" if command else ""
    return f"<p>{said}{typed}</p>" if said or typed else ""


def table_snippet(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table."""
    titles = "".join(f"<th {_CELL}>{_text(title)}</th>" for title in head)
    lines = "".join(f"<tr>{''.join(f'<td {_CELL}>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"


def _curve(points: Sequence[Point]) -> str:
    """Return a curve without axes; "" if there are fewer than two points."""
    if len(points) < 2:  # noqa: PLR2004 - a line needs two
        return ""
    chosen = thin(points, _POINTS)
    xs, ys = [x for x, _ in chosen], [y for _, y in chosen]
    low, high, left, right = min(ys), max(ys), xs[0], xs[-1]
    place = " ".join(
        f"{(x - left) / ((right - left) or 1) * _WIDTH:.1f},{(high - y) / ((high - low) or 1) * (_HEIGHT - 8) + 4:.1f}"
        for x, y in chosen
    )
    label = f"loss: {ys[0]:.4f} at step {left:,.0f}, {ys[-1]:.4f} at step {right:,.0f}"
    line = f'<polyline fill="none" stroke="currentColor" stroke-width="1.5" points="{place}"/>'
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    return f'<svg {size} role="img" aria-label="{label}">{line}</svg>'


def _text(value: object) -> str:
    return html.escape(str(value))
