"""The states of a job."""

from __future__ import annotations

import enum


class JobState(enum.StrEnum):
    """Where a job is on its way from submit to result."""

    CREATED = "Created"
    QUEUED = "Queued"
    DOWNLOADING = "Downloading"
    RUNNING = "Running"
    RESTARTING = "Restarting"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def final(self) -> bool:
        """Whether the job has ended for good."""
        return self in (JobState.SUCCEEDED, JobState.FAILED)

    @property
    def at_rest(self) -> bool:
        """Whether nothing of the job runs or is about to run."""
        return self.final or self is JobState.SUSPENDED
