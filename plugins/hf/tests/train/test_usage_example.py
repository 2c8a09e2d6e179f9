"""The code and the commands of a model card, as people run them: in its folder, and from its repository."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.servers.hub import Hub

pytest.importorskip("transformers")

from tunewright.providers import MARKER
from tunewright_hf import HuggingFaceModelParams
from tunewright_hf.config.tasks import CAUSAL, CLASSIFICATION, SEQ2SEQ, Task
from tunewright_hf.model.origin import Origin
from tunewright_hf.train.usage_example import Usage

FAST = {"max_steps": 1, "save_strategy": "no", "eval_strategy": "no"}
PROMPT = 'What is "3" and 3?'


def block(card: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", card.partition("## Use it")[2], re.DOTALL)
    assert found
    return found[1]


def run(code: str, folder: Path, env: Mapping[str, str] = os.environ) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answer_of(training) -> str:
    """The sample's answer, which ends where the model's context does; without half a character at its end."""
    answer = training.of("sample")[-1]["text"].rstrip("\ufffd")
    assert len(answer) > 20
    return answer


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MARKER}


@pytest.mark.slow
def test_an_adapters_card_runs_from_the_hub_with_the_base_that_it_names(
    train, qa: Path, model_folder: Path, tmp_path: Path
) -> None:
    with Hub() as hub:
        hub.tokens = {"hf-token-of-a-writer": "write"}
        repo = hub.repo("org/base", files_of(model_folder))
        commit = repo.branches["main"]
        shutil.copytree(model_folder, tmp_path / "base")
        (tmp_path / "base" / MARKER).write_text(f'{{"uri": "hf://org/base", "revision": "{commit}"}}')
        given = {**FAST, "lora_config": {"r": 4}, "sample_prompts": [PROMPT]}
        training = train(tmp_path / "out", qa, model=tmp_path / "base", **given)
        shutil.rmtree(tmp_path / "base")
        card = (training.result / "README.md").read_text("utf-8")
        assert "base_model: org/base\nbase_model_relation: adapter\n" in card.partition("# Model")[0]

        uri, token = "hf://org/mine", "hf-token-of-a-writer"
        store = HuggingFaceModelParams(uri=uri, endpoint=hub.url, access_token=token).store()
        store.upload({path.name: path for path in training.result.iterdir()})
        home = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"}
        code = block(card, "python")
        said = run(code.replace('FOLDER = "."', 'FOLDER = "org/mine"'), tmp_path, {**os.environ, **home})
        assert said.strip().startswith(answer_of(training))
        commands = [shlex.split(line) for line in block(card, "sh").splitlines()]
        assert commands == [
            ["tunewright", "fetch", f"hf://org/base@{commit}", "./base"],
            ["tunewright", "chat", ".", "--model", "./base/model"],
            ["tunewright", "merge", ".", "./merged", "--model", "./base/model"],
        ]


@pytest.mark.slow
@pytest.mark.parametrize("given", [{}, {"lora_config": {"r": 4}}])
def test_a_card_runs_in_its_folder(given: dict[str, object], train, qa: Path, tmp_path: Path) -> None:
    training = train(tmp_path / "out", qa, **FAST, **given, sample_prompts=[PROMPT])
    card = (training.result / "README.md").read_text("utf-8")
    assert run(block(card, "python"), training.result).strip().startswith(answer_of(training))


@pytest.mark.slow
@pytest.mark.parametrize("given", [{}, {"lora_config": {"r": 4}}])
def test_a_classifiers_card_runs_in_its_folder(
    given: dict[str, object], base_of: Callable[[str], Path], classified: Path, train, tmp_path: Path
) -> None:
    model = base_of("llama")
    training = train(
        tmp_path / "out", classified, model=model, transformer_type=CLASSIFICATION.auto_class, **FAST, **given
    )
    card = (training.result / "README.md").read_text("utf-8")
    assert run(block(card, "python"), training.result).strip() in ("even", "odd")
    assert "```sh" not in card, "a classifier answers nothing"


@pytest.mark.parametrize("task", [CAUSAL, SEQ2SEQ, CLASSIFICATION], ids=lambda task: task.auto_class)
@pytest.mark.parametrize("adapter", [True, False])
@pytest.mark.parametrize(
    "base",
    [
        Origin(name='/models/it\'s "one"'),
        Origin(name="s3://bucket/it's", uri="s3://bucket/it's"),
        Origin(name="org/base", on_hub=True, revision="a" * 40, uri="hf://org/base"),
    ],
    ids=["folder", "bucket", "hub"],
)
def test_the_code_of_any_card_is_python(task: Task, adapter: bool, base: Origin) -> None:
    for turns in (True, False):
        usage = Usage(task=task, adapter=adapter, base=base, prompt='a "b"\n\\c', turns=turns, labels=("it's", 'a"b'))
        code = block(usage.section(), "python")
        compile(code, "card", "exec")
        assert ("messages" in code) == (turns and task.writes)
        assert ("PeftModel" in code) == adapter
