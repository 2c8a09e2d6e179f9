"""A list of jobs that a notebook shows as a table."""

from __future__ import annotations

from tunewright._client.job import Job
from tunewright.errors import JobError


class JobList(list[Job]):
    """Jobs, newest first. In a notebook it is a table of their names, states, models, losses and durations."""

    def _repr_html_(self) -> str:
        from tunewright._page.overview import rows
        from tunewright._page.snippets import table_snippet
        from tunewright._views.text import duration_text

        if not self:
            return "<p>There are no jobs.</p>"
        statuses = []
        for job in self:
            try:
                statuses.append(job.status())
            except JobError:  # deleted since
                continue
        shown = [
            (
                row.status.name,
                row.status.state,
                row.model,
                "" if row.loss is None else f"{row.loss:.4f}",
                duration_text(row.seconds),
            )
            for row in rows(self[0].backend, statuses)
        ]
        return table_snippet(("name", "state", "model", "loss", "duration"), shown)
