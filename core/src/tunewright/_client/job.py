"""The handle on a job that `train()` and `create_job()` return."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from tunewright.backends.base import Backend
from tunewright.errors import JobError, TunewrightError
from tunewright.events import Event, parse_event
from tunewright.status.state import JobState
from tunewright.status.status import JobStatus, LogLine

if TYPE_CHECKING:
    from tunewright._page.frozen import PageReport
    from tunewright.request.update import UpdateOptions

__all__ = ["Job", "JobState"]


class Job:
    """A handle on one job. It has no state of its own, so any number of them may exist, in any process."""

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self._backend = backend

    def __repr__(self) -> str:
        return f"<Job {self.name}>"

    def _repr_html_(self) -> str:
        from tunewright._page.snippets import report_snippet, status_snippet

        try:
            report = self.report()
        except TunewrightError as error:  # deleted, or its cluster cannot be reached
            return status_snippet(self.name, str(error))
        follow = "" if report.status.state.at_rest else self.command_for("logs -f")
        return report_snippet(report) + status_snippet("", "", follow)

    @property
    def backend(self) -> Backend:
        """The backend that the job is on."""
        return self._backend

    def status(self) -> JobStatus:
        """Return what is known about the job now.

        Raises:
            JobError: the job no longer exists.
        """
        return self._backend.get(self.name)

    @property
    def state(self) -> JobState:
        """The job's state now."""
        return self.status().state

    @property
    def result(self) -> Path | None:
        """The folder of the finished model, if it is on this machine."""
        return self._backend.result_folder(self.name)

    @property
    def trainer(self) -> str | None:
        """Name of the job's trainer, as in `trainer=`; None for the user's own code."""
        match self._backend.record(self.name).documents.get("trainer.json"):
            case {"provider": str(name)}:
                return name
        return None

    def next_commands(self) -> list[str]:
        """Return the commands of `tunewright` that use the result, ready to be pasted; none unless the job has succeeded.

        Raises:
            JobError: the job no longer exists.
        """
        from tunewright._client.next_commands import Finished
        from tunewright.plugins.registry import Registry

        status = self.status()
        if status.state is not JobState.SUCCEEDED:
            return []
        record = self._backend.record(self.name)
        finished = Finished(status=status, record=record, folder=self.result, command_for=self.command_for)
        return finished.commands(Registry())

    def log_lines(
        self, *, follow: bool = False, container: str | None = None, worker: int | None = None
    ) -> Iterator[LogLine]:
        """Iterate over the lines of the log, events included; see `Backend.logs`."""
        return self._backend.logs(self.name, follow=follow, container=container, worker=worker)

    def updates(self) -> Iterator[LogLine | JobStatus]:
        """Iterate over what happens until the job has ended; see `Backend.updates`."""
        return self._backend.updates(self.name)

    def logs(self, *, follow: bool = False, container: str | None = None, worker: int | None = None) -> Iterator[str]:
        """Iterate over the plain lines of the log, without events."""
        lines = self.log_lines(follow=follow, container=container, worker=worker)
        return (line.text for line in lines if parse_event(line.text) is None)

    def events(self, *, follow: bool = False) -> Iterator[Event]:
        """Iterate over the job's events: first those of its backend, then those of its containers, each oldest first.

        With `follow` this continues until the job has ended; what the backend has reported meanwhile comes last.
        """
        return self._events(self._backend.events(self.name), follow=follow)

    def _events(self, reported: list[Event], *, follow: bool) -> Iterator[Event]:
        yield from reported
        for line in self.log_lines(follow=follow):
            if (event := parse_event(line.text)) is not None:
                yield event
        if follow:
            with contextlib.suppress(JobError):  # deleted meanwhile
                yield from (event for event in self._backend.events(self.name) if event not in reported)

    def wait(
        self,
        states: Collection[JobState] = (JobState.SUCCEEDED,),
        *,
        timeout: float | None = None,
        callback: Callable[[JobStatus], None] | None = None,
    ) -> JobStatus:
        """Wait until the job is in one of `states`. Its status is read at least once, however short the timeout.

        Args:
            states: what to wait for.
            timeout: seconds; None waits forever.
            callback: called with each status that differs from the one before.

        Raises:
            JobError: the job ended in another state, or was suspended; `failure` says why.
            TimeoutError: the timeout has passed.
        """
        end = None if timeout is None else time.monotonic() + timeout
        last: JobStatus | None = None
        for status in self._backend.watch(self.name):
            if callback and status != last:
                callback(status)
            last = status
            if status.state in states:
                return status
            if status.state.at_rest:
                why = status.detail or self._what_next(status)
                raise JobError(f"Job {self.name!r} is {status.state}: {why}", name=self.name, failure=status.failure)
            if end is not None and time.monotonic() >= end:
                wanted = " or ".join(states)
                raise TimeoutError(f"Job {self.name!r} is {status.state} and not {wanted} after {timeout} s.")
        raise AssertionError("a watch has no end")

    def _what_next(self, status: JobStatus) -> str:
        from tunewright._views.text import resume_hint

        return resume_hint(self.command_for) if status.state is JobState.SUSPENDED else "no cause is known"

    def report(self) -> PageReport:
        """Return what was requested, what happened, and the result, as far as the job's log and its backend still have it.

            Path("report.html").write_text(job.report().to_html(), "utf-8")

        Raises:
            JobError: the job no longer exists.
        """
        from tunewright._page.frozen import PageReport
        from tunewright.status.report import make_report

        return make_report(PageReport, self.status(), self._backend.record(self.name), self.log_lines())

    def follow(self) -> JobStatus:
        """Show the job's progress, in a terminal or a notebook, until it is at rest; then show how it ended."""
        from tunewright._views.follow import follow

        return follow(self)

    def interrupt(self) -> str:
        """Leave the job after Ctrl-C: on the user's own machine it is suspended, in a cluster it keeps running.

        Returns:
            What happened to it, and what to do, for people.
        """
        from tunewright._views.text import resume_hint

        if not self._backend.suspends_on_interrupt:
            return f"{self.name} keeps running. Follow it: {self.command_for('follow')}"
        self.suspend()
        return f"{self.name} is suspended. {resume_hint(self.command_for)}"

    def command_for(self, command: str) -> str:
        """Return what to type to run a command of `tunewright` on the job; see `Backend.command_for`."""
        return self._backend.command_for(command, self.name)

    def update(self, **options: Unpack[UpdateOptions]) -> None:
        """Change a submitted job; see `tunewright.request.update.JobUpdate`.

        Raises:
            RequestError: something cannot be changed, or has a wrong value.
            JobError: the job no longer exists, or it is too late to change that.
        """
        from tunewright.request.update import job_update

        self._backend.update(self.name, job_update(self.command_for, options))

    def suspend(self) -> None:
        """Stop the job's processes and keep its files; `resume` continues from the newest checkpoint."""
        self._backend.suspend(self.name)

    def resume(self) -> None:
        """Start a suspended or interrupted job again."""
        self._backend.resume(self.name)

    def delete(self, *, with_result: bool = False) -> None:
        """Stop the job and delete it with everything that it owns.

        Args:
            with_result: also delete the claim that holds the only copy of its result, even if the job is already gone.

        Raises:
            JobError: there is no such job, or it cannot be deleted.
        """
        kept = self._backend.kept(self.name) if with_result else []
        try:
            self._backend.delete(self.name)
        except JobError:
            if not kept or self._exists():
                raise
        self._backend.discard(kept)

    def _exists(self) -> bool:
        try:
            self._backend.get(self.name)
        except JobError:
            return False
        return True
