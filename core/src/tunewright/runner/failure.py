"""Why something failed: one value, from the step that failed to the user's screen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

SOFTWARE = 70
_MESSAGE_BYTES = 4096  # Kubernetes truncates a termination message here


@dataclass(frozen=True)
class Failure:
    """Why something failed, and what to do about it.

    Attributes:
        code: exit code, as in sysexits.h.
        cause: what happened, to what, as a sentence.
        remedy: what to do about it, as a sentence; may be empty.
        container: the container that failed: "fetch-model", "check", "train"; None if it is not known, or not in a job.
        worker: index of the worker; None likewise.
    """

    code: int
    cause: str
    remedy: str = ""
    container: str | None = None
    worker: int | None = None

    def __str__(self) -> str:
        """Cause and remedy, for people."""
        return f"{self.cause} {self.remedy}".strip()

    def to_dict(self) -> dict[str, int | str]:
        """Return the JSON form: the cause first, and without what is not known."""
        found: dict[str, int | str] = {"cause": self.cause, "remedy": self.remedy, "code": int(self.code)}
        if self.container is not None:
            found["container"] = self.container
        if self.worker is not None:
            found["worker"] = self.worker
        return found

    @classmethod
    def from_dict(cls, record: Mapping[str, object]) -> Failure:
        """Read the JSON form.

        Raises:
            ValueError: a key is missing, or a value has another type.
        """
        code, cause, remedy = record.get("code"), record.get("cause"), record.get("remedy", "")
        container, worker = record.get("container"), record.get("worker")
        if not (isinstance(code, int) and isinstance(cause, str) and isinstance(remedy, str)):
            raise ValueError("not a failure")
        if not (container is None or isinstance(container, str)) or not (worker is None or isinstance(worker, int)):
            raise ValueError("not a failure")
        return cls(code, cause, remedy, container, worker)

    def seen_in(self, container: str, worker: int | None = None) -> Failure:
        """Return the failure with the origin that it was seen in, unless it names another one."""
        return replace(
            self,
            container=container if self.container is None else self.container,
            worker=worker if self.worker is None else self.worker,
        )

    def to_message(self) -> bytes:
        """Return the termination message: the JSON form in one line, whose cause is cut to what Kubernetes keeps."""
        cut = self
        while excess := max(0, len(_line(cut)) - _MESSAGE_BYTES):
            fewer = -(excess // 6 + 1)  # a character takes one to six bytes here
            cut = replace(cut, cause=cut.cause[:fewer]) if cut.cause else replace(cut, remedy=cut.remedy[:fewer])
        return _line(cut)

    @classmethod
    def from_message(cls, message: str, code: int) -> Failure:
        """Read a termination message; any other text than ours is the cause, and `code` the container's exit code."""
        try:
            record = json.loads(message)
            return cls.from_dict(record)
        except (ValueError, AttributeError, RecursionError):
            return cls(code, message.strip())


def _line(failure: Failure) -> bytes:
    return json.dumps(failure.to_dict(), ensure_ascii=False).encode(errors="replace")
