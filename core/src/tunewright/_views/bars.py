"""Progress bars in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunewright._views.base import RowsView, View

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


class BarsView(RowsView):
    """Draw the rows as bars in a terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._progress = _progress(console)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> View:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bars as they are, and restore the terminal."""
        self._progress.stop()

    def _move(self, name: str, done: int, total: int | None, note: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, note=note)
        self._progress.update(self._tasks[name], completed=done, total=total, note=note)


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[note]}"))
    return Progress(*columns, TimeRemainingColumn(), console=console)
