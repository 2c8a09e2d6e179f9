"""What becomes of rows on their way to samples: nothing is lost in silence, and nothing is done twice."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tunewright import RequestError, TrainRun
from tunewright_hf import DataParams

transformers = pytest.importorskip("transformers")
data = pytest.importorskip("tunewright_hf.data.prepare")
inputs = pytest.importorskip("tunewright_hf.data.inputs")
samples = pytest.importorskip("tunewright_hf.data.samples.encode")


@pytest.fixture
def tokenizer(model_folder: Path):
    return transformers.AutoTokenizer.from_pretrained(model_folder)


@pytest.fixture
def prepare(tmp_path: Path, tokenizer) -> Callable[..., object]:
    def call(folder: Path, *, max_length: int = 64, local_rank: int = 0, eval_dataset: Path | None = None, **given):
        run = TrainRun(
            dataset=folder,
            eval_dataset=eval_dataset,
            output=tmp_path / "out",
            local_rank=local_rank,
            emit=lambda _: None,
        )
        return data.prepare(run, DataParams(**given), tokenizer, max_length)

    return call


def test_what_is_cut_and_what_is_lost_is_counted(prepare, dataset_of, caplog: pytest.LogCaptureFixture) -> None:
    long_prompt = {"prompt": "What is 1? " * 40, "completion": " 2."}
    long_answer = {"prompt": "What?", "completion": " The sum." * 40}
    rows = [long_prompt, long_answer, {"prompt": "What?", "completion": " 2."}, {"prompt": None, "completion": "x"}]
    with caplog.at_level(logging.WARNING, "tunewright_hf"):
        prepared = prepare(dataset_of(rows), max_length=32)
    counts = prepared.counts["train"]
    assert (counts.rows, counts.samples, counts.dropped, counts.truncated) == (4, 2, 2, 1)
    assert "2 of 4 rows dropped" in caplog.text
    assert all(any(label != -100 for label in sample[1:]) for sample in prepared.train["labels"])
    assert [len(s) for s in prepared.train["input_ids"]] == prepared.train["length"][:]
    assert counts.tokens == sum(prepared.train["length"])
    assert counts.supervised_tokens == sum(t != -100 for s in prepared.train["labels"] for t in s[1:])
    assert len(prepared.train[0]["input_ids"]) == 32
    assert prepared.train[0]["labels"][-1] != 1, "a sample that was cut does not end"


def test_a_dataset_that_leaves_nothing_to_learn_is_refused(prepare, dataset_of) -> None:
    with pytest.raises(RequestError, match="its only row leaves nothing to learn"):
        prepare(dataset_of([{"prompt": "What is 1? " * 40, "completion": " 2."}]), max_length=8)


def test_a_file_that_breaks_off_later_is_refused(prepare, dataset_of) -> None:
    folder = dataset_of([{"text": "one"}])
    with (folder / "data.jsonl").open("a") as file:
        file.write('{"text": "tw')
    with pytest.raises(RequestError, match="cannot be read as json"):
        prepare(folder)
    assert not list((folder.parent / "out" / "tokenised").iterdir()), "a failure leaves nothing behind"


def test_numbers_in_csv_stay_as_they_are_written(prepare, dataset_of, tokenizer) -> None:
    folder = dataset_of([])
    (folder / "data.jsonl").unlink()
    (folder / "data.csv").write_text('prompt,completion\nWhat?,007\nWhat?,NA\n"a, b",1.50\n')
    labels = prepare(folder).train["labels"]
    assert [tokenizer.decode([t for t in s if t not in (-100, 1)]) for s in labels] == ["007", "NA", "1.50"]


def test_tokenising_happens_once(prepare, dataset_of, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = dataset_of([{"text": "one"}])
    first = prepare(folder)
    monkeypatch.setattr(data, "_build", lambda *_: pytest.fail("tokenised again"))
    assert prepare(folder).train["input_ids"][:] == first.train["input_ids"][:]
    assert prepare(folder, local_rank=1).counts == first.counts


@pytest.mark.parametrize("change", ["rows", "max_length", "columns"])
def test_other_inputs_are_tokenised_anew(change: str, prepare, dataset_of) -> None:
    folder = dataset_of([{"text": "one", "body": "two"}])
    before = prepare(folder, format="text")
    if change == "rows":
        dataset_of([{"text": "one more", "body": "two"}])
    after = prepare(
        folder,
        format="text",
        max_length=3 if change == "max_length" else 64,
        text_column="body" if change == "columns" else "text",
    )
    assert after.train["input_ids"][:] != before.train["input_ids"][:] or after.max_length != before.max_length


@pytest.mark.parametrize("change", ["frame", "normaliser", "split"])
def test_another_tokenizer_of_the_same_vocabulary_tokenises_anew(change: str, prepare, dataset_of, tokenizer) -> None:
    from tokenizers import normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing

    folder = dataset_of([{"text": "What is 1?"}])
    before, backend = prepare(folder).train["input_ids"][:], tokenizer.backend_tokenizer
    if change == "frame":
        backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    elif change == "normaliser":
        backend.normalizer = normalizers.Lowercase()
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert prepare(folder).train["input_ids"][:] != before


def test_a_tokenizer_in_python_is_told_by_its_vocabulary_and_frame() -> None:
    class Slow:
        chat_template, eos_token_id, bos = None, 1, [0]

        def get_vocab(self) -> dict[str, int]:
            return {"b": 3, "a": 2}

        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": [*self.bos, 2]}

    slow, bare = Slow(), Slow()
    bare.bos = []
    assert data._fingerprint(slow) == data._fingerprint(Slow()) != data._fingerprint(bare)


def test_a_rank_that_finds_other_files_than_the_first_does_not_wait_for_ever(prepare, dataset_of, monkeypatch) -> None:
    monkeypatch.setattr(data, "_PATIENCE", 0.2)
    folder = dataset_of([{"text": "one"}])
    prepare(folder)
    dataset_of([{"text": "one more"}])
    with pytest.raises(RuntimeError, match="Local rank 0 tokenised different data than this rank sees"):
        prepare(folder, local_rank=1)


def test_a_rank_waits_for_the_one_that_tokenises(prepare, dataset_of, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(data, "_PATIENCE", 0.2)
    folder, building = dataset_of([{"text": "one"}]), tmp_path / "out" / "tokenised" / "building-x"
    building.mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        later = pool.submit(prepare, folder, local_rank=1)
        time.sleep(1)
        assert not later.done()
        assert prepare(folder).counts == later.result(60).counts


def test_several_processes_give_the_same_samples_in_order(prepare, dataset_of, monkeypatch) -> None:
    folder = dataset_of([{"text": f"What is {n}?"} for n in range(60)])
    alone = prepare(folder).train.to_list()
    (folder.parent / "out").rename(folder.parent / "before")
    monkeypatch.setattr(samples, "_ROWS_PER_PROCESS", 20)
    monkeypatch.setattr(samples.os, "sched_getaffinity", lambda _: {0, 1})
    assert prepare(folder).train.to_list() == alone


def test_the_evaluation_has_the_format_of_the_training(prepare, dataset_of) -> None:
    training = dataset_of([{"prompt": "a", "completion": "b", "text": "c"}])
    evaluation = dataset_of([{"text": "c"}], name="evaluation")
    with pytest.raises(RequestError, match="has no column 'prompt' and 'completion'"):
        prepare(training, eval_dataset=evaluation, ignore_columns=["text"])
    assert prepare(training, eval_dataset=evaluation, format="text").evaluation.num_rows == 1


def test_auto_prefers_what_says_most(prepare, dataset_of) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rows = [{"text": "a", "prompt": "b", "completion": "c", "messages": messages}]
    with pytest.raises(RequestError, match="has a column 'completion', which is not used"):
        prepare(dataset_of(rows))
    assert prepare(dataset_of(rows), ignore_columns=["text", "prompt", "completion"]).format == "chat"
    assert prepare(dataset_of(rows, name="other"), messages_column="none").format == "prompt_completion"


@pytest.mark.parametrize(
    ("given", "context", "expected"), [(None, 128, 128), (None, 4096, 1024), (None, None, 1024), (16, 128, 16)]
)
def test_the_longest_sample(given: int | None, context: int | None, expected: int) -> None:
    assert inputs.resolve_max_length(DataParams(max_length=given), context) == expected


def test_samples_longer_than_the_context_are_refused() -> None:
    with pytest.raises(RequestError, match=r"max_length=129.*Give 128 or less"):
        inputs.resolve_max_length(DataParams(max_length=129), 128)


def test_levelling_adds_samples_without_labels_and_no_others(prepare, dataset_of) -> None:
    from tunewright_hf.data.samples.collators import fill_up

    found = prepare(dataset_of([{"text": f"What is {n}?"} for n in range(5)])).train
    full = fill_up(found, 4, pad_id=1)
    assert len(full) == 8
    assert full.to_list()[:5] == found.to_list()
    assert all(label == -100 for s in full.to_list()[5:] for label in s["labels"])
    assert fill_up(found, 5, pad_id=1) is found


def test_what_rows_say_and_is_not_learnt_is_counted_and_logged(
    prepare, dataset_of, tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content if loop.last else m.content.split('</think>')[-1] }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    ask, thinks = {"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>hm</think>b"}
    rows = [
        {"messages": [ask, thinks, ask, thinks]},
        {"messages": [ask, thinks, ask, thinks, ask, thinks]},
        {"messages": [ask, {**thinks, "weight": 0}, ask, {**thinks, "weight": 1}]},
    ]
    with caplog.at_level("INFO"):
        counts = prepare(dataset_of(rows)).counts["train"]
    assert (counts.thoughts_left_out, counts.answers_left_out) == (3, 1)
    said = "train: not trained on: answers whose thoughts the template drops: 3, unsupervised answers: 1"
    assert said in caplog.text
    caplog.clear()
    counts = prepare(dataset_of([{"messages": [ask, thinks]}])).counts["train"]
    assert (counts.thoughts_left_out, counts.answers_left_out) == (None, None)
    assert "not trained on" not in caplog.text


def test_answers_beside_the_first_are_counted_and_logged(prepare, dataset_of, caplog: pytest.LogCaptureFixture) -> None:
    def row(*answers: str) -> dict[str, object]:
        return {"question": "When?", "answers": {"text": list(answers), "answer_start": [0] * len(answers)}}

    with caplog.at_level("INFO"):
        counts = prepare(dataset_of([row("a", "b", "b", "c"), row("a", "a"), row("a", "b")])).counts["train"]
    assert counts.further_answers == 3
    assert "train: not trained on: further answers to the same question: 3" in caplog.text


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, True),
        ({"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}, True),
        ({"prompt": "a", "completion": "b"}, False),
        ({"text": "a"}, False),
    ],
)
def test_it_is_known_whether_rows_are_conversations(prepare, dataset_of, row: dict[str, object], turns: bool) -> None:
    assert prepare(dataset_of([row])).turns is turns
