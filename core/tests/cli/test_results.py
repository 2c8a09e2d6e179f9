"""`tunewright chat`, `generate` and `merge`, with a trainer of a stranger's that repeats what it hears."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tunewright import JobState, TrainingClient
from tunewright.cli.commands import cli
from tunewright.errors import JobError, RequestError

PARROT = """
import attrs
from tunewright import TrainerProvider, hookimpl
from tunewright.errors import RequestError
from tunewright.providers import TrainedModel


class Model(TrainedModel):
    def __init__(self, folder, model):
        self.folder, self.model = folder, model

    def answer(self, messages, sampling):
        yield f"{self.folder.name} {self.model and self.model.name}: "
        yield from (f"{m['role'][0]}={m['content']} " for m in messages)
        yield f"{sampling.max_tokens} {sampling.temperature} {sampling.seed} {sampling.as_text}"

    def merge(self, folder):
        folder.mkdir()
        (folder / "merged").write_text(self.folder.name)


@attrs.frozen(kw_only=True)
class Parrot(TrainerProvider):
    def train(self, run): ...

    def load_result(self, folder, model):
        return Model(folder, model)


@attrs.frozen(kw_only=True)
class Heavy(TrainerProvider):
    extra = "train"

    def train(self, run): ...

    def load_result(self, folder, model):
        import a_library_that_is_not_there


@hookimpl
def tunewright_trainer_provider():
    return {cls}
"""


@pytest.fixture
def folder(site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site.install("tunewright-parrot", {"parrot": "tw_parrot"}, tw_parrot=PARROT.replace("{cls}", "Parrot"))
    site.install("tunewright-heavy", {"heavy": "tw_heavy"}, tw_heavy=PARROT.replace("{cls}", "Heavy"))
    monkeypatch.setenv("TUNEWRIGHT_HOME", str(tmp_path / "home"))
    (tmp_path / "result").mkdir()
    return tmp_path / "result"


def run(*arguments: object, said: str = "") -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], input=said)


def test_a_conversation_goes_on_until_it_is_begun_anew(folder: Path) -> None:
    done = run("chat", folder, "--trainer", "parrot", "--system", "Be brief.", said="one\n\ntwo\n/new\nthree\n")
    first, second, third = [line for line in done.output.splitlines() if line.startswith("result None")]
    assert first == "result None: s=Be brief. u=one 512 0.0 None False"
    assert second == f"result None: s=Be brief. u=one a={first} u=two 512 0.0 None False"
    assert third == "result None: s=Be brief. u=three 512 0.0 None False"
    assert done.exit_code == 0


def test_prompts_and_conversations_are_answered_line_by_line(folder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "hé", "id": 7}, {"messages": [{"role": "user", "content": "yes"}]}]
    (tmp_path / "prompts.jsonl").write_text("\n\n".join(json.dumps(row) for row in rows), "utf-8")
    options = (
        "--trainer",
        "parrot",
        "--model",
        tmp_path,
        "--max-tokens",
        5,
        "--temperature",
        0.5,
        "--seed",
        1,
        "--text",
    )
    done = run("generate", folder, tmp_path / "prompts.jsonl", "-o", tmp_path / "answers.jsonl", *options)
    assert done.exit_code == 0, done.output
    found = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text("utf-8").splitlines()]
    about = f"result {tmp_path.name}: "
    assert found == [
        {**rows[0], "answer": f"{about}u=hé 5 0.5 1 True"},
        {**rows[1], "answer": f"{about}u=yes 5 0.5 1 True"},
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "is not JSON"),
        ('{"text": "a"}', "neither a prompt nor messages"),
        ('{"messages": []}', "neither a prompt nor messages"),
        ('{"messages": [{"role": "user"}]}', "neither a prompt nor messages"),
        ('["a"]', "neither a prompt nor messages"),
    ],
)
def test_a_row_that_asks_nothing_is_named_before_the_model_is_loaded(folder: Path, line: str, problem: str) -> None:
    done = run("generate", folder, "-", "--trainer", "heavy", said=f'{{"prompt": "a"}}\n{line}\n')
    assert isinstance(done.exception, RequestError)
    assert str(done.exception).startswith("PROMPTS:2: ")
    assert problem in str(done.exception)


def test_an_adapter_is_merged(folder: Path, tmp_path: Path) -> None:
    done = run("merge", folder, tmp_path / "merged", "--trainer", "parrot")
    assert (done.exit_code, (tmp_path / "merged" / "merged").read_text()) == (0, "result")


def test_what_cannot_be_loaded_is_refused_in_words_that_help(folder: Path) -> None:
    def refused(*arguments: object) -> str:
        found = run("chat", *arguments).exception
        assert isinstance(found, RequestError | JobError)
        return str(found)

    assert "tunewright-heavy[train]" in refused(folder, "--trainer", "heavy")
    assert "is not a folder" in refused(folder / "missing", "--trainer", "parrot")
    assert "nobody" in refused("nobody", "--trainer", "parrot", "--backend", "local")


def nothing() -> None:
    """What a job does whose result is its empty folder."""


@pytest.mark.slow
def test_a_bare_name_is_a_jobs_if_there_is_one_and_else_a_folders(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--trainer", "parrot", "--backend", "local")
    assert "result None: u=hello" in run("chat", folder.name, *options, said="hello\n").output
    job = TrainingClient("local").create_job("result", train_func=nothing)
    assert job.wait(timeout=60).state is JobState.SUCCEEDED
    refused = run("chat", "result", *options, said="hello\n").exception
    assert "has no result on this machine" in str(refused), "the job is meant, which has written none"
    assert "result None: u=hello" in run("chat", "./result", *options, said="hello\n").output
    job.delete()
