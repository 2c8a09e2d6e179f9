"""Preference pairs: validated here, and learnt by a Trainer class of somebody else's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright import RequestError, TrainRun
from tunewright_hf import DataParams, HuggingFaceTrainParams
from tunewright_hf.data.rows.formats import check_dataset

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
datasets = pytest.importorskip("datasets")

# Direct preference optimisation (Rafailov et al. 2023), as a class in a package of its own would have it: it tokenises the
# pairs, makes the adapter, and has arguments of its own.
TRAINER = """
import dataclasses
import peft, torch, transformers

@dataclasses.dataclass
class PairConfig(transformers.TrainingArguments):
    beta: float = 0.1
    max_length: int = 512

class PairTrainer(transformers.Trainer):
    seen = []

    def __init__(self, model=None, args: PairConfig | None = None, train_dataset=None, eval_dataset=None,
                 processing_class=None, peft_config=None):
        PairTrainer.seen.append((train_dataset, eval_dataset, args, peft_config))
        self.tokenizer = processing_class
        model = peft.get_peft_model(model, peft_config)
        super().__init__(model=model, args=args, train_dataset=train_dataset, eval_dataset=eval_dataset,
                         processing_class=processing_class, data_collator=self.collate)

    def collate(self, rows):
        ids = lambda text: self.tokenizer(text)["input_ids"]
        pairs = [(ids(r["prompt"]), ids(r[name])) for name in ("chosen", "rejected") for r in rows]
        longest = max(len(p) + len(a) for p, a in pairs)
        fill = lambda value, end: value + [end] * (longest - len(value))
        return {
            "input_ids": torch.tensor([fill(p + a, 1) for p, a in pairs]),
            "attention_mask": torch.tensor([fill([1] * len(p + a), 0) for p, a in pairs]),
            "completion_mask": torch.tensor([fill([0] * len(p) + [1] * len(a), 0) for p, a in pairs]),
        }

    def scores(self, model, inputs):
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, :-1]
        found = logits.log_softmax(-1).gather(2, inputs["input_ids"][:, 1:, None])[..., 0]
        return (found * inputs["completion_mask"][:, 1:]).sum(1)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        with torch.no_grad(), self.accelerator.unwrap_model(model).disable_adapter():
            before = self.scores(model, inputs)
        chosen, rejected = (self.scores(model, inputs) - before).chunk(2)
        loss = -torch.nn.functional.logsigmoid(self.args.beta * (chosen - rejected)).mean()
        return (loss, {"loss": loss}) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        with torch.no_grad():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None
