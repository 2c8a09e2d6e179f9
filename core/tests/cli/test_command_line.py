"""The command line for people: jobs without a file, one default for all commands, groups and examples, completion."""

import json
import os
import re
from pathlib import Path

import click
import pytest
import yaml
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from tunewright import RequestError
from tunewright.cli import yaml_text
from tunewright.cli.commands import cli
from tunewright.errors import AlreadyRunning, TunewrightError
from tunewright.status.state import JobState
from tunewright.status.status import JobStatus

SOURCES = ["--model", "acme://m", "--dataset", "acme://d", "--trainer", "acme"]


@pytest.fixture
def backend(client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The backend `memory`, the same one for every client."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNEWRIGHT_HOME", str(tmp_path / "state"))
    for name in ("BACKEND", "NAMESPACE", "CONTEXT"):
        monkeypatch.delenv(f"TUNEWRIGHT_{name}", raising=False)
    monkeypatch.setattr(type(client.backend), "connect", classmethod(lambda cls, options: client.backend))
    return client.backend


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def done(*arguments: str) -> str:
    found = call(*arguments)
    assert found.exception is None, found.output
    return found.stdout


def refused(*arguments: str) -> str:
    found = call(*arguments)
    assert isinstance(found.exception, TunewrightError), found.output
    return str(found.exception)


# Jobs without a file


def test_a_job_needs_no_file(backend) -> None:
    (plan,) = yaml.safe_load_all(
        done("train", *SOURCES, "--name", "sft", "--set", "trainer.rate=2e-4", "--backend", "memory", "--dry-run")
    )
    assert plan["name"] == "sft"
    assert json.loads(plan["files"]["trainer.json"])["params"] == {"rate": 2e-4}


def test_options_change_a_job_file(backend, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "job.yaml").write_text(
        "name: a\nbackend: memory\nmodel: acme://m\ndataset: ./d\ntrainer: acme\n"
    )
    out = done("train", "sub/job.yaml", "--name", "b", "--model", "acme://other", "--dataset", "acme://e", "--dry-run")
    (plan,) = yaml.safe_load_all(out)
    assert plan["name"] == "b"
    assert json.loads(plan["files"]["model.json"])["params"]["uri"] == "acme://other"


def test_a_job_without_a_file_is_checked(backend) -> None:
    found = [json.loads(line) for line in call("doctor", *SOURCES, "--backend", "memory", "--json").output.splitlines()]
    assert "is valid" in next(finding["text"] for finding in found if finding["about"] == "job")
    refused = call("doctor", *SOURCES, "--set", "trainer.rate=fast", "--backend", "memory", "--json")
    assert refused.exit_code == 1


def test_a_job_is_saved_as_a_file_that_does_the_same(backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "a-literal-secret")
    (tmp_path / "jobs").mkdir()
    given = [
        "--name",
        "off",
        "--set",
        "dataset.token={env: A_TOKEN}",
        "--set",
        "trainer.rate=2e-4",
        "--backend",
        "memory",
    ]
    first = done("train", *SOURCES, *given, "--save", "jobs/job.yaml", "--dry-run")
    text = (tmp_path / "jobs" / "job.yaml").read_text("utf-8")
    assert "a-literal-secret" not in text
    assert list(yaml_text.parse(text, "job.yaml").value) == ["name", "backend", "model", "dataset", "trainer"]
    assert done("train", "jobs/job.yaml", "--dry-run") == first
    done("train", *SOURCES, *given, "--save", "jobs/job.yaml", "--dry-run")  # the same contents
    message = refused("train", *SOURCES, "--save", "jobs/job.yaml", "--dry-run")
    assert message.startswith("--save='jobs/job.yaml': already exists, with other contents")


def test_paths_are_saved_relative_to_the_file(backend, tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    call("train", "--model", "./m", "--dataset", "../d", "--trainer", "acme", "--save", "jobs/job.yaml", "--dry-run")
    assert yaml.safe_load((tmp_path / "jobs" / "job.yaml").read_text()) == {
        "model": "../m",
        "dataset": "../../d",
        "trainer": "acme",
    }


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("org/name", r"model='org/name': is neither a URI nor marked as a path\. Write hf://org/name if it is on the Hugging Face Hub, or \./org/name if"),
        ("here", r"model='here': is neither a URI nor marked as a path\. Write \./here: it is in "),
        ("there", r"Write \./there if it is a file or folder here, or else scheme://"),
        ("C:\\models\\x", r"is a path of Windows, and this is another system\. Write the path as"),
        ("D:/models", r"is a path of Windows"),
    ],
)  # fmt: skip
@pytest.mark.skipif(os.name == "nt", reason="there, C:\\ is a path")
def test_a_path_without_its_mark_is_told_what_to_write(backend, tmp_path: Path, model: str, says: str) -> None:
    (tmp_path / "here").mkdir()
    assert re.search(
        says, refused("train", "--model", model, "--dataset", "acme://d", "--trainer", "acme", "--backend", "local")
    )
    says_of_data = refused(
        "train", "--model", "acme://m", "--dataset", "org/name", "--trainer", "acme", "--backend", "local"
    )
    assert "Write hf://datasets/org/name if" in says_of_data


