"""Which plain lines of a job's log are shown: those of the user's own code, and the last ones of a step that failed."""

import json

import pytest

from tunewright import TrainingClient
from tunewright._planning.assemble import assemble
from tunewright._views.follow import follow
from tunewright._views.text import ending
from tunewright.errors import Failure
from tunewright.events import Failed, format_event
from tunewright.status.state import JobState
from tunewright.status.status import JobStatus, LogLine
from tunewright.status.summary import Summary

CODE = {"tunewright.dev/runs": "code"}
FAILURE = Failure(66, "No such file.", "Look.")
FAILED = format_event(Failed(failure=FAILURE))


class JobLike:
    """A job whose log is a list of (container, worker, line)."""

    def __init__(self, *lines: tuple[str, int, str], state: JobState = JobState.SUCCEEDED, **status: object) -> None:
        self.lines = [LogLine(container=container, worker=worker, text=text) for container, worker, text in lines]
        self.end = JobStatus(name="job", state=state, **status)  # type: ignore[arg-type]

    def updates(self) -> object:
        return iter(self.lines)

    def status(self) -> JobStatus:
        return self.end

    def command_for(self, command: str) -> str:
        return command_for(command)

    def next_commands(self) -> list[str]:
        return []


def command_for(command: str) -> str:
    return f"tunewright {command} job --backend there"


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]):
    """What following a job prints, line by line, in a style."""

    def lines(job: JobLike, style: str = "lines") -> list[str]:
        follow(job, style=style)  # type: ignore[arg-type]
        return capsys.readouterr().out.splitlines()

    return lines


def test_what_the_users_code_prints_is_shown_as_it_is(shown, monkeypatch: pytest.MonkeyPatch) -> None:
    log = [
        ("install-packages", 0, "Collecting einops"),
        ("train", 0, '{"event": "attempt", "attempt": 1, "limit": 4}'),
        ("train", 0, "[default0]:hello [bold]you[/bold]"),
        ("train", 1, "   " + "x" * 300),
    ]
    job = JobLike(*log, labels=CODE)
    said = ["[default0]:hello [bold]you[/bold]", "   " + "x" * 300]
    assert shown(job) == ["starting the worker processes", *said, "job succeeded."]
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert any("hello [bold]you[/bold]" in line for line in shown(job, "auto")), "also above bars"


def test_with_json_the_lines_are_events(shown) -> None:
    job = JobLike(("train", 1, 'say "hi"'), ("install-packages", 0, "noise"), labels=CODE)
    first, last = (json.loads(line) for line in shown(job, "json"))
    assert first == {"event": "log", "container": "train", "worker": 1, "text": 'say "hi"'}
    assert last["event"] == "end"


def test_a_trainers_chatter_stays_hidden(shown) -> None:
    log = [("fetch-model", 0, "a warning"), ("train", 0, "another")]
    assert shown(JobLike(*log)) == ["job succeeded."]
    suspended = JobLike(*log, state=JobState.SUSPENDED)
    assert shown(suspended) == [
        "job is suspended. Continue from its newest checkpoint: tunewright resume job --backend there"
    ]


def test_a_failed_steps_last_lines_are_shown(shown) -> None:
    log = [("fetch-model", 0, "not this"), *(("train", 0, f"line {n}") for n in range(30)), ("train", 1, "nor this")]
    job = JobLike(*log, ("train", 0, FAILED), ("fetch-model", 0, "late"), state=JobState.FAILED, detail="No such file.")
    expected = [
        *(f"line {n}" for n in range(10, 30)),
        "job failed: No such file.",
        "Its log: tunewright logs job --backend there",
    ]
    assert shown(job) == expected
    first, *_, last = (json.loads(line) for line in shown(job, "json"))
    assert first == {"event": "failed", "code": 66, "cause": "No such file.", "remedy": "Look."}
    assert (last["event"], last["state"]) == ("end", "Failed")


OF_THE_FETCH = format_event(Failed(failure=Failure(66, "No such file.", "Look.", "fetch-model")))


@pytest.mark.parametrize("said", [FAILED, OF_THE_FETCH], ids=["in its own words", "with its origin"])
def test_the_lines_of_a_failed_init_container_are_shown_although_run_announces_the_failure_again(
    shown, said: str
) -> None:
    log = [
        ("fetch-model", 1, "of another worker"),
        ("fetch-model", 0, "what went wrong"),
        ("fetch-model", 0, said),
        ("train", 0, "tunewright run: not this"),
        ("train", 0, OF_THE_FETCH),
    ]
    job = JobLike(*log, state=JobState.FAILED, detail="No such file. Look.")
    assert shown(job)[:2] == ["what went wrong", "job failed: No such file. Look."]


