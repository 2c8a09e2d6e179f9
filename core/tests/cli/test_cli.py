"""The command line: what it prints where, and how it exits."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tunewright.cli import main
from tunewright.status.state import JobState
from tunewright.status.status import JobStatus

JOB = "name: sft\nbackend: memory\nmodel: acme://m\ndataset: acme://d\ntrainer: acme\n"
COMMANDS = [
    "delete",
    "doctor",
    "events",
    "fetch",
    "list",
    "logs",
    "new-plugin",
    "plugins",
    "resume",
    "run",
    "status",
    "suspend",
    "train",
]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tunewright(client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs the command line in this process: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNEWRIGHT_HOME", str(tmp_path / "state"))
    (tmp_path / "job.yaml").write_text(JOB)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tunewright", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        code = caught.value.code
        return int(code or 0), *capsys.readouterr()  # type: ignore[return-value]

    return run


@pytest.fixture
def backend(client, monkeypatch: pytest.MonkeyPatch):
    """The backend `memory`, the same one for every client."""
    monkeypatch.setattr(type(client.backend), "connect", classmethod(lambda cls, options: client.backend))
    return client.backend


def process(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from tunewright.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]


def test_help_lists_every_command(tunewright: Run) -> None:
    code, out, err = tunewright("--help")
    assert (code, err) == (0, "")
    assert not [name for name in COMMANDS if f"\n  {name} " not in out]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_of_its_own(tunewright: Run, command: str) -> None:
    for flag in ("--help", "-h"):
        code, out, err = tunewright(command, flag)
        assert (code, err) == (0, "")
        assert out.startswith(f"Usage: tunewright {command}")


def test_the_version_is_the_distributions(tunewright: Run) -> None:
    from importlib.metadata import version

    code, out, err = tunewright("--version")
    assert (code, err) == (0, "")
    assert out.startswith(f"tunewright {version('tunewright')} (Python 3.")
    assert re.search(r"^  tunewright-acme \d", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "No such command 'trian'"),
        (["train"], "Give a JOB_FILE, or the job itself: --model and --dataset are missing."),
        (["train", "--model", "acme://m"], "--dataset is missing. Example: tunewright train --model"),
        (["preview"], "--model and --dataset are missing. Example: tunewright preview --model"),
        (["doctor", "--dataset", "acme://d"], "--model is missing. Example: tunewright doctor --model"),
        (["config", "nme", "x"], "'nme' is not one of"),
        (["update", "sft", "--ttl", "soon"], "'soon' is not a duration: write seconds, or 30m, 1h, 2d."),
        (["train", "job.yaml", "--bogus"], "No such option"),
        (["status"], "Missing argument 'NAME'"),
        (["run", "--workers", "two", "x.py"], "'two' is not a valid integer"),
        (["run", "--bogus", "x.py"], "No such option"),
        (["logs", "sft", "--worker", "x"], "'x' is not a valid integer"),
    ],
)
def test_a_wrong_call_is_exit_code_64(tunewright: Run, arguments: list[str], says: str) -> None:
    code, out, err = tunewright(*arguments)
    assert (code, out) == (64, "")
    assert says in err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["train", "missing.yaml"], 64, "error: job file='missing.yaml': cannot be read"),
        (["train", "job.yaml", "--set", "num_workers=0"], 64, "error: num_workers=0: must be at least 1"),
        (["train", "job.yaml", "--set", "modle=x"], 64, "error: modle: is not an argument. Did you mean 'model'?"),
        (["train", "job.yaml", "--set", "model=nope://x"], 64, "error: No installed plugin is named 'nope'"),
        (["train", "job.yaml", "--backend", "memry"], 64, "Did you mean 'memory'?"),
        (["list", "--backend", "acme"], 64, "error: Plugin 'acme' does not provide a backend"),
        (["status", "nope", "--backend", "memory"], 1, "error: There is no job 'nope'"),
        (["logs", "nope", "--backend", "memory"], 1, "error: There is no job 'nope'"),
        (["delete", "nope"], 1, "nope"),
        (["run", "missing.py", "--backend", "memory"], 64, "cannot be read"),
        (["new-plugin", "Bad-Name"], 64, "error: NAME='Bad-Name': is not a valid plugin name"),
    ],
)
def test_an_error_is_one_message_and_the_exit_code_for_it(
    tunewright: Run, arguments: list[str], code: int, says: str
) -> None:
    found, out, err = tunewright(*arguments)
    assert (found, out) == (code, "")
    assert says in err
    assert "Traceback" not in err


def test_a_fetch_error_exits_with_its_code(tunewright: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunewright import ExitCode, FetchError

    def fail(*_: object, **__: object) -> None:
        raise FetchError("The volume is full.", remedy="Make room.", code=ExitCode.NO_SPACE)

    monkeypatch.setattr("tunewright.cli.fetching.fetch_by_hand", fail)
    assert tunewright("fetch", "acme://m", "folder") == (73, "", "error: The volume is full. Make room.\n")


def test_an_interrupted_command_exits_with_130(tunewright: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tunewright.cli.fetching.fetch_by_hand", interrupt)
    assert tunewright("fetch", "acme://m", "folder")[0] == 130


def test_exit_codes_are_those_of_a_real_process(tmp_path: Path) -> None:
    assert process("--help").returncode == 0
    done = process("train", "missing.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith("error: job file='missing.yaml'")


def test_a_reader_that_leaves_is_no_trouble(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", "from tunewright.cli import main; main()", "plugins", "--json"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.stderr == ""


def test_a_dry_run_prints_yaml_that_is_ready_to_apply(tunewright: Run, backend) -> None:
    code, out, err = tunewright("train", "job.yaml", "--dry-run", "--set", "name=other")
    assert (code, err) == (0, "")
    (document,) = yaml.safe_load_all(out)
    assert (document["kind"], document["name"]) == ("Plan", "other")
    assert backend.plans == {}


@pytest.mark.parametrize(
    ("backend_name", "note"),
    [
        ("kubernetes", "Rendered as a PyTorchJob. Submitting looks at what the cluster can run"),
        ("trainjob", ""),
        ("job", ""),
        ("local", ""),
    ],
)
def test_a_dry_run_works_on_every_backend_and_redacts_secrets(
    tunewright: Run, backend_name: str, note: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("ACME_TOKEN", "a-literal-secret")
    (tmp_path / "secret.yaml").write_text(
        JOB.replace("model: acme://m", "model: {provider: acme, uri: acme://m, token: {env: ACME_TOKEN}}")
    )
    code, out, err = tunewright("train", "secret.yaml", "--backend", backend_name, "--dry-run")
    assert (code, err.partition(";")[0].strip()) == (0, note)
    assert len(list(yaml.safe_load_all(out))) >= 2
    assert "<redacted>" in out
    assert "a-literal-secret" not in out
    assert not (tmp_path / "state").exists()


def test_a_dry_run_with_json_prints_a_document_a_line(tunewright: Run) -> None:
    code, out, err = tunewright("train", "job.yaml", "--dry-run", "--json")
    assert (code, err) == (0, "")
    assert [json.loads(line)["kind"] for line in out.splitlines()] == ["Plan"]


EVENTS = [
    {"event": "start", "total_steps": 2, "epochs": None, "world_size": 1, "resumed_from": None},
    {"event": "step", "step": 1, "loss": 2.0},
    {"event": "checkpoint", "step": 2},
]


def finished(backend, state: JobState = JobState.SUCCEEDED, detail: str = "") -> None:
    backend.script["sft"] = [JobStatus(name="sft", state=state, detail=detail, result="/result", labels={"a": "b"})]
    backend.lines["sft"] = [
        ("train", 0, "plain"),
        *(("train", 0, json.dumps(e)) for e in EVENTS),
        ("fetch-model", 1, "other"),
    ]


def test_a_job_is_followed_to_its_end(tunewright: Run, backend) -> None:
    finished(backend)
    code, out, err = tunewright("train", "job.yaml")
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == ["training: 2 steps on 1 process", "step 1/2: loss 2.0000"]
    assert out.splitlines()[-3:] == ["sft succeeded.", "model: /result", "loss: 2.0000 at first, 2.0000 at last (-0%)"]
    assert list(backend.plans) == ["sft"]


def test_a_failed_job_is_exit_code_1_with_its_cause(tunewright: Run, backend) -> None:
    finished(backend, JobState.FAILED, "The volume is full. Make room.")
    code, out, _ = tunewright("train", "job.yaml")
    assert code == 1
    assert out.splitlines()[-2:] == [
        "sft failed: The volume is full. Make room.",
        "Its log: tunewright logs sft --backend memory",
    ]


def test_json_prints_the_events_and_nothing_else(tunewright: Run, backend) -> None:
    finished(backend)
    code, out, err = tunewright("train", "job.yaml", "--json")
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[:-1] == EVENTS
    assert (lines[-1]["event"], lines[-1]["state"]) == ("end", "Succeeded")


def test_a_detached_job_says_how_to_follow_it(tunewright: Run, backend) -> None:
    assert tunewright("train", "job.yaml", "-d") == (
        0,
        "Submitted sft. To follow it: tunewright follow sft --backend memory\n",
        "",
    )
    del backend.plans["sft"]
    code, out, err = tunewright("train", "job.yaml", "--detach", "--json")
    assert (code, out) == (0, "")
    assert "Submitted sft." in err


def test_ctrl_c_suspends_the_job_that_is_followed(tunewright: Run, backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tunewright._views.follow.follow", interrupt)
    code, out, err = tunewright("train", "job.yaml")
    assert (code, out) == (130, "")
    assert "sft is suspended. Continue from its newest checkpoint: tunewright resume sft --backend memory" in err
    assert ("suspend", "sft") in backend.calls


def test_a_job_that_has_succeeded_already_is_shown_and_not_run_again(tunewright: Run, backend, monkeypatch) -> None:
    from tunewright.errors import AlreadySucceeded

    def refuse(plan: object) -> None:
        raise AlreadySucceeded("Job 'sft' has succeeded already.", name="sft")

    finished(backend)
    monkeypatch.setattr(backend, "submit", refuse)
    code, out, err = tunewright("train", "job.yaml")
    assert (code, err) == (0, "Job 'sft' has succeeded already.\n")
    assert "sft succeeded." in out


def test_what_the_command_line_says_of_the_client_wins_over_the_file(
    tunewright: Run, backend, monkeypatch, tmp_path
) -> None:
    seen = []
    monkeypatch.setattr(type(backend), "connect", classmethod(lambda cls, options: seen.append(options) or backend))
    (tmp_path / "job.yaml").write_text(JOB + "namespace: theirs\ncontext: theirs\n")
    assert tunewright("train", "job.yaml", "--dry-run", "-n", "mine")[0] == 0
    assert (seen[0].namespace, seen[0].context) == ("mine", "theirs")


def test_paths_in_a_job_file_are_relative_to_it(tunewright: Run, backend, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "data.jsonl").write_text("{}")
    (tmp_path / "deep" / "job.yaml").write_text(JOB.replace("acme://d", "./data.jsonl"))
    _, out, _ = tunewright("train", "deep/job.yaml", "--dry-run", "--json")
    assert json.loads(json.loads(out)["files"]["dataset.json"])["params"] == {
        "uri": (tmp_path / "deep" / "data.jsonl").as_uri()
    }


def test_a_job_file_may_hold_code(tunewright: Run, backend, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "train.py").write_text("print(1)")
    (tmp_path / "deep" / "job.yaml").write_text("backend: memory\nname: code\nscript: train.py\nargs: [--lr, 0.1]\n")
    _, out, _ = tunewright("train", "deep/job.yaml", "--dry-run", "--json")
    assert json.loads(out)["files"]["train.py"] == "print(1)"
    assert json.loads(out)["containers"][-1]["command"][-2:] == ["--lr", "0.1"]
    with (tmp_path / "deep" / "job.yaml").open("a") as file:
        file.write("script_folder: .\n")
    _, out, _ = tunewright("train", "deep/job.yaml", "--dry-run", "--json")
    assert json.loads(out)["files"]["code/train.py"] == "print(1)"
    (tmp_path / "image.yaml").write_text("backend: memory\nbase_image: image:1\ncommand: [./start]\n")
    _, out, _ = tunewright("train", "image.yaml", "--dry-run", "--json")
    assert json.loads(out)["containers"][-1]["command"][-1] == "./start"


def test_run_leaves_everything_after_the_script_to_the_script(tunewright: Run, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print(1)")
    theirs = ["--name", "theirs", "-n", "5", "--json", "-d", "--workers", "7", "--help"]
    code, out, err = tunewright(
        "run", "--backend", "memory", "--name", "mine", "--dry-run", "--json", "train.py", *theirs
    )
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["name"] == "mine"
    assert document["containers"][-1]["command"][-len(theirs) :] == theirs


def test_run_takes_the_workers_and_what_they_get(tunewright: Run, backend, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print(1)")
    options = [
        "--procs",
        "auto",
        "--gpu",
        "2",
        "--cpu",
        "8",
        "--memory",
        "16Gi",
        "--image",
        "a:1",
        "--package",
        "einops",
        "-d",
    ]
    assert tunewright("run", "--backend", "memory", "--name", "mine", *options, "train.py")[0] == 0
    plan = backend.plans["mine"]
    assert (plan.num_procs_per_worker, plan.main.image, plan.main.resources.cpu) == (2, "a:1", "8")
    assert plan.init_containers[0].command[-1] == "einops"
    code, out, err = tunewright("run", "--backend", "memory", "--workers", "2", "train.py")
    assert (code, out) == (64, "")
    assert "storage: 2 worker(s)" in err


def test_list_says_how_to_begin_and_json_stays_empty(tunewright: Run, backend) -> None:
    assert tunewright("list", "--backend", "memory") == (
        0,
        "There are no jobs. Start one: tunewright train job.yaml\n",
        "",
    )
    assert tunewright("list", "--backend", "memory", "--json") == (0, "", "")
    assert tunewright("list") == (0, "There are no jobs. Start one: tunewright train job.yaml\n", "")


def test_list_and_status_show_jobs_to_people_and_programs(tunewright: Run, backend) -> None:
    long = "a" * 50
    created = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    backend.script[long] = [JobStatus(name=long, state=JobState.RUNNING, created=created, result="/r" * 60)]
    code, out, _ = tunewright("list", "--backend", "memory")
    assert code == 0
    (row,) = [line for line in out.splitlines() if long in line]
    assert "Running" in row
    assert "/r" * 60 in row
    _, out, _ = tunewright("list", "--backend", "memory", "--json")
    _, status, _ = tunewright("status", long, "--backend", "memory", "--json")
    measured = {"model": "", "loss": None, "eval_loss": None, "seconds": None}
    assert json.loads(out) == {**json.loads(status), **measured}
    assert (json.loads(out)["name"], json.loads(out)["state"]) == (long, "Running")
    assert datetime.fromisoformat(json.loads(out)["created"]) == created
    _, out, _ = tunewright("status", long, "--backend", "memory")
    assert out.startswith(f"name:     {long}\nstate:    Running\n")
    assert "finished" not in out


def test_a_list_has_only_the_states_that_are_asked_for_and_so_many_jobs(tunewright: Run, backend) -> None:
    for number, state in enumerate((JobState.FAILED, JobState.RUNNING, JobState.FAILED, JobState.FAILED)):
        created = datetime(2026, 11, 24, 12, number, tzinfo=UTC)
        backend.script[f"j{number}"] = [JobStatus(name=f"j{number}", state=state, created=created)]

    def names(*options: str) -> list[str]:
        _, out, _ = tunewright("list", "--backend", "memory", "--json", *options)
        return sorted(json.loads(line)["name"] for line in out.splitlines())

    assert names("--state", "failed") == ["j0", "j2", "j3"]
    assert len(names("--state", "FAILED", "--limit", "2")) == 2
    assert names("--state", "running", "--state", "created") == ["j1"]
    assert tunewright("list", "--state", "lost")[0] == 64


def test_a_log_says_events_in_words_and_events_are_json(tunewright: Run, backend) -> None:
    finished(backend)
    said = ["training: 2 steps on 1 process", "step 1/2: loss 2.0000", "checkpoint at step 2"]
    log = "\n".join(["plain", *said, "other", ""])
    assert tunewright("logs", "sft", "--backend", "memory") == (0, log, "")
    for option in ("--container", "--step"):
        assert tunewright("logs", "sft", "--backend", "memory", option, "fetch-model")[1] == "other\n"
    assert "other" not in tunewright("logs", "sft", "--backend", "memory", "--worker", "0")[1]
    events = tunewright("events", "sft", "--backend", "memory")[1]
    assert [json.loads(line) for line in events.splitlines()] == EVENTS


def test_suspend_resume_and_delete_reach_the_job(tunewright: Run, backend) -> None:
    finished(backend)
    assert "tunewright resume sft --backend memory" in tunewright("suspend", "sft", "--backend", "memory")[1]
    assert tunewright("resume", "sft", "--backend", "memory", "-d")[0] == 0
    assert tunewright("resume", "sft", "--backend", "memory")[1].splitlines()[-3] == "sft succeeded."
    assert tunewright("delete", "sft", "--backend", "memory") == (0, "Deleted sft.\n", "")
    assert [c[0] for c in backend.calls if c[0] != "get"] == ["suspend", "resume", "resume", "delete"]


@pytest.fixture
def unusable(site) -> None:
    site.install("tunewright-bad", {"bad": "tw_bad"}, tw_bad="import a_library_that_nobody_has")
    site.install("tunewright-exits", {"exits": "tw_exits"}, tw_exits="raise SystemExit(3)")
    site.providers("old", group="tunewright.v0")
    site.install("tunewright-twice", {"acme": "tw_acme"})
    lost = "from tunewright import *\n@hookimpl\ndef tunewright_dataset_provider(): return 3\n"
    site.install("tunewright-lost", {"lost": "tw_lost"}, tw_lost=lost)


@pytest.mark.parametrize(
    ("command", "expected"),
    [(("fetch", "file://{folder}", "{place}"), 64), (("report", "sft", "--html", "{place}"), 1)],
)
def test_a_place_that_cannot_be_written_is_one_line(
    tunewright: Run, backend, tmp_path: Path, command: tuple, expected: int
) -> None:
    finished(backend)
    words = [word.format(folder=tmp_path, place=tmp_path / "job.yaml" / "x") for word in command]
    code, out, err = tunewright(*words, *(["--backend", "memory"] if words[0] == "report" else []))
    assert (code, out) == (expected, "")
    assert f"{tmp_path}/job.yaml/x" in err
    assert ": Not a directory" in err
    assert err.count("\n") == 1


def test_plugins_shows_every_plugin_and_what_is_wrong_with_it(tunewright: Run, unusable: None) -> None:
    code, out, err = tunewright("plugins")
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert rows["file"].split()[1:] == ["tunewright", "0.1.0", "model,", "dataset"]
    for name in ("bad", "exits", "old", "acme", "lost"):
        assert rows[name].split()[-1] == "unusable"
        assert f"\n{name}: Plugin '{name}'" in err
    assert "No module named 'a_library_that_nobody_has'" in err
    assert "registered by several distributions" in err
    assert "made for plugin API v0" in err


def test_plugins_as_json_is_a_line_each(tunewright: Run, unusable: None) -> None:
    code, out, err = tunewright("plugins", "--json")
    assert (code, err) == (0, "")
    rows = {row["name"]: row for row in map(json.loads, out.splitlines())}
    assert rows["file"] == {
        "name": "file",
        "distribution": "tunewright",
        "version": "0.1.0",
        "gives": "model, dataset",
        "problem": "",
        "always": False,
    }
    assert rows["lost"]["gives"] == "unusable"
    assert "returned 3" in rows["lost"]["problem"]


def test_plugins_shows_which_plugins_are_company_wide(tunewright: Run, site) -> None:
    hook = "\nalways = True\n@hookimpl\ndef tunewright_modify_plan(plan): return plan\n"
    site.providers("policy", extra=hook)
    code, out, err = tunewright("plugins")
    assert (code, err) == (0, "")
    assert "policy" in out
    assert "trainer, changes to the plan of every job" in out


def test_new_plugin_writes_a_folder_and_says_what_is_next(tunewright: Run, tmp_path: Path) -> None:
    code, out, err = tunewright("new-plugin", "acme2")
    assert (code, err) == (0, "")
    assert "pip install -e" in out
    files = {
        p.relative_to(tmp_path / "tunewright-acme2").as_posix()
        for p in (tmp_path / "tunewright-acme2").rglob("*")
        if p.is_file()
    }
    module = "src/tunewright_acme2"
    assert files == {
        *("pyproject.toml", "README.md", f"{module}/__init__.py", f"{module}/container.py"),
        *("tests/test_acme2.py", "tests/service.py"),
    }
    assert "$" not in "".join((tmp_path / "tunewright-acme2" / f).read_text() for f in files)
    code, out, err = tunewright("new-plugin", "acme2")
    assert (code, out) == (64, "")
    assert "already exists" in err