# Following


def test_a_job_is_followed_again(backend) -> None:
    backend.script["sft"] = [JobStatus(name="sft", state=JobState.SUCCEEDED)]
    line = {"event": "start", "total_steps": 2, "epochs": None, "world_size": 1, "resumed_from": None}
    backend.lines["sft"] = [("train", 0, json.dumps(line))]
    assert json.loads(done("follow", "sft", "--backend", "memory", "--json").splitlines()[0])["total_steps"] == 2


def test_a_job_that_runs_already_is_followed(backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(plan: object) -> None:
        raise AlreadyRunning("Job 'sft' already exists (running).", name="sft")

    monkeypatch.setattr(backend, "submit", taken)
    backend.script["sft"] = [JobStatus(name="sft", state=JobState.SUCCEEDED)]
    backend.lines["sft"] = []
    found = call("train", *SOURCES, "--name", "sft", "--backend", "memory")
    assert found.exit_code == 0
    assert found.stderr.startswith("Job 'sft' is running.\n")


# One default


def test_every_command_uses_the_same_default(backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert done("config").splitlines()[0].split() == ["backend:", "local", "(built-in)"]
    assert "(kubernetes)" not in done("list")
    assert done("config", "backend", "memory").split() == ["backend:", "memory", "(from", "tunewright", "config)"]
    backend.script["sft"] = [JobStatus(name="sft", state=JobState.SUCCEEDED)]
    assert "sft" in done("status", "sft")
    assert yaml.safe_load(done("train", *SOURCES, "--dry-run"))["kind"] == "Plan"
    monkeypatch.setenv("TUNEWRIGHT_BACKEND", "local")
    assert json.loads(done("config", "backend", "--json")) == {
        "setting": "backend",
        "value": "local",
        "from": "from TUNEWRIGHT_BACKEND",
    }
    assert "There is no job 'sft' on this machine" in refused("status", "sft")
    assert "sft" in done("status", "sft", "--backend", "memory")  # the option counts first
    (tmp_path / "job.yaml").write_text("backend: memory\nmodel: acme://m\ndataset: acme://d\ntrainer: acme\n")
    assert yaml.safe_load(done("train", "job.yaml", "--dry-run"))["kind"] == "Plan"  # and then the file
    monkeypatch.delenv("TUNEWRIGHT_BACKEND")
    done("config", "backend", "--unset")
    assert "built-in" in done("config", "backend")


def test_namespace_and_context_have_defaults_too(client, backend, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(
        type(client.backend), "connect", classmethod(lambda cls, options: seen.append(options) or backend)
    )
    done("config", "namespace", "team-a")
    monkeypatch.setenv("TUNEWRIGHT_CONTEXT", "there")
    done("list", "--backend", "memory")
    done("list", "--backend", "memory", "-n", "own")
    assert [(o.namespace, o.context) for o in seen] == [("team-a", "there"), ("own", "there")]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["backend", "memry"], "Did you mean 'memory'"), (["backend", "acme"], "does not provide a backend"), (["namespace", " "], "is empty")],
)  # fmt: skip
def test_a_default_that_cannot_work_is_not_kept(backend, arguments: list[str], says: str) -> None:
    assert says in refused("config", *arguments)
    assert "built-in" in done("config", "backend")