def test_the_lines_of_an_init_container_that_its_plugin_named_otherwise_are_found_too(shown) -> None:
    log = [
        ("acme-fetch", 0, "what went wrong"),
        ("acme-fetch", 0, OF_THE_FETCH),
        ("train", 0, "not this"),
        ("train", 0, OF_THE_FETCH),
    ]
    failure = Failure(66, "No such file.", "Look.", "fetch-model", 0)
    assert shown(JobLike(*log, state=JobState.FAILED, detail="x", failure=failure))[0] == "what went wrong"


def test_a_container_that_failed_without_a_line_does_not_show_those_of_another(shown) -> None:
    failure = Failure(137, "Worker 0: train ended with exit code 137 (OOMKilled).", "", "train", 0)
    log = [("check", 0, "not this")]
    assert (
        shown(JobLike(*log, state=JobState.FAILED, detail=str(failure), failure=failure))[0] == f"job failed: {failure}"
    )


def test_the_status_knows_which_container_failed_first(shown) -> None:
    log = [("check", 1, "what went wrong"), ("train", 0, "a bystander"), ("train", 0, FAILED)]
    failure = Failure(66, "No such file.", "Look.", "check", 1)
    job = JobLike(*log, state=JobState.FAILED, detail=str(failure), failure=failure)
    assert shown(job)[0] == "what went wrong"
    end = json.loads(shown(job, "json")[-1])
    assert end["failure"] == {
        "code": 66, "cause": "No such file.", "remedy": "Look.", "container": "check", "worker": 1
    }  # fmt: skip


def test_a_step_that_fails_without_a_word_is_the_last_one(shown) -> None:
    log = [("fetch-model", 0, "not this"), ("install-packages", 0, "ERROR: no such package")]
    assert shown(JobLike(*log, state=JobState.FAILED, labels=CODE))[0] == "ERROR: no such package"
    assert shown(JobLike(state=JobState.FAILED, detail="x"))[0] == "job failed: x"


def test_lines_that_were_shown_are_not_shown_again(shown) -> None:
    log = [("install-packages", 0, "fine"), ("train", 0, "Traceback"), ("train", 0, FAILED)]
    assert shown(JobLike(*log, state=JobState.FAILED, labels=CODE, detail="x")) == [
        "Traceback", "job failed: x", "Its log: tunewright logs job --backend there"
    ]  # fmt: skip


def test_a_job_that_was_interrupted_says_so() -> None:
    detail = "It was interrupted: the machine was restarted."
    status = JobStatus(name="job", state=JobState.SUSPENDED, detail=detail)
    hint = "Continue from its newest checkpoint: tunewright resume job --backend there"
    assert ending(status, Summary(), command_for) == [f"job is suspended. {detail} {hint}"]
    queued = JobStatus(name="job", state=JobState.SUSPENDED, detail="Kueue has taken its quota.")
    assert ending(queued, Summary(), command_for) == [
        "job is suspended. Kueue has taken its quota. Continue from its newest checkpoint: tunewright resume job --backend there"
    ]


def test_only_jobs_of_code_are_labelled_so(client: TrainingClient) -> None:
    code = client.code_request("code", base_image="a:1", command=["./start"], labels={"team": "a"})
    assert assemble(code).labels == {"team": "a", **CODE}
    train = client.train_request("sft", model="acme://m", dataset="acme://d", trainer="acme", labels={"team": "a"})
    assert assemble(train).labels == {"team": "a"}


def test_a_job_that_has_not_said_anything_yet_is_named_with_its_state(shown) -> None:
    class Running(JobLike):
        def status(self) -> JobStatus:
            return running.pop() if running else self.end

    running = [JobStatus(name="job", state=JobState.CREATED, detail="worker 0 waits for a node")]
    assert shown(Running()) == ["job: Created: worker 0 waits for a node", "job succeeded."]
    running = [JobStatus(name="job", state=JobState.RUNNING)]
    first, _ = (json.loads(line) for line in shown(Running(), "json"))
    assert first == {"event": "phase", "name": "running", "text": "job: Running"}
