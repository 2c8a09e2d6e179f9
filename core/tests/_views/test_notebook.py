"""Progress in a real notebook: a kernel runs it, and what it shows is in the notebook."""

import re
import textwrap

import nbclient
import nbformat
import pytest

CELL = """
import time
from tunewright.status.status import JobStatus, LogLine
from tunewright._doing import doing
from tunewright._views.waiting import told_in_notebook
from tunewright.events import Fetched, Phase, Progress, Retry, Start, Step, format_event
from tunewright._views.follow import follow
from tunewright.status.state import JobState

class JobLike:
    def updates(self):
        yield JobStatus(name="sft", state=JobState.CREATED, detail="worker 0 cannot be scheduled", pods={"Pending": 2})
        yield JobStatus(name="sft", state=JobState.RUNNING, pods={"train": 1, "fetch-model": 1})
        for event in (
            Phase(name="list", text="model: asking hf://org/name what to fetch"),
            Retry(about="model", cause="It is away.", attempt=1, seconds=2),
            Progress(slot="<model>", done=500_000, total=2_000_000),
            Fetched(slot="<model>", files=1, bytes=2_000_000),
            Start(total_steps=2),
            Step(step=1, total_steps=2, loss=4.0, tokens_per_second=12.0),
            Step(step=2, total_steps=2, loss=2.0, tokens_per_second=12.0),
        ):
            yield LogLine(container="train", worker=0, text=format_event(event))

    def status(self):
        return JobStatus(name="sft", state=JobState.SUCCEEDED, result="/jobs/sft/model")

    def command_for(self, command):
        return command

    def next_commands(self):
        return ["tunewright chat sft"]

with told_in_notebook(patience=0):
    doing("checking the dataset")
    time.sleep(1)
follow(JobLike()).state
"""


@pytest.mark.slow
def test_follow_draws_one_table_and_prints_lines_without_any_widget() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(textwrap.dedent(CELL))])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    (table,) = [o.data["text/html"] for o in outputs if "text/html" in o.get("data", {})]
    rows = [re.sub("<[^>]+>", "|", row) for row in table.split("</tr>")]
    assert "pods" in rows[0]
    assert "1 train, 1 fetch-model" in rows[0]
    assert "&lt;model&gt;" in rows[1]
    assert "100%" in rows[1]
    assert "loss 2.0000, 12 tokens/s" in rows[2]
    assert "now" not in table, "nothing goes on in the end"
    printed = "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")
    assert printed.splitlines() == [
        "checking the dataset …",
        "Created: worker 0 cannot be scheduled",
        "model: It is away. Trying again in 2 s, attempt 2.",
        "training: 2 steps on 1 process",
        "sft succeeded.",
        "model: /jobs/sft/model",
        "loss: 4.0000 at first, 2.0000 at last (-50%)",
        "next:",
        "  tunewright chat sft",
    ]
    assert [o for o in outputs if o.output_type == "stream" and o.name == "stderr"] == []