def test_a_damaged_file_of_defaults_counts_as_none(backend, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    for text in ("{", "[]", '{"backend": 3, "other": "x"}'):
        (tmp_path / "state" / "config.json").write_text(text)
        assert "built-in" in done("config", "backend")


def test_commands_for_local_jobs_name_the_backend_where_it_is_not_the_default(
    backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunewright import TrainingClient

    local = TrainingClient("local").backend
    assert local.command_for("follow", "sft") == "tunewright follow sft"
    monkeypatch.setenv("TUNEWRIGHT_BACKEND", "kubernetes")
    assert local.command_for("follow", "sft") == "tunewright follow sft --backend local"


# Help


def test_help_has_every_command_below_a_heading_with_its_whole_summary() -> None:
    out = done("--help")
    headings = re.findall(r"^(\w[\w ]*):$", out, re.MULTILINE)
    assert headings == ["Options", "Start a job", "Watch jobs", "Manage jobs", "Use a result", "Set up", "Others"]
    assert "..." not in out.replace("[ARGS]...", "")
    assert [name for name in cli.commands if not re.search(rf"^  {name} ", out, re.MULTILINE)] == []


def test_examples_are_command_lines_that_parse() -> None:
    import shlex

    shown = {name: getattr(command, "examples", ()) for name, command in cli.commands.items()}
    assert [name for name in ("train", "run", "logs", "fetch", "update", "follow", "config") if not shown[name]] == []
    for name, examples in shown.items():
        out = done(name, "--help")
        for line, meaning in examples:
            assert f"tunewright {line}\n" in out
            assert meaning.endswith(".")
            words = shlex.split(line.partition(" >")[0])
            command = cli.get_command(click.Context(cli), words[0])
            assert command is not None
            parent = click.Context(cli, help_option_names=["-h", "--help"])  # click remembers the option for help
            command.make_context(words[0], words[1:], parent=parent)


# Completion


def completed(*words: str) -> list[str]:
    complete = ShellComplete(cli, {}, "tunewright", "_TUNEWRIGHT_COMPLETE")
    return [item.value for item in complete.get_completions(list(words[:-1]), words[-1])]


def test_names_of_jobs_and_of_containers_are_completed(backend) -> None:
    for name in ("sft", "sft-2", "other"):
        backend.script[name] = [JobStatus(name=name, state=JobState.SUCCEEDED)]
    assert sorted(completed("status", "--backend", "memory", "sf")) == ["sft", "sft-2"]
    assert completed("status", "--backend", "nowhere", "sf") == []
    assert completed("logs", "sft", "--container", "fetch-m") == ["fetch-model"]
    assert "memory" in completed("list", "--backend", "m")
    assert completed("sta") == ["status"]


def test_keys_of_job_files_are_completed_level_by_level(backend) -> None:
    assert completed("train", "--set", "num_w") == ["num_workers="]
    assert completed("train", "--set", "trainer.ra") == ["trainer.rate="]
    assert completed("train", "--set", "storage") == ["storage.", "storage=", "storage_config="]
    assert "storage.size=" in completed("train", "--set", "storage.")
    assert completed("train", "--set", "nothing.x") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_calls_us(shell: str) -> None:
    assert f"_TUNEWRIGHT_COMPLETE={shell}_complete" in done("completion", shell)


# Durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("1h", 3600), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800), ("1H 5M", 3900), (60, 60)],
)  # fmt: skip
def test_a_time_may_have_a_unit(backend, text: object, seconds: int) -> None:
    out = done("train", *SOURCES, "--set", f"deadline={text}", "--backend", "kubernetes", "--dry-run")
    (job,) = (document for document in yaml.safe_load_all(out) if document["kind"] == "PyTorchJob")
    assert f"'TUNEWRIGHT_DEADLINE', 'value': '{seconds}'" in str(job)


@pytest.mark.parametrize("text", ["soon", "1w", "h", "-1h", "1h 30", "''"])
def test_what_is_no_time_is_refused(backend, text: str) -> None:
    message = refused("train", *SOURCES, "--set", f"ttl={text}", "--backend", "memory", "--dry-run")
    assert "Give seconds, or a number with a unit: 30m, 1h, 1h30m, 7d." in message


def test_a_running_job_is_given_more_time_with_a_unit(client) -> None:
    from tunewright.request.update import job_update

    assert job_update(str, {"ttl": "1h"}).ttl == 3600
    with pytest.raises(RequestError, match="a number with a unit"):
        job_update(str, {"deadline": "soon"})


def test_words_of_other_programs_lead_to_ours(backend) -> None:
    for word, ours in {
        "base_model": "model",
        "gpus": "resources_per_worker",
        "lr": "trainer.learning_rate",
    }.items():
        message = refused("train", *SOURCES, "--set", f"{word}=1", "--backend", "memory", "--dry-run")
        assert f"{word}: is not an argument. Did you mean '{ours}'?" in message
