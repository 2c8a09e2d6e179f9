"""The job that the user holds: what `train()` and `create_job()` return."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from tunewright.backends.base import Backend
from tunewright.errors import JobError
from tunewright.events import Json, parse_event
from tunewright.status.state import JobState
from tunewright.status.status import JobStatus, LogLine

if TYPE_CHECKING:
    from tunewright._views.page import PageReport
    from tunewright.request.update import UpdateOptions

__all__ = ["Job", "JobState"]


class Job:
    """A handle on one job; it holds no state of its own, so any number of them may exist, in any process."""

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self._backend = backend

    def __repr__(self) -> str:
        return f"<Job {self.name}>"

    def status(self) -> JobStatus:
        """What is known of the job now.

        Raises:
            JobError: it does not exist any more.
        """
        return self._backend.get(self.name)

    @property
    def state(self) -> JobState:
        """Where the job is on its way."""
        return self.status().state

    @property
    def result(self) -> Path | None:
        """The finished model's folder, if it lies on this machine."""
        return self._backend.result_folder(self.name)

    def log_lines(
        self, *, follow: bool = False, step: str | None = None, worker: int | None = None
    ) -> Iterator[LogLine]:
        """Every line of the log, events included; see `Backend.logs`."""
        return self._backend.logs(self.name, follow=follow, step=step, worker=worker)

    def updates(self) -> Iterator[LogLine | JobStatus]:
        """What happens until the job has ended; see `Backend.updates`."""
        return self._backend.updates(self.name)

    def logs(self, *, follow: bool = False, step: str | None = None, worker: int | None = None) -> Iterator[str]:
        """The plain lines of the log, without events."""
        lines = self.log_lines(follow=follow, step=step, worker=worker)
        return (line.text for line in lines if parse_event(line.text) is None)

    def events(self, *, follow: bool = False) -> Iterator[dict[str, Json]]:
        """The events of the job: first what its backend tells, and then its containers, each oldest first.

        With `follow` it goes on until the job has ended; what the backend has told meanwhile comes last.
        """
        return self._events(self._backend.events(self.name), follow=follow)

    def _events(self, told: list[dict[str, Json]], *, follow: bool) -> Iterator[dict[str, Json]]:
        yield from told
        for line in self.log_lines(follow=follow):
            if (event := parse_event(line.text)) is not None:
                yield event
        if follow:
            with contextlib.suppress(JobError):  # deleted meanwhile
                yield from (event for event in self._backend.events(self.name) if event not in told)

    def wait(
        self,
        states: Collection[JobState] = (JobState.SUCCEEDED,),
        *,
        timeout: float | None = None,
        callback: Callable[[JobStatus], None] | None = None,
    ) -> JobStatus:
        """Wait until the job is in one of `states`; it is looked at once at least, however short the timeout.

        Args:
            states: what to wait for.
            timeout: seconds; None waits for ever.
            callback: called with each status that differs from the one before.

        Raises:
            JobError: the job ended, or was suspended, in another state; its cause is in the message.
            TimeoutError: the time is up.
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
                raise JobError(
                    f"Job {self.name!r} is {status.state}: {status.detail or 'no cause is known'}", name=self.name
                )
            if end is not None and time.monotonic() >= end:
                wanted = " or ".join(states)
                raise TimeoutError(f"Job {self.name!r} is {status.state} and not {wanted} after {timeout} s.")
        raise AssertionError("a watch has no end")

    def report(self) -> PageReport:
        """What was asked for, what happened, and what came of it, as far as the job's log and its backend still have it.

            Path("report.html").write_text(job.report().to_html(), "utf-8")

        Raises:
            JobError: the job does not exist any more.
        """
        from tunewright._views.page import PageReport
        from tunewright.status.report import make_report

        return make_report(PageReport, self.status(), self._backend.record(self.name), self.log_lines())

    def follow(self) -> JobStatus:
        """Draw the job's progress, in a terminal or a notebook, until it is at rest; then show how it ended."""
        from tunewright._views.follow import follow

        return follow(self)

    def interrupt(self) -> str:
        """Leave the job after Ctrl-C: on the user's own machine it is suspended, in a cluster it goes on.

        Returns:
            What has become of it, and what to do, for people.
        """
        if not self._backend.suspends_on_interrupt:
            return f"{self.name} goes on. Follow it: {self.command_for('logs -f')}"
        self.suspend()
        return f"{self.name} is suspended. Go on from its newest checkpoint: {self.command_for('resume')}"

    def command_for(self, command: str) -> str:
        """What to type to do something with the job; see `Backend.command_for`."""
        return self._backend.command_for(command, self.name)

    def update(self, **options: Unpack[UpdateOptions]) -> None:
        """Change what may still be changed; see `tunewright.request.update.JobUpdate`.

        Raises:
            RequestError: something cannot be changed, or has a wrong value.
            JobError: the job does not exist any more, or it is too late for that.
        """
        from tunewright.request.update import job_update

        self._backend.update(self.name, job_update(self.command_for, options))

    def suspend(self) -> None:
        """End the job's processes and keep its files; `resume` goes on from the newest checkpoint."""
        self._backend.suspend(self.name)

    def resume(self) -> None:
        """Start a suspended or interrupted job again."""
        self._backend.resume(self.name)

    def delete(self) -> None:
        """End the job and remove it with everything that it owns."""
        self._backend.delete(self.name)