"""
ROWS = [
    {"prompt": f"What is {n} and {n}?", "chosen": f" The sum is {n + n}.", "rejected": f" What is {n}?"}
    for n in range(13)
]


@pytest.fixture
def trainer_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "their_pairs.py").write_text(TRAINER)
    monkeypatch.syspath_prepend(tmp_path)
    return "their_pairs:PairTrainer"


@pytest.mark.slow
def test_a_trainer_of_pairs_learns_them_and_resumes(
    trainer_class: str, train, dataset_of: Callable[..., Path], tmp_path: Path, model_folder: Path
) -> None:
    import their_pairs

    dataset = dataset_of(
        [
            {"question": r["prompt"], "chosen": r["chosen"], "rejected": r["rejected"]}
            for r in [*ROWS, {**ROWS[0], "chosen": ""}]
        ],
        file="train.jsonl",
    )
    dataset_of([{"question": r["prompt"], **r} for r in ROWS[:4]], file="validation.jsonl")
    given = {"transformer_class": trainer_class, "transformer_class_arguments": {"beta": 0.5}, "lora_config": {"r": 4}}
    given |= {"data": {"prompt_template": "{question}", "max_length": 64}, "learning_rate": 1e-2, "num_train_epochs": 3}
    given |= {"save_steps": 2, "logging_steps": 1, "sample_prompts": ["What is 3 and 3?"]}
    given["data"] |= {"format": "preference"}
    train(tmp_path / "out", dataset, **given, cut_at=("step", 3))
    resumed = train(tmp_path / "out", dataset, **given)
    whole = train(tmp_path / "whole", dataset, **given)
    pairs, evaluation, args, adapter = their_pairs.PairTrainer.seen[-1]
    assert pairs.to_list() == ROWS
    assert evaluation.to_list() == ROWS[:4]
    assert (args.beta, args.max_length, adapter.r, adapter.task_type) == (0.5, 64, 4, "CAUSAL_LM")
    losses = list(whole.losses.values())
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses[-1] < 0.5 * losses[0]
    assert whole.of("eval")[-1]["eval_loss"] < 0.5
    assert min(resumed.losses) == 3
    assert resumed.losses.items() <= whole.losses.items()
    assert all(e["tokens_per_second"] > 0 for e in whole.of("step"))
    assert [e.get("step") for e in whole.of("sample")] == [0, None], "before and after the training"
    peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(model_folder), whole.result)
    assert '"dropped": 1' in (whole.result / "README.md").read_text()


MESSAGES = {
    "prompt": [{"role": "user", "content": "1?"}],
    "chosen": [{"role": "assistant", "content": "2."}],
    "rejected": [{"role": "assistant", "content": "3."}],
}
BOTH = [MESSAGES["prompt"][0], MESSAGES["chosen"][0]]
ANSWER = {"prompt": "1?", "completion": "2.", "label": True}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ANSWER, ANSWER),
        ({**ANSWER, "label": 0}, {**ANSWER, "label": False}),
        ({**ANSWER, "prompt": MESSAGES["prompt"], "completion": MESSAGES["chosen"]}, {}),
        ({**ANSWER, "completion": " "}, None),
        ({**ANSWER, "prompt": None}, None),
        ({**ANSWER, "label": "true"}, "has the label 'true', which is neither true nor false"),
        ({**ANSWER, "label": None}, "has the label None"),
        (
            {**ANSWER, "completion": MESSAGES["chosen"]},
            "columns hold different things: prompt a str, completion a list",
        ),
    ],
)
def test_one_answer_has_a_label_that_says_whether_it_is_wanted(row, expected) -> None:
    from tunewright_hf.data.samples.preference import pair_of

    data = DataParams(format="preference")
    if isinstance(expected, str):
        with pytest.raises(RequestError, match=expected):
            pair_of(row, data)
    else:
        assert pair_of(row, data) == (expected if expected != {} else row)


def test_answers_with_labels_are_preferences_only_if_that_is_said(dataset_of: Callable[..., Path]) -> None:
    folder = dataset_of([ANSWER])
    assert check_dataset(folder, DataParams(format="preference"), "dataset") == "preference"
    with pytest.raises(RequestError, match="label"):
        check_dataset(folder, DataParams(), "dataset")


def test_nothing_is_written_into_the_dataset(trainer_class: str, train, tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    datasets.Dataset.from_list([{**r, "question": r["prompt"]} for r in ROWS]).save_to_disk(folder)
    before = sorted(folder.rglob("*"))
    data = {"format": "preference", "prompt_template": "{question}"}
    given = {"transformer_class": trainer_class, "data": data, "lora_config": {"r": 4}, "max_steps": 1}
    train(tmp_path / "out", folder, **given)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, True),
        ({"chosen": "ab", "rejected": "ac"}, True),
        (MESSAGES, True),
        ({"chosen": BOTH, "rejected": [BOTH[0], MESSAGES["rejected"][0]]}, True),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, False),
        ({"prompt": "a", "chosen": " ", "rejected": "b"}, False),
        ({"prompt": None, "chosen": "a", "rejected": "b"}, False),
        ({**MESSAGES, "rejected": MESSAGES["chosen"]}, False),
        ({**MESSAGES, "rejected": []}, False),
        ({"prompt": "a", "chosen": 3, "rejected": "b"}, "columns hold different things: prompt a str, chosen a int"),
        ({**MESSAGES, "prompt": "a"}, "prompt a str, chosen a list"),
        ({**MESSAGES, "chosen": [{"von": "gpt"}]}, "'chosen' holds something that is not a list of messages"),
        ({**MESSAGES, "chosen": BOTH[:1]}, "does not end with the assistant's message"),
    ],
)
def test_what_is_a_pair(row: dict[str, object], expected: object) -> None:
    from tunewright_hf.data.samples.preference import is_pair

    if isinstance(expected, bool):
        assert is_pair(row) is expected
    else:
        with pytest.raises(RequestError, match=expected):
            is_pair(row)


def test_a_trainer_of_one_answer_refuses_pairs_on_the_client(
    dataset_of: Callable[..., Path], train, tmp_path: Path
) -> None:
    dataset = dataset_of(ROWS)
    assert check_dataset(dataset, DataParams(), "dataset") == "preference"
    expected = r"transformer_class='Trainer': trains on single answers.*trl:DPOTrainer"
    with pytest.raises(RequestError, match=expected):
        HuggingFaceTrainParams(data={"format": "preference"})
    with pytest.raises(RequestError, match=expected):
        HuggingFaceTrainParams().check_inputs(model=None, dataset=dataset, eval_dataset=None)
    with pytest.raises(RequestError, match=expected):
        train(tmp_path / "out", dataset, max_steps=1)


def test_arguments_that_the_class_does_not_have_are_refused(trainer_class: str, tmp_path: Path) -> None:
    from tunewright_hf.train import arguments, extensions

    def build(**own: object) -> object:
        given = HuggingFaceTrainParams(transformer_class=trainer_class, transformer_class_arguments=own)
        return arguments.build_arguments(given, tmp_path, evaluates=False)

    assert type(build(beta=0.3)).__name__ == "PairConfig"
    with pytest.raises(
        RequestError, match=r"transformer_class_arguments\.bet: is not a field of PairConfig\. Did you mean 'beta'"
    ):
        build(bet=0.3)
    with pytest.raises(RequestError, match="is a field of TrainingArguments"):
        build(learning_rate=0.3)
    with pytest.raises(RequestError, match="transformer_class='nowhere:Trainer': cannot be loaded"):
        extensions.trainer_class("nowhere:Trainer")
    with pytest.raises(RequestError, match="is not a Trainer class"):
        extensions.trainer_class("their_pairs:PairConfig")


def test_a_preview_shows_both_answers(
    trainer_class: str, model_folder: Path, dataset_of: Callable[..., Path], tmp_path: Path
) -> None:
    run = TrainRun(model=model_folder, dataset=dataset_of(ROWS), output=tmp_path, emit=lambda _: None)
    first = next(HuggingFaceTrainParams(transformer_class=trainer_class).preview(run))
    assert first.pieces == (
        ("What is 0 and 0?", False), (" The sum is 0.", True), (" [rejected: What is 0?]", False)
    )  # fmt: skip


def test_contents_in_parts_become_texts_before_a_class_sees_them(tmp_path: Path) -> None:
    from tunewright_hf.data.samples.preference import pair_of, pairs_of

    def said(role: str, *texts: str) -> list[dict[str, object]]:
        return [{"role": role, "content": [{"type": "text", "text": text} for text in texts]}]

    row = {
        "prompt": said("user", "Add ", "1 and 1."),
        "chosen": said("assistant", "It ", "is 2."),
        "rejected": said("assistant", "3"),
    }
    expected = {
        "prompt": [{"role": "user", "content": "Add 1 and 1."}],
        "chosen": [{"role": "assistant", "content": "It is 2."}],
        "rejected": [{"role": "assistant", "content": "3"}],
    }
    found, dropped = pairs_of(datasets.Dataset.from_list([row, row]), DataParams(), tmp_path / "cache")
    assert (list(found), dropped) == ([expected, expected], {})
    assert pair_of(row, DataParams()) == expected
