"""The progress of a job, for kubectl: what it says, and how often it is written."""

import json
from collections.abc import Iterator

import attrs

from tunewright.backends.kubernetes.failures import ApiFailure
from tunewright.backends.kubernetes.progress import ProgressNotes
from tunewright.backends.pytorchjob.kind import PyTorchJob
from tunewright.status.state import JobState
from tunewright.status.status import JobStatus, LogLine

KIND = PyTorchJob()


@attrs.define
class Api:
    kind: PyTorchJob = KIND
    notes: list[str] = attrs.field(factory=list)
    refuses: bool = False

    def patch(self, kind: str, name: str, change: dict) -> None:
        if self.refuses:
            raise ApiFailure(403, "no")
        assert (kind, name) == ("PyTorchJob", "sft")
        self.notes.append(change["metadata"]["annotations"]["tunewright.dev/progress"])


def line(step: int, worker: int = 0) -> LogLine:
    event = {"event": "step", "step": step, "total_steps": 100, "loss": 1.5, "tokens_per_second": 5100.4}
    return LogLine(text=json.dumps(event), container="train", worker=worker)


def test_a_note_is_written_at_most_every_ten_seconds_and_everything_is_passed_on() -> None:
    api, now = Api(), [0.0]
    news = [JobStatus(name="sft", state=JobState.RUNNING), *(line(step) for step in range(1, 7)), line(9, worker=1)]

    def coming() -> Iterator[LogLine | JobStatus]:
        for item in news:
            now[0] += 4
            yield item

    assert list(ProgressNotes(api, "sft", lambda: now[0]).during(coming())) == news
    assert api.notes == [
        "step 1/100, loss 1.5000, 5,100 tokens/s per rank",
        "step 4/100, loss 1.5000, 5,100 tokens/s per rank, 6 min 24 s left",
    ]


def test_who_may_not_write_it_follows_all_the_same() -> None:
    assert list(ProgressNotes(Api(refuses=True), "sft").during([line(1)])) == [line(1)]
