"""The frozen page: jobs as one HTML file that needs neither a network nor a server."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Sequence

import attrs

from tunewright._page import assets
from tunewright._page.document import FULL, Detail, job_document
from tunewright._page.snippets import report_snippet
from tunewright.events import Json
from tunewright.status.report import JobReport

# In a script element, "</script" and "<!--" mean something to the parser of HTML, whatever the script's type is.
_IN_SCRIPT = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}

LIMIT = 500_000
"""The most bytes of a page, whatever the job logged; only a longer job file is shown as it is."""

_DETAILS = (
    FULL,
    Detail(points=500, curves=30, samples=20, characters=1000),
    Detail(points=200, curves=15, samples=10, characters=300),
    Detail(points=50, curves=10, samples=5, characters=100),
)

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main id="page"></main>
<noscript>{summary}</noscript>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


@attrs.frozen(kw_only=True)
class PageReport(JobReport):
    """A report that can be drawn as a page."""

    def to_html(self) -> str:
        """Return the page of the job as one HTML file, below 500 kB, that needs no network and no further library."""
        return frozen_page([self])

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the most important facts, and the curve of the loss."""
        return report_snippet(self)


def frozen_page(reports: Sequence[JobReport]) -> str:
    """Return the page of one job, or the comparison of several, as one HTML file that needs no network.

    A page holds nothing that its reader's browser would run or load besides its own script, whatever the texts of a job
    are: data is JSON that the script reads, and the script makes text nodes of it.
    """
    pages = (_page(reports, detail) for detail in _DETAILS)
    return next((page for page in pages if len(page.encode()) < LIMIT), _page(reports, _DETAILS[-1]))


def _page(reports: Sequence[JobReport], detail: Detail) -> str:
    style, script = assets.style(), assets.script("frozen.js")
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    page = _PAGE.format(
        policy=html.escape(policy, quote=True).replace("&#x27;", "'"),
        title=html.escape(", ".join(report.status.name for report in reports)),
        style=style,
        summary="".join(report_snippet(report) for report in reports),
        data=embedded({"jobs": [job_document(report, detail=detail) for report in reports]}),
        script=script,
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # an event may hold half of a surrogate pair


def embedded(value: Json) -> str:
    """Return a value as JSON that is safe in a script element."""
    return as_json(value).translate(_IN_SCRIPT)


def as_json(value: Json) -> str:
    """Return a value as JSON that browsers parse: null stands for NaN and infinities."""
    return json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _finite(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
