"""The life of a job on this machine: from submit to its end, through crashes, with nothing left over."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import attrs
import pytest

from tunewright._client.job import Job
from tunewright._views.text import ending
from tunewright.backends.local.folder import JobFolder, Status
from tunewright.errors import AlreadySucceeded, Failure, JobError
from tunewright.events import parse_event
from tunewright.plan.plan import ContainerSpec
from tunewright.plan.secrets import SecretValue
from tunewright.status.state import JobState
from tunewright.status.summary import Summary

ONCE_KILLED = """
if first_time():
    wait("killed")
print("done", flush=True)
"""
UNTIL_GO = """
(out / "ready").touch()
wait("go")
"""
CLI = (sys.executable, "-c", "from tunewright.cli import main; main()")


def events(job, kind):
    return [event.to_dict() for event in job.events() if event.event == kind]


def cli(*arguments):
    return subprocess.run((*CLI, *arguments), capture_output=True, text=True, check=True).stdout


def test_a_job_succeeds_and_leaves_its_log_and_no_process(machine):
    steps = [("fetch-model", "print('fetching')"), ("check", "print('checking')")]
    status = machine.run(machine.plan("print('training'); (out / 'model').mkdir()", steps=steps))
    assert (status.state, status.detail) == (JobState.SUCCEEDED, "")
    assert status.created < status.started < status.finished
    assert status.result == str(machine.output() / "model")
    job = Job("job", machine.backend)
    assert list(job.logs()) == ["fetching", "checking", "training"]
    assert list(job.logs(container="check")) == ["checking"]
    assert job.result == machine.output() / "model"
    machine.until(lambda: not machine.processes())


@pytest.mark.slow
def test_a_job_without_a_model_has_no_result(machine):
    assert machine.run(machine.plan()).result is None


def test_a_verdict_of_a_rank_is_the_cause_of_the_failure(machine):
    verdict = {"code": 65, "cause": "Row 3 is no chat.", "remedy": "Mend it."}
    script = f"(run / 'verdict.json').write_text(json.dumps({verdict!r})); sys.exit(1)"
    status = machine.run(machine.plan(script))
    assert (status.state, status.detail) == (JobState.FAILED, "Row 3 is no chat. Mend it.")
    assert status.failure == Failure(65, "Row 3 is no chat.", "Mend it.", "train", 0)
    assert status.finished is not None


def test_a_verdict_of_a_step_ends_the_job_before_the_next_one_starts(machine):
    verdict = {"code": 77, "cause": "The token is wrong.", "remedy": "Give another.", "container": "fetch-model"}
    steps = [
        ("fetch-model", f"(run / 'verdict.json').write_text(json.dumps({verdict!r}))"),
        ("check", "(out / 'checked').touch()"),
    ]
    status = machine.run(machine.plan("(out / 'trained').touch()", steps=steps))
    assert (status.state, status.detail) == (JobState.FAILED, "The token is wrong. Give another.")
    assert status.failure == Failure(77, "The token is wrong.", "Give another.", "fetch-model", 0)
    report = machine.folder() / "report.json"
    machine.until(report.exists)  # it is written after the state
    assert json.loads(report.read_text())["failure"]["container"] == "fetch-model"
    assert not (machine.output() / "checked").exists()
    assert not (machine.output() / "trained").exists()


def test_a_step_that_ends_with_an_error_fails_the_job_and_says_where_its_log_is(machine):
    status = machine.run(machine.plan(steps=[("install-packages", "sys.exit(2)")]))
    assert status.state is JobState.FAILED
    assert "install-packages ended with exit code 2" in status.detail
    assert "tunewright logs job --container install-packages" in status.detail
    assert (status.failure.code, status.failure.container, status.failure.worker) == (2, "install-packages", 0)


@pytest.mark.slow
def test_a_step_that_was_killed_is_started_again(machine):
    job = machine.submit(machine.plan(steps=[("fetch-model", ONCE_KILLED)]))
    machine.until((machine.output() / "begun0").exists)
    assert job.state is JobState.DOWNLOADING
    machine.commands("fetch-model.py")[0].kill()
    assert machine.rest(job).state is JobState.SUCCEEDED
    assert list(job.logs(container="fetch-model")) == ["done"]


def test_a_program_that_is_not_there_fails_the_job_and_names_it(machine):
    main = ContainerSpec(name="train", image="none", command=("no-such-program",))
    status = machine.run(machine.plan(main=main))
    assert status.state is JobState.FAILED
    assert "'no-such-program' could not be started" in status.detail


@pytest.mark.slow
def test_a_crashed_worker_is_started_again_until_it_succeeds(machine):
    job = machine.submit(machine.plan("sys.exit(1 if first_time() else 0)"))
    assert machine.rest(job).state is JobState.SUCCEEDED
    assert [event["attempt"] for event in events(job, "attempt")] == [1, 2]


@pytest.mark.slow
def test_a_worker_that_always_crashes_fails_the_job_with_its_attempts(machine):
    job = machine.submit(machine.plan("sys.exit(3)", env={"TUNEWRIGHT_MAX_RESTARTS": "1"}))
    status = machine.rest(job)
    assert status.state is JobState.FAILED
    assert "exit code 3; 2 of 2 attempts" in status.detail


@pytest.mark.parametrize("victim", [pytest.param("command", marks=pytest.mark.slow), "run"])
def test_a_killed_process_is_started_again(machine, victim):
    job = machine.submit(machine.plan(ONCE_KILLED))
    machine.until((machine.output() / "begun0").exists)
    assert job.state is JobState.RUNNING
    (machine.commands() if victim == "command" else machine.workers(containing="run.py"))[0].kill()
    assert machine.rest(job).state is JobState.SUCCEEDED
    assert list(job.logs()) == [*[line for line in job.logs() if "started again" in line], "done"]
    assert len(events(job, "attempt")) == 2


@pytest.mark.slow
def test_all_workers_start_again_with_one_of_them(machine):
    script = """
    (out / f"started-{os.getpid()}-{me}").touch()
    if first_time():
        time.sleep(60) if me == "1" else sys.exit(1)
    """.replace("\n    ", "\n")
    job = machine.submit(machine.plan(script, num_workers=2, env={"TUNEWRIGHT_GRACE": "1"}))
    seen = set()
    job.wait(callback=lambda status: seen.add(status.state), timeout=60)
    assert JobState.RESTARTING in seen
    assert len(list(machine.output().glob("started-*-0"))) == 2
    assert len(list(machine.output().glob("started-*-1"))) == 2


@pytest.mark.slow
def test_a_final_failure_of_one_worker_ends_the_others(machine):
    script = "sys.exit(5) if me == '1' else time.sleep(60)"
    status = machine.run(machine.plan(script, num_workers=2, env={"TUNEWRIGHT_MAX_RESTARTS": "0"}))
    assert status.state is JobState.FAILED
    assert "exit code 5" in status.detail
    machine.until(lambda: not machine.processes())


@pytest.mark.slow
def test_an_elastic_job_succeeds_with_any_worker(machine):
    status = machine.run(machine.plan("me == '0' or time.sleep(60)", num_workers=2, elastic=(1, 2)))
    assert status.state is JobState.SUCCEEDED
    machine.until(lambda: not machine.processes())


@pytest.mark.slow
@pytest.mark.parametrize("where", ["step", "worker"])
def test_what_a_process_left_running_ends_with_it(machine, where):
    script = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)"
    plan = machine.plan(steps=[("check", script)]) if where == "step" else machine.plan(script)
    assert machine.run(plan).state is JobState.SUCCEEDED
    assert machine.workers() == []


def test_a_job_whose_supervisor_was_killed_is_shown_as_interrupted_and_goes_on_with_the_same_plan(machine):
    plan = machine.plan(ONCE_KILLED)
    job = machine.submit(plan)
    machine.until((machine.output() / "begun0").exists)
    machine.supervisors()[0].kill()
    status = machine.rest(job)
    assert status.state is JobState.SUSPENDED
    assert "interrupted" in status.detail
    assert ending(status, Summary(), job.command_for)[0].endswith(
        "Continue from its newest checkpoint: tunewright resume job"
    )
    machine.until(lambda: not machine.processes())  # nobody had to tell them
    scratch = JobFolder(machine.folder()).read().scratch
    assert Path(scratch).exists()
    machine.submit(plan)
    assert not Path(scratch).exists()
    assert machine.rest(job).state is JobState.SUCCEEDED
    assert list(job.logs()) == ["done"]


def test_a_step_does_not_outlive_a_killed_supervisor(machine):
    step = f"assert int(os.environ['TUNEWRIGHT_PARENT']) == os.getppid(){UNTIL_GO}"
    job = machine.submit(machine.plan(steps=[("install-packages", step)]))
    machine.until((machine.output() / "ready").exists)
    machine.supervisors()[0].kill()
    machine.until(lambda: not machine.processes())
    assert job.state is JobState.SUSPENDED


@pytest.mark.slow
def test_another_process_with_the_number_of_a_dead_supervisor_is_not_taken_for_it(machine):
    job = machine.submit(machine.plan(suspend=True))
    folder = JobFolder(machine.folder())
    folder.write(Status(state=JobState.RUNNING, pid=os.getpid()))
    assert "interrupted" in job.status().detail
    job.resume()
    assert machine.rest(job).state is JobState.SUCCEEDED


@pytest.mark.slow
def test_everything_killed_at_once_goes_on_with_the_same_plan(machine):
    plan = machine.plan(ONCE_KILLED)
    job = machine.submit(plan)
    machine.until((machine.output() / "begun0").exists)
    for process in machine.processes():
        process.kill()
    assert machine.rest(job).state is JobState.SUSPENDED
    machine.submit(plan)
    assert machine.rest(job).state is JobState.SUCCEEDED


@pytest.mark.slow
def test_a_terminated_supervisor_suspends_its_job(machine):
    job = machine.submit(machine.plan(UNTIL_GO))
    machine.until((machine.output() / "ready").exists)
    machine.supervisors()[0].terminate()
    assert machine.rest(job).state is JobState.SUSPENDED
    assert not machine.workers()


@pytest.mark.slow
def test_a_job_whose_supervisor_hangs_can_be_deleted(machine, monkeypatch):
    monkeypatch.setattr("tunewright.backends.local.backend._STOP_TIMEOUT", 0.5)
    job = machine.submit(machine.plan(UNTIL_GO))
    machine.until((machine.output() / "ready").exists)
    machine.supervisors()[0].suspend()
    job.delete()
    assert not machine.processes()
    assert not machine.folder().exists()


@pytest.mark.slow
def test_other_processes_list_suspend_resume_and_delete_a_job(machine):
    job = machine.submit(machine.plan(UNTIL_GO))
    machine.until((machine.output() / "ready").exists)
    assert "Running" in cli("list")
    cli("suspend", "job")
    assert not machine.processes()
    assert "Suspended" in cli("status", "job")
    (machine.output() / "ready").unlink()
    assert "Submitted job" in cli("resume", "job", "--detach")
    machine.until((machine.output() / "ready").exists)
    assert job.state is JobState.RUNNING
    cli("delete", "job")
    assert not machine.processes()
    assert not machine.folder().exists()
    assert "no jobs" in cli("list")


def _hear_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_ctrl_c_in_the_terminal_suspends_the_job(machine, tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text('import time\nprint(\'{"event": "start", "total_steps": 3}\')\ntime.sleep(60)\n')
    command = (*CLI, "run", "--backend", "local", "--name", "job", str(script))
    # A shell's background jobs ignore SIGINT, and pass that on; these tests may run in one.
    client = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_ctrl_c,  # noqa: PLW1509 - the test has one thread
    )
    assert any("3 steps" in line for line in client.stdout)
    client.send_signal(signal.SIGINT)
    _, said = client.communicate(timeout=200)
    assert client.returncode == 130
    assert "job is suspended" in said
    machine.until(lambda: not machine.processes())


def test_ctrl_c_while_the_supervisor_starts_leaves_nothing(machine, monkeypatch):
    naps, sleep = [], time.sleep

    def interrupted(seconds):
        naps.append(seconds)
        if len(naps) == 1:
            raise KeyboardInterrupt
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        machine.submit(machine.plan("time.sleep(60)"))
    assert not machine.folder().exists()
    machine.until(lambda: not machine.processes())


@pytest.mark.slow
def test_suspending_and_resuming_twice_does_nothing_more(machine):
    job = machine.submit(machine.plan(UNTIL_GO))
    job.suspend()
    job.suspend()
    assert job.state is JobState.SUSPENDED
    job.resume()
    with pytest.raises(JobError, match=r"Follow it: tunewright follow job"):
        job.resume()
    (machine.output() / "go").touch()
    assert machine.rest(job).state is JobState.SUCCEEDED
    with pytest.raises(JobError, match="nothing to suspend"):
        job.suspend()
    with pytest.raises(JobError, match="nothing to resume"):
        job.resume()


def test_a_job_that_is_created_suspended_waits_for_resume(machine):
    job = machine.submit(machine.plan(suspend=True))
    assert job.state is JobState.SUSPENDED
    assert not machine.processes()
    machine.submit(machine.plan(suspend=True))
    assert job.state is JobState.SUSPENDED
    job.resume()
    assert machine.rest(job).state is JobState.SUCCEEDED


@pytest.mark.slow
def test_a_failed_job_goes_on_with_the_same_plan(machine):
    plan = machine.plan("sys.exit(1 if first_time() else 0)", env={"TUNEWRIGHT_MAX_RESTARTS": "0"})
    assert machine.run(plan).state is JobState.FAILED
    assert machine.run(plan).state is JobState.SUCCEEDED


def test_a_name_is_taken_by_a_running_job_and_by_another_plan(machine):
    plan = machine.plan(UNTIL_GO)
    job = machine.submit(plan)
    with pytest.raises(JobError, match=r"'job' already exists \((created|running)\)"):
        machine.submit(plan)
    (machine.output() / "go").touch()
    machine.rest(job)
    with pytest.raises(AlreadySucceeded, match="tunewright delete job") as caught:
        machine.submit(plan)
    assert caught.value.name == "job"
    with pytest.raises(JobError, match=r"differs from it in the text of train\.py, num_workers \(1 → 2\)\.") as caught:
        machine.submit(machine.plan("pass", num_workers=2))
    assert not isinstance(caught.value, AlreadySucceeded)


@pytest.mark.slow
def test_a_job_goes_on_with_more_time_more_restarts_and_other_labels(machine):
    script = "first_time() and time.sleep(60)"
    job = machine.submit(machine.plan(script, env={"TUNEWRIGHT_DEADLINE": "1"}, deadline=1))
    status = machine.rest(job)
    assert status.state is JobState.FAILED
    assert "deadline of 1 seconds" in status.detail
    more = machine.plan(script, env={"TUNEWRIGHT_DEADLINE": "60"}, deadline=60, max_restarts=1, labels={"team": "a"})
    status = machine.run(more)
    assert status.state is JobState.SUCCEEDED
    assert status.labels == {"team": "a"}


@pytest.mark.slow
def test_a_step_has_to_end_within_the_deadline_too(machine):
    status = machine.run(machine.plan(steps=[("fetch-model", "time.sleep(60)")], deadline=1))
    assert status.state is JobState.FAILED
    assert "fetch-model exceeded the job's deadline of 1 seconds" in status.detail
    machine.until(lambda: not machine.processes())


@pytest.mark.slow
@pytest.mark.parametrize("state", [JobState.FAILED, JobState.SUSPENDED])
def test_a_job_that_was_at_rest_for_longer_than_its_deadline_goes_on(machine, state):
    plan = machine.plan(
        steps=[("check", "time.sleep(1)")], env={"TUNEWRIGHT_DEADLINE": "60"}, deadline=60, suspend=True
    )
    job = machine.submit(plan)
    JobFolder(machine.folder()).write(Status(state=state, started=1.0, finished=2.0))
    job.resume()
    assert machine.rest(job).state is JobState.SUCCEEDED


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "\xff"])
@pytest.mark.parametrize("file", ["job.json", "status.json"])
def test_a_damaged_job_is_listed_and_can_be_deleted(machine, file, text):
    good = machine.submit(machine.plan(name="good", suspend=True))
    job = machine.submit(machine.plan(suspend=True))
    (machine.folder() / file).write_text(text, "latin-1")
    found = {status.name: status for status in machine.backend.list()}
    assert set(found) == {"good", "job"}
    assert found["job"].state is JobState.FAILED
    assert (
        f"The state of job 'job' cannot be read: {machine.folder() / file} is damaged. "
        "Delete the job: tunewright delete job" in found["job"].detail
    )
    with pytest.raises(JobError, match="is damaged"):
        machine.submit(machine.plan(suspend=True))
    job.delete()
    assert [status.name for status in machine.backend.list()] == [good.name]


def test_what_a_killed_removal_left_goes_with_the_next_one(machine):
    machine.submit(machine.plan(suspend=True))
    left = machine.folder().with_name(".gone-old-0a1b2c3d")
    left.mkdir()
    (left / "model.bin").touch()
    machine.backend.delete("job")
    assert [path.name for path in left.parent.iterdir() if path.name != ".locks"] == []


def test_an_expired_job_is_removed_when_jobs_are_looked_at(machine):
    status = machine.run(machine.plan(ttl=3600))
    assert status.state is JobState.SUCCEEDED
    assert "3600 seconds after its end" in status.detail
    folder = JobFolder(machine.folder())
    folder.write(attrs.evolve(folder.read(), finished=0.0))
    assert machine.backend.list() == []
    assert not machine.folder().exists()


def test_jobs_are_listed_newest_first_and_by_label(machine):
    for name, team in (("one", "a"), ("two", "b")):
        machine.submit(machine.plan(name=name, labels={"team": team}, suspend=True))
    assert [status.name for status in machine.backend.list()] == ["two", "one"]
    assert [status.name for status in machine.backend.list({"team": "a"})] == ["one"]


@pytest.mark.parametrize("call", ["get", "logs", "suspend", "resume", "delete", "result_folder"])
def test_a_job_that_is_not_there_is_named(machine, call):
    machine.submit(machine.plan(suspend=True))
    for name in ("other", "..", ".locks", "a/b", ""):
        with pytest.raises(JobError, match="There is no job"):
            getattr(machine.backend, call)(name)


def test_a_supervisor_that_cannot_start_leaves_nothing_and_says_why(machine, monkeypatch):
    broken = machine.home.parent / "broken" / "filelock.py"
    broken.parent.mkdir()
    broken.write_text("raise ImportError('filelock is broken')")
    monkeypatch.setenv("PYTHONPATH", str(broken.parent))
    with pytest.raises(JobError, match="filelock is broken"):
        machine.submit(machine.plan())
    assert machine.backend.list() == []


def test_a_secret_reaches_its_own_step_and_no_other(machine):
    check = "assert ('TOKEN' in os.environ) == "
    steps = [("fetch-model", check + "True")]
    status = machine.run(machine.plan(check + "False", steps=steps, init_env={"TOKEN": SecretValue("s3cr3t")}))
    assert status.state is JobState.SUCCEEDED


def _files_with(text, folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if text.encode() in path.read_bytes()]


@pytest.mark.slow
def test_a_secret_lies_in_a_file_of_its_owner_alone_until_the_job_has_succeeded(machine):
    literal = "s3cr3t-value"
    plan = machine.plan("(out / 'ready').touch(); wait(os.environ['TOKEN'][:2])", env={"TOKEN": SecretValue(literal)})
    job = machine.submit(plan)
    machine.until((machine.output() / "ready").exists)
    assert _files_with(literal, machine.home) == ["secrets.json"]
    assert (machine.folder() / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert machine.folder().stat().st_mode & 0o777 == 0o700
    assert not any(literal in word for process in machine.processes() for word in process.cmdline())
    job.suspend()
    job.resume()
    (machine.output() / "s3").touch()
    assert machine.rest(job).state is JobState.SUCCEEDED
    assert _files_with(literal, machine.home) == []


@pytest.mark.slow
def test_a_renewed_secret_is_the_same_plan(machine):
    script = "sys.exit(0 if os.environ['TOKEN'] == 'new' else 1)"
    once = {"TUNEWRIGHT_MAX_RESTARTS": "0"}
    old = machine.run(machine.plan(script, env={**once, "TOKEN": SecretValue("old")}))
    assert old.state is JobState.FAILED
    new = machine.run(machine.plan(script, env={**once, "TOKEN": SecretValue("new")}))
    assert new.state is JobState.SUCCEEDED


@pytest.mark.slow
def test_of_two_clients_that_submit_at_once_one_is_refused(machine):
    plan, refused = machine.plan(UNTIL_GO), []

    def submit():
        try:
            machine.submit(plan)
        except JobError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=submit) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 2
    assert all("already exists" in text and "Follow it: tunewright follow job" in text for text in refused)
    # For a moment, what a supervisor starts looks as the supervisor itself.
    machine.until(lambda: len(machine.supervisors()) == 1)


@pytest.mark.slow
def test_a_log_is_followed_to_its_last_line_across_a_restart(machine):
    script = """
