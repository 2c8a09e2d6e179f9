"""Progress bars in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunewright._views.base import RowsView, View

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, Task, TaskID
    from rich.text import Text


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
        """Leave the bars as they are, but for what goes on now, and restore the terminal."""
        super().__exit__()
        self._progress.stop()

    def _move(self, name: str, done: int, total: int | None, note: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, completed=done, note=note)
        self._progress.update(self._tasks[name], completed=done, total=total, note=note)

    def _remove(self, name: str) -> None:
        if (task := self._tasks.pop(name, None)) is not None:
            self._progress.remove_task(task)


def _progress(console: Console) -> Progress:
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    class Share(TaskProgressColumn):
        """The share that is done; nothing while it is unknown."""

        def render(self, task: Task) -> Text:
            return super().render(task) if task.total is not None else self._nothing()

        def _nothing(self) -> Text:
            from rich.text import Text

            return Text("")

    class Time(TimeRemainingColumn):
        """The time that is left; where that is unknown, the time so far, so that something moves."""

        def render(self, task: Task) -> Text:
            return super().render(task) if task.total is not None else TimeElapsedColumn().render(task)

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        Share(),
        TextColumn("{task.fields[note]}"),
        Time(),
        console=console,
    )
