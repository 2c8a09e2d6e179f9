"""The quickstart, as the README tells people to run it."""

import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from tunewright import TrainingClient
from tunewright.cli import jobfile

EXAMPLES = Path(__file__).parent.parent / "examples"
TUNEWRIGHT = Path(sys.executable).with_name("tunewright")
PROMPT = "What does math.sqrt do?"

Event = Mapping[str, object]


@pytest.fixture(scope="session")
def quickstart() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quickstart_example", EXAMPLES / "quickstart.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def examples(quickstart: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of examples/ with the inputs made."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copy(EXAMPLES / "quickstart.yaml", folder)
    quickstart.main(folder / "quickstart")
    return folder


def rows(file: Path) -> list[tuple[str, str]]:
    conversations = [json.loads(line)["messages"] for line in file.read_text("utf-8").splitlines()]
    return [(question["content"], answer["content"]) for question, answer in conversations]


# What is trained on.


def test_there_are_at_least_2000_different_questions_with_real_answers(examples: Path) -> None:
    train = rows(examples / "quickstart/data/train.jsonl")
    assert len(train) >= 2_000
    assert len({question for question, _ in train}) == len(train)
    sqrt = (math.sqrt.__doc__ or "").strip()
    assert dict(train)[PROMPT] == sqrt


def test_what_is_held_out_asks_for_what_was_learnt_in_words_that_were_not(examples: Path) -> None:
    train = rows(examples / "quickstart/data/train.jsonl")
    held_out = rows(examples / "quickstart/data/validation.jsonl")
    assert len(held_out) >= 50
    assert not {question for question, _ in held_out} & {question for question, _ in train}
    assert {answer for _, answer in held_out} <= {answer for _, answer in train}


def test_the_same_python_makes_the_same_files(examples: Path, quickstart: ModuleType, tmp_path: Path) -> None:
    quickstart.main(tmp_path / "again")
    made = sorted(p.relative_to(examples / "quickstart") for p in (examples / "quickstart").rglob("*") if p.is_file())
    differing = [p for p in made if (tmp_path / "again" / p).read_bytes() != (examples / "quickstart" / p).read_bytes()]
    assert Path("model/model.safetensors") in made
    assert differing == []


def test_the_model_is_a_llama_of_about_5m_random_weights(examples: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    model = AutoModelForCausalLM.from_pretrained(examples / "quickstart/model")
    assert isinstance(model, LlamaForCausalLM)
    assert 4.5e6 < model.num_parameters() < 5.5e6
    tokens = torch.arange(100, 150)[None]
    assert model(input_ids=tokens, labels=tokens).loss.item() == pytest.approx(math.log(model.vocab_size), rel=0.1)


def test_the_tokenizer_gives_every_text_back(examples: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(examples / "quickstart/model")
    texts = [text for pair in rows(examples / "quickstart/data/train.jsonl") for text in pair]
    texts.append("Ünïcode, tabs\tand\nlines")
    assert tokenizer.batch_decode(tokenizer(texts)["input_ids"]) == texts
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False, add_generation_prompt=True)
    assert chat == "<|user|>a<|assistant|>"


@pytest.mark.parametrize(("backend", "kind"), [("local", "LocalJob"), ("kubernetes", "PyTorchJob")])
def test_the_job_file_dry_runs_on_both_backends(
    backend: str, kind: str, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEWRIGHT_HOME", str(tmp_path))
    on_a_claim = ["model=pvc://quickstart/model", "dataset=pvc://quickstart/data"] if backend == "kubernetes" else []
    _, keywords = jobfile.split(jobfile.read(examples / "quickstart.yaml", on_a_claim).keywords)
    manifests = TrainingClient(backend).train(dry_run=True, base_folder=examples, **keywords)
    assert [document["metadata"]["name"] for document in manifests if document["kind"] == kind] == ["quickstart"]
    assert list(tmp_path.iterdir()) == []


# The run itself.


@pytest.fixture
def train(examples: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `tunewright train examples/quickstart.yaml`, with a state folder of the test's own."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        command = [str(TUNEWRIGHT), "train", str(examples / "quickstart.yaml"), *options]
        env = {**os.environ, "TUNEWRIGHT_HOME": str(tmp_path / "home")}
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        kill_tree(process.pid)


def kill_tree(pid: int) -> None:
    """SIGKILL for the client, the job's supervisor, torchrun and the ranks: the power cut."""
    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in tree:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(tree, timeout=10)


def ranks(pid: int) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            if process.name().startswith("rank "):  # a fork of torchrun has its command line
                found.append(process)
        except psutil.Error:
            continue
    return found


def events(process: subprocess.Popen[str]) -> Iterator[Event]:
    assert process.stdout
    return (json.loads(line) for line in process.stdout)


def until(stream: Iterator[Event], **wanted: object) -> Event:
    """The next event that has these values; a callable value is a condition."""
    seen = []
    for event in stream:
        seen.append(event)
        if all(w(event.get(k)) if callable(w) else event.get(k) == w for k, w in wanted.items()):
            return event
    raise AssertionError(f"no event with {wanted} came: {seen[-5:]}")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quickstart_trains_evaluates_saves_and_answers(
    train: Callable[..., subprocess.Popen[str]], examples: Path, tmp_path: Path
) -> None:
    text, _ = (process := train()).communicate()
    assert process.returncode == 0, text
    said = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    first, last = (float(part.split()[0]) for part in said["loss"].split(", "))
    assert last <= 0.6 * first
    assert float(said["evaluation loss"]) <= 0.6 * first
    assert said["asked"] == PROMPT
    assert said["answered"] == dict(rows(examples / "quickstart/data/train.jsonl"))[PROMPT]
    assert ask(Path(said["model"]), PROMPT) == said["answered"]
    chat, push = (line.strip() for line in text.partition("next:\n")[2].splitlines())
    assert push == "tunewright push quickstart hf://YOUR-NAME/quickstart"
    assert said["answered"] in chatted(chat, PROMPT, tmp_path / "home")


def chatted(command: str, text: str, home: Path) -> str:
    """What a command that the end of a job names says to a message."""
    env = {**os.environ, "TUNEWRIGHT_HOME": str(home)}
    words = [str(TUNEWRIGHT), *command.split()[1:]]
    return subprocess.run(words, env=env, input=f"{text}\n", capture_output=True, text=True, check=True).stdout


def ask(folder: Path, question: str) -> str:
    """What plain transformers makes of the result."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    messages = [{"role": "user", "content": question}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, max_new_tokens=64, do_sample=False)
    return str(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_rank_and_then_a_power_cut_cost_no_more_than_the_steps_since_the_checkpoint(
    train: Callable[..., subprocess.Popen[str]],
) -> None:
    short = [
        *("--set", "trainer.training_parameters.max_steps=80"),
        *("--set", "trainer.training_parameters.save_steps=10"),
        *("--set", "trainer.training_parameters.logging_steps=2"),
        "--json",
    ]
    first = train(*short)
    seen = events(first)
    until(seen, event="checkpoint", step=10)
    ranks(first.pid)[1].send_signal(signal.SIGKILL)
    assert until(seen, event="attempt")["attempt"] == 1  # there is a new checkpoint: the count begins anew
    resumed = until(seen, event="start")["resumed_from"]
    assert resumed in range(10, 80, 10)
    until(seen, event="checkpoint", step=lambda step: isinstance(step, int) and step > resumed)
    kill_tree(first.pid)

    again = train(*short)
    seen = events(again)
    resumed_later = until(seen, event="start", resumed_from=lambda step: step not in (None, resumed))["resumed_from"]
    end = until(seen, event="end")
    assert (end["state"], again.wait()) == ("Succeeded", 0)
    assert resumed_later in range(resumed + 10, 90, 10)
    assert end["last_loss"] < end["first_loss"]
    assert end["eval_loss"] > 0
    assert list(end["samples"]) == [PROMPT]