if first_time():
    print("first", flush=True)
    wait("seen")
    sys.exit(1)
print("second", flush=True)
sys.stdout.write("without a line break")
"""
    job = machine.submit(machine.plan(script))
    lines = []
    for line in job.log_lines(follow=True):
        if parse_event(line.text) is None and "started again" not in line.text:
            lines.append(line.text)
            (machine.output() / "seen").touch()
    assert lines == ["first", "second", "without a line break"]


@pytest.mark.slow
def test_following_ends_when_the_job_is_suspended_or_deleted(machine):
    job = machine.submit(machine.plan("print('x', flush=True); time.sleep(60)"))
    lines = (line for line in job.logs(follow=True) if line == "x")
    assert next(lines) == "x"
    job.suspend()
    assert list(lines) == []
    job.resume()
    lines = (line for line in job.logs(follow=True) if line == "x")
    assert next(lines) == "x"
    job.delete()
    assert [line for line in lines if line != "x"] == []


def test_a_log_of_a_step_or_worker_that_is_not_there_names_what_is(machine):
    job = machine.submit(machine.plan(suspend=True, steps=[("check", "")], num_workers=2))
    with pytest.raises(JobError, match=r"no container 'fetch-model'\. It has: check, train"):
        job.logs(container="fetch-model")
    with pytest.raises(JobError, match=r"no worker 2\. Its workers are 0 to 1"):
        job.logs(worker=2)


def test_a_job_survives_its_client(machine):
    code = """
import os, pathlib, signal, sys
sys.path.insert(0, sys.argv[1])
import conftest
machine = conftest.Machine(pathlib.Path(os.environ["TUNEWRIGHT_HOME"]))
machine.submit(machine.plan("wait('go')"))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], env=dict(os.environ), check=False)
    job = Job("job", machine.backend)
    machine.until(machine.commands)
    (machine.output() / "go").touch()
    assert machine.rest(job).state is JobState.SUCCEEDED
