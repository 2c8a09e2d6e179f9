"""The job's handle: waiting, with a real backend that goes through given statuses."""

import importlib.util
from pathlib import Path

import pytest

from tunewright import Job, JobError, JobState
from tunewright.errors import Failure
from tunewright.status.status import JobStatus

SPEC = importlib.util.spec_from_file_location("memory_backend", Path(__file__).parents[1] / "memory_backend.py")
assert SPEC is not None
memory_backend = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(memory_backend)  # type: ignore[union-attr]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewright.backends.base._POLL", 0.001)


def job(*states: JobState | JobStatus) -> Job:
    backend = memory_backend.MemoryBackend()
    backend.script["sft"] = [s if isinstance(s, JobStatus) else JobStatus(name="sft", state=s) for s in states]
    return Job("sft", backend)


def looks(waited: Job) -> int:
    return len(waited._backend.calls)


def test_a_job_is_waited_for_until_it_succeeds() -> None:
    waited = job(
        JobState.CREATED,
        JobState.QUEUED,
        JobState.DOWNLOADING,
        JobState.RUNNING,
        JobState.RESTARTING,
        JobState.SUCCEEDED,
    )
    assert waited.wait().state is JobState.SUCCEEDED
    assert looks(waited) == 6


@pytest.mark.parametrize("timeout", [0, -1, 0.0])
def test_a_job_is_looked_at_once_however_short_the_time(timeout: float) -> None:
    assert job(JobState.SUCCEEDED).wait(timeout=timeout).state is JobState.SUCCEEDED
    waited = job(JobState.RUNNING)
    with pytest.raises(TimeoutError, match=f"Job 'sft' is Running and not Succeeded after {timeout} s"):
        waited.wait(timeout=timeout)
    assert looks(waited) == 1


def test_the_time_runs_out_while_the_job_runs() -> None:
    waited = job(JobState.RUNNING)
    with pytest.raises(TimeoutError, match="is Running and not Queued or Suspended"):
        waited.wait((JobState.QUEUED, JobState.SUSPENDED), timeout=0.05)
    assert looks(waited) > 1


@pytest.mark.parametrize("wanted", [(JobState.RUNNING,), [JobState.DOWNLOADING, JobState.RUNNING], {"Running"}])
def test_any_of_the_states_will_do(wanted) -> None:
    waited = job(JobState.CREATED, JobState.RUNNING, JobState.SUCCEEDED)
    assert waited.wait(wanted).state is JobState.RUNNING
    assert looks(waited) == 2


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.SUSPENDED])
def test_a_job_that_is_at_rest_otherwise_is_an_error_with_its_cause(state: JobState) -> None:
    with pytest.raises(JobError, match=f"'sft' is {state}: out of memory; give more") as caught:
        job(JobState.RUNNING, JobStatus(name="sft", state=state, detail="out of memory; give more")).wait(timeout=5)
    assert caught.value.name == "sft"
    unknown = (
        "no cause is known" if state is JobState.FAILED else "Continue from its newest checkpoint: tunewright resume"
    )
    with pytest.raises(JobError, match=unknown):
        job(state).wait(timeout=5)


def test_the_error_of_a_failed_job_has_the_failure() -> None:
    failure = Failure(66, "No such repository.", "Check the URI.", "fetch-model", 0)
    failed = JobStatus(name="sft", state=JobState.FAILED, detail=str(failure), failure=failure)
    with pytest.raises(JobError, match=r"No such repository\. Check the URI\.") as caught:
        job(failed).wait(timeout=5)
    assert caught.value.failure == failure
    assert caught.value.to_failure().container == "fetch-model"


def test_failed_and_suspended_may_be_what_is_waited_for() -> None:
    for state in (JobState.FAILED, JobState.SUSPENDED):
        assert job(JobState.RUNNING, state).wait([state]).state is state


def test_a_job_that_succeeded_will_not_run_again() -> None:
    with pytest.raises(JobError, match="'sft' is Succeeded"):
        job(JobState.SUCCEEDED).wait([JobState.RUNNING])


def test_the_callback_gets_each_status_that_differs_from_the_one_before() -> None:
    seen: list[tuple[str, str]] = []
    half, whole = (JobStatus(name="sft", state=JobState.DOWNLOADING, detail=d) for d in ("model, 50%", "model, 100%"))
    waited = job(JobState.CREATED, JobState.CREATED, half, half, whole, JobState.SUCCEEDED)
    waited.wait(callback=lambda status: seen.append((status.state, status.detail)))
    assert seen == [("Created", ""), ("Downloading", "model, 50%"), ("Downloading", "model, 100%"), ("Succeeded", "")]


def test_a_job_that_is_deleted_meanwhile_is_an_error() -> None:
    waited = job(JobState.RUNNING)
    with pytest.raises(JobError, match="There is no job"):
        waited.wait(callback=lambda _: waited.delete())


@pytest.mark.parametrize(
    ("state", "final", "at_rest"),
    [
        (JobState.CREATED, False, False), (JobState.QUEUED, False, False), (JobState.DOWNLOADING, False, False),
        (JobState.RUNNING, False, False), (JobState.RESTARTING, False, False), (JobState.SUSPENDED, False, True),
        (JobState.SUCCEEDED, True, True), (JobState.FAILED, True, True),
    ],
)  # fmt: skip
def test_which_states_are_the_end_and_which_are_a_rest(state: JobState, final: bool, at_rest: bool) -> None:
    assert (state.final, state.at_rest) == (final, at_rest)


def test_a_job_has_no_result_on_this_machine_unless_its_backend_knows_one() -> None:
    assert job(JobState.SUCCEEDED).result is None


def test_a_handle_follows_its_job_to_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    followed = job(JobState.SUCCEEDED)
    followed._backend.lines["sft"] = [("train", 0, '{"event": "checkpoint", "step": 5}'), ("train", 0, "noise")]
    assert followed.follow().state is JobState.SUCCEEDED
    assert capsys.readouterr().out == "checkpoint at step 5\nsft succeeded.\n"
