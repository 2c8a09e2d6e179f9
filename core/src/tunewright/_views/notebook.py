"""Progress in a notebook: one table that is replaced as it changes, and plain lines. It needs IPython, but no widgets."""

from __future__ import annotations

import html
import time
from typing import TYPE_CHECKING

import attrs

from tunewright._views.base import RowsView
from tunewright._views.text import duration_text
from tunewright.status.speed import Start

if TYPE_CHECKING:
    from IPython.display import DisplayHandle
    from rich.console import Console

_PAUSE = 0.2  # seconds between two updates: each one is a message to the browser


@attrs.define
class _Row:
    note: str
    done: int
    total: int | None
    start: Start


class NotebookView(RowsView):
    """Draw the rows as a table, which each update replaces."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._rows: dict[str, _Row] = {}
        self._handle: DisplayHandle | None = None
        self._drawn = 0.0

    def __exit__(self, *_: object) -> None:
        """Leave the rows as they are, but for what goes on now."""
        super().__exit__()
        if self._rows:
            self._draw()

    def _move(self, name: str, done: int, total: int | None, note: str) -> None:
        now = time.monotonic()
        row = self._rows.setdefault(name, _Row(note, done, total, Start(done, now)))
        row.note, row.done, row.total = note, done, total
        if now - self._drawn > _PAUSE:
            self._draw()

    def _remove(self, name: str) -> None:
        self._rows.pop(name, None)  # the next change draws the table without it

    def _draw(self) -> None:
        from IPython.display import HTML, display

        self._drawn = time.monotonic()
        shown = HTML(f"<table>{''.join(self._line(name, row) for name, row in self._rows.items())}</table>")
        if self._handle is None:
            self._handle = display(shown, display_id=True)
        else:
            self._handle.update(shown)

    def _line(self, name: str, row: _Row) -> str:
        left = row.start.seconds_left(row.done, row.total, self._drawn)
        cells = (
            html.escape(name),
            f'<progress value="{row.done}" max="{row.total}"></progress>' if row.total else "<progress></progress>",
            f"{row.done * 100 // row.total}%" if row.total else "",
            html.escape(row.note),
            f"{duration_text(left)} left" if left else "",
        )
        return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
