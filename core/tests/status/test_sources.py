"""What a report says of the datasets of a mixture."""

import json

from tunewright._views.text import facts
from tunewright.status.report import JobReport, make_report
from tunewright.status.state import JobState
from tunewright.status.status import JobRecord, JobStatus, LogLine


def mixed(step: int, **sources: object) -> dict[str, object]:
    return {"event": "step", "step": step, "loss": 1.0, "sources": sources}


def test_a_mixture_adds_up_by_dataset_and_a_step_that_was_done_again_counts_once() -> None:
    events = [
        mixed(1, a={"loss": 3.0, "samples": 6, "tokens": 60}, b={"loss": 4.0, "samples": 2, "tokens": 140}),
        mixed(2, a={"loss": 9.0, "samples": 5, "tokens": 50}, b={"loss": 9.0, "samples": 3, "tokens": 50}),
        mixed(2, a={"loss": 2.0, "samples": 6, "tokens": 60}, b={"samples": 2, "tokens": 140}),
        {"event": "eval", "step": 2, "eval_loss": 2.5, "sources": {"a": {"loss": 1.5}}},
        mixed(3, a="not measured", b={"loss": "high"}),
        {"event": "step", "step": 4, "sources": ["a"]},
    ]
    lines = [LogLine(container="train", worker=0, text=json.dumps(event)) for event in events]
    report = make_report(JobReport, JobStatus(name="sft", state=JobState.RUNNING), JobRecord(), lines)
    assert report.to_dict()["sources"] == {
        "a": {"samples": 12, "tokens": 120, "share_of_samples": 0.75, "share_of_tokens": 0.3}
        | {"first_loss": 3.0, "last_loss": 2.0, "eval_loss": 1.5},
        "b": {"samples": 4, "tokens": 280, "share_of_samples": 0.25, "share_of_tokens": 0.7}
        | {"first_loss": 4.0, "last_loss": 4.0, "eval_loss": None},
    }
    assert facts(report)["datasets"] == (
        "a 75.0% of the samples, 30.0% of the tokens, loss 3.0000 → 2.0000, evaluation loss 1.5000; "
        "b 25.0% of the samples, 70.0% of the tokens, loss 4.0000 → 4.0000"
    )
