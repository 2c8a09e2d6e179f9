"""The states of a job."""

from __future__ import annotations

import enum


class JobState(enum.StrEnum):
    """The phases of a job, from submission to its result."""

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
        """Whether no process of the job runs or is about to."""
        return self.final or self is JobState.SUSPENDED
