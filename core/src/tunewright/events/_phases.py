"""Events about what goes on now: a phase, a download and its end, a pause after a failure."""

from __future__ import annotations

from typing import ClassVar

import attrs

from tunewright.events._event import ONLY_IF_KNOWN, Event


@attrs.frozen(kw_only=True)
class Phase(Event):
    """What a container is doing now, until its next event. Sent by init containers and by the trainer.

    It is sent when a phase begins, and while something is counted again: once a second at first, and then ever less often. With
    `--json` the client sends it too: for what it does itself before there is a job, and for what pods wait for.

    Attributes:
        name: the phase, for programs: "list", "wait", "stall", "import", "check", "read", "tokenise", "pack", "ranks", "load", "probe",
            "compile", "train", "evaluate", "save", "answer", "upload"; "submit", "created", "queued" and "restarting" of a client.
        text: the phase, for people: "tokenising the train split".
        done: how much of it is done; left out where nothing is counted.
        total: how much there is to do; left out while that is unknown.
        unit: what is counted: "rows", "batches", "steps".
    """

    wire_name: ClassVar[str] = "phase"

    name: str
    text: str
    done: int | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)
    total: int | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)
    unit: str | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)


@attrs.frozen(kw_only=True)
class Retry(Event):
    """Something failed that may pass, and is tried again after a pause. Sent by `fetch`, and by whatever uploads.

    Attributes:
        about: what failed: the input, or "output".
        cause: why.
        attempt: how often it has failed in a row, from 1.
        seconds: the pause, in seconds.
    """

    wire_name: ClassVar[str] = "retry"

    about: str
    cause: str
    attempt: int
    seconds: float


@attrs.frozen(kw_only=True)
class Progress(Event):
    """How far a download is. Sent by `fetch`: once a second at first, and then ever less often.

    Attributes:
        phase: "fetch".
        slot: the input: "model", "adapter", "dataset" or "eval_dataset"; "dataset_1", "dataset_2", … of a list.
        done: bytes on the volume.
        total: bytes of all files; None while that is unknown.
    """

    wire_name: ClassVar[str] = "progress"

    phase: str = "fetch"
    slot: str
    done: int
    total: int | None = None


@attrs.frozen(kw_only=True)
class Fetched(Event):
    """An input is complete on the volume. Sent by `fetch`.

    Attributes:
        slot: the input.
        files: number of files.
        bytes: bytes of all files.
        revision: what the URI was resolved to, if the source has revisions.
        cached: whether it was there already, so that nothing was downloaded.
        seconds: how long the download took; None if there was none.
    """

    wire_name: ClassVar[str] = "fetched"

    slot: str
    files: int
    bytes: int
    revision: str | None = None
    cached: bool = False
    seconds: float | None = attrs.field(default=None, metadata=ONLY_IF_KNOWN)
