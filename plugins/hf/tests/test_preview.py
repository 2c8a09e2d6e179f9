"""`tunewright preview`: what the trainer makes of rows, shown before anything is trained."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from tunewright import RequestError, TrainRun
from tunewright.cli.commands import cli
from tunewright_hf import HuggingFaceTrainParams

pytest.importorskip("transformers")

ROWS = [
    {"prompt": "What is 1?", "completion": " One."},
    {"prompt": "", "completion": ""},
    {"prompt": "What is 2?", "completion": " Two."},
]


@pytest.fixture
def job_file(dataset_of: Callable[..., Path], model_folder: Path, tmp_path: Path) -> Path:
    file = tmp_path / "job.yaml"
    file.write_text(f"model: {model_folder}\ndataset: {dataset_of(ROWS)}\ntrainer: hf\n")
    return file


def preview(job_file: Path, *options: str) -> str:
    done = CliRunner().invoke(cli, ["preview", str(job_file), *options], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_what_is_supervised_is_marked(job_file: Path) -> None:
    text = preview(job_file)
    assert "What is 1?⟦ One.</s>⟧" in text
    assert "What is 2?⟦ Two.</s>⟧" in text
    assert text.count("sample ") == 2, "a row without anything to learn is no sample"


def test_data_is_looked_at_before_there_is_a_job_file(
    dataset_of: Callable[..., Path], model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = dataset_of(ROWS)
    monkeypatch.chdir(dataset.parent)
    given = ("--model", str(model_folder), "--dataset", f"./{dataset.name}", "--set", "trainer.data.max_length=8")
    done = CliRunner().invoke(cli, ["preview", *given, "-c", "1"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "What is 1?⟦ One" in done.output
    assert "cut off" in done.output, "--set counts"
    job = Path("job.yaml")
    job.write_text(f"model: {model_folder}\ndataset: ./nothing\ntrainer: hf\n")
    assert "What is 1?⟦ One.</s>⟧" in preview(job, "--dataset", f"./{dataset.name}"), "options change a job file"


def test_as_json_one_sample_a_line(job_file: Path) -> None:
    (line,) = preview(job_file, "--json", "--count", "1").splitlines()
    sample = json.loads(line)
    assert sample["pieces"] == [["What is 1?", False], [" One.</s>", True]]
    assert 0 < sample["supervised"] < sample["tokens"]


def test_what_is_cut_off_is_told(job_file: Path) -> None:
    assert "1 cut off" in preview(job_file, "--set", f"trainer.data.max_length={_tokens(job_file) - 1}")


def _tokens(job_file: Path) -> int:
    return int(json.loads(preview(job_file, "--json", "--count", "1"))["tokens"])


def test_inputs_from_elsewhere_have_to_be_fetched_first(job_file: Path) -> None:
    with pytest.raises(RequestError, match=r"hf://org/name.*is not on this machine.*tunewright fetch --kind model"):
        preview(job_file, "--set", "model=hf://org/name")


def test_chats_show_their_template(dataset_of: Callable[..., Path], model_folder: Path, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "1?"}, {"role": "assistant", "content": "One."}]
    run = TrainRun(model=model_folder, dataset=dataset_of([{"messages": messages}]), output=tmp_path, emit=print)
    (sample,) = HuggingFaceTrainParams().preview(run)
    assert sample.pieces == (("<|user|>1?</s><|assistant|>", False), ("One.</s>", True))


def test_what_a_sample_says_and_is_not_learnt_is_told(job_file: Path, dataset_of: Callable[..., Path]) -> None:
    ask, answer = {"role": "user", "content": "1?"}, {"role": "assistant", "content": "1."}
    dataset_of([{"messages": [ask, {**answer, "weight": 0}, ask, {**answer, "weight": 1}]}])
    assert "not trained on: unsupervised answers: 1" in preview(job_file)
    dataset_of([{"messages": [ask, answer]}])
    assert "not trained on" not in preview(job_file)


def test_the_given_template_writes_the_samples(job_file: Path, dataset_of: Callable[..., Path], tmp_path: Path) -> None:
    dataset_of([{"messages": [{"role": "user", "content": "1?"}, {"role": "assistant", "content": "1."}]}])
    file = tmp_path / "chat.jinja"
    asks = "{% if add_generation_prompt %}assistant: {% endif %}"
    file.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}" + asks)
    assert "user: 1?</s>assistant: ⟦1.</s>⟧" in preview(job_file, "--set", f"trainer.data.chat_template={file}")


def test_a_question_and_its_answer_become_a_conversation_with_a_named_template(
    job_file: Path, dataset_of: Callable[..., Path]
) -> None:
    dataset_of([{"question": "1?", "answer": "1."}])
    text = preview(job_file, "--set", "trainer.data.chat_template=alpaca")
    assert "### Instruction:\n1?\n\n### Response:\n⟦1.</s>" in text


def test_a_split_that_is_used_for_lack_of_another_is_named(job_file: Path) -> None:
    (data,) = (job_file.parent / "dataset").iterdir()
    data.rename(data.with_name("train_sft-00000-of-00001.jsonl"))
    assert "split train_sft; format prompt_completion" in preview(job_file)
