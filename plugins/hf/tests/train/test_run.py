"""Real trainings of a tiny Llama, from the dataset's files to a result that plain transformers and peft load."""

import importlib.metadata
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright import RequestError, TrainRun
from tunewright_hf import HuggingFaceTrainParams, LoraConfig, TrainingArguments

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
safetensors = pytest.importorskip("safetensors.torch")

FAST = {"learning_rate": 2e-2, "num_train_epochs": 3, "save_steps": 9, "seed": 1}
PROMPT = "What is 3 and 3?"
PACKED = {"packing": True, "max_length": 50}  # 26 rows of the 41 samples
ROW = {"prompt": PROMPT, "completion": " The sum is 6."}


@pytest.fixture(scope="session")
def lora(tmp_path_factory: pytest.TempPathFactory, train, qa: Path):
    output = tmp_path_factory.mktemp("lora")
    return train(output, qa, **FAST, lora_config={"r": 4, "lora_dropout": 0.1}, sample_prompts=[PROMPT])


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory, train, qa: Path):
    given = {**FAST, "num_train_epochs": 4, "per_device_train_batch_size": 6, "data": PACKED}
    return train(tmp_path_factory.mktemp("packed"), qa, **given)


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory, train, qa: Path):
    return train(tmp_path_factory.mktemp("full"), qa, **FAST)


@pytest.fixture(scope="session")
def merged(tmp_path_factory: pytest.TempPathFactory, train, qa: Path):
    output = tmp_path_factory.mktemp("merged")
    lora = {"r": 4, "lora_dropout": 0.1}
    return train(output, qa, **FAST, lora_config=lora, merge=True, sample_prompts=[PROMPT])


def logits(model, folder: Path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return model.eval()(**tokenizer(PROMPT, return_tensors="pt")).logits


def base(folder: Path):
    return transformers.AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("kind", ["lora", pytest.param("full", marks=pytest.mark.slow)])
def test_the_client_is_told_what_happens(kind: str, request: pytest.FixtureRequest) -> None:
    training = request.getfixturevalue(kind)
    assert training.of("start")[0] == {
        "event": "start", "total_steps": 18, "epochs": 3, "world_size": 1, "resumed_from": None
    }  # fmt: skip
    assert [(e["split"], e["rows"], e["dropped"]) for e in training.of("data")] == [
        ("train", 41, 0),
        ("evaluation", 11, 0),
    ]
    steps = training.of("step")
    assert [e["step"] for e in steps] == list(range(1, 19))
    assert all(e["total_steps"] == 18 and e["tokens_per_second"] > 0 and e["learning_rate"] > 0 for e in steps)
    assert all(e["total_tokens_per_second"] > e["tokens_per_second"] for e in steps), "prompts are not learnt"
    assert all(0 <= e["data_wait"] <= 1 and e["peak_memory_bytes"] > 2**20 and "mfu" not in e for e in steps)
    assert [e["step"] for e in training.of("eval")] == [6, 12, 18]
    assert [e["step"] for e in training.of("checkpoint")] == [9, 18]
    assert training.of("saved") == [{"event": "saved", "path": str(training.result)}]
    told = [e["event"] for e in training.events if e["event"] in ("environment", "start", "saved", "sample")]
    asked = ["sample"] if "sample" in told else []
    assert told == [*asked, "environment", "start", "saved", *asked]
    json.dumps(training.events, allow_nan=False)


@pytest.mark.parametrize("kind", ["lora", "full", pytest.param("packed", marks=pytest.mark.slow)])
def test_the_loss_falls(kind: str, request: pytest.FixtureRequest) -> None:
    training = request.getfixturevalue(kind)
    losses = list(training.losses.values())
    assert losses[0] == pytest.approx(math.log(400), rel=0.1), "a model that has learnt nothing guesses"
    assert losses[-1] < 0.9 * losses[0]
    assert training.of("eval")[-1]["eval_loss"] < training.of("eval")[0]["eval_loss"]


def test_a_sample_prompt_is_answered_by_the_trained_model(full, lora, model_folder: Path) -> None:
    before, sample = lora.of("sample")
    assert (before["prompt"], before["step"], "step" in sample) == (PROMPT, 0, False)
    assert before["text"] != sample["text"]
    assert full.of("sample") == []
    assert sample["prompt"] == PROMPT
    tokenizer = transformers.AutoTokenizer.from_pretrained(lora.result)
    model = peft.PeftModel.from_pretrained(base(model_folder), lora.result)
    ids = tokenizer(PROMPT, return_tensors="pt")
    output = model.generate(**ids, max_new_tokens=128, do_sample=False, pad_token_id=1)
    assert sample["text"] == tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip()


@pytest.mark.slow
def test_a_merged_model_answers_as_its_adapter(lora, merged) -> None:
    assert merged.of("sample") == lora.of("sample")


@pytest.mark.slow
def test_an_answer_that_fails_costs_nothing_else(train, qa: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    from tunewright_hf.train import sample_answers

    answer = sample_answers.answer

    def fails_once(model, encoder, prompt):
        return answer(model, encoder, prompt if prompt == PROMPT else "")

    monkeypatch.setattr(sample_answers, "answer", fails_once)
    training = train(tmp_path / "out", qa, max_steps=1, sample_prompts=["fails", PROMPT])
    base(training.result)
    assert [e["prompt"] for e in training.of("sample")] == [PROMPT, PROMPT]
    assert "no answer to 'fails'" in caplog.text


@pytest.mark.parametrize("kind", ["full", "packed"])
def test_full_fine_tuning_changes_every_weight(kind: str, request, model_folder: Path) -> None:
    before = safetensors.load_file(model_folder / "model.safetensors")
    after = safetensors.load_file(request.getfixturevalue(kind).result / "model.safetensors")
    assert before.keys() == after.keys()
    assert [name for name in before if torch.equal(before[name], after[name])] == []


def test_lora_saves_adapters_for_all_linear_layers_and_nothing_else(lora, model_folder: Path) -> None:
    names = set(safetensors.load_file(lora.result / "adapter_model.safetensors"))
    layers = {n.rsplit(".", 2)[0].rpartition(".")[2] for n in names}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert all(".lora_A." in n or ".lora_B." in n for n in names)
    assert not (lora.result / "model.safetensors").exists()


@pytest.mark.parametrize("data", [{}, PACKED], ids=["unpacked", "packed"])
def test_under_lora_only_adapters_change(
    data, train, qa: Path, tmp_path: Path, monkeypatch, model_folder: Path
) -> None:
    from tunewright_hf.train import export

    seen = {}
    monkeypatch.setattr(export, "save", lambda trainer, *_: seen.update(trainer.model.state_dict()))
    lora = {"r": 2, "target_modules": ["q_proj"]}
    train(tmp_path / "out", qa, max_steps=2, lora_config=lora, data=data, save_strategy="no")
    before = base(model_folder).state_dict()
    frozen = {
        n.replace("base_model.model.", "").replace("base_layer.", ""): v for n, v in seen.items() if "lora" not in n
    }
    assert frozen.keys() == before.keys()
    assert all(torch.equal(frozen[n], before[n]) for n in before)
    assert any("lora_B" in n and v.any() for n, v in seen.items())


def test_plain_peft_loads_the_adapter_and_computes_the_same(lora, merged, model_folder: Path) -> None:
    adapted = peft.PeftModel.from_pretrained(base(model_folder), lora.result)
    found = logits(adapted, lora.result)
    assert torch.equal(found, logits(peft.AutoPeftModelForCausalLM.from_pretrained(lora.result), lora.result))
    assert (found - logits(base(model_folder), model_folder)).abs().max() > 0.01, "the adapter does something"
    # The same training with merge: the whole model, and no trace of peft.
    assert not (merged.result / "adapter_config.json").exists()
    assert (found - logits(base(merged.result), merged.result)).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["full", "packed"])
def test_plain_transformers_loads_the_result_and_computes_the_same(
    kind: str, request, qa: Path, independent_eval_loss
) -> None:
    training = request.getfixturevalue(kind)
    # The last checkpoint's evaluation was computed by the model in training.
    model = base(training.result)
    expected = independent_eval_loss(model, training.result, qa)
    assert training.of("eval")[-1]["eval_loss"] == pytest.approx(expected, abs=1e-5)
    assert model.config.use_cache is True
    assert model.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 4, 16])
def test_eval_loss_is_the_mean_over_tokens(size: int, train, qa: Path, tmp_path: Path, independent_eval_loss) -> None:
    given = {"max_steps": 2, "learning_rate": 1e-2, "per_device_eval_batch_size": size, "save_strategy": "no"}
    training = train(tmp_path / "out", qa, **given)
    (found,) = training.of("eval")
    assert found["step"] == 2
    expected = independent_eval_loss(base(training.result), training.result, qa)
    assert found["eval_loss"] == pytest.approx(expected, abs=1e-5)


def test_the_card_tells_how_the_model_came_to_be(lora, full, merged) -> None:
    text = (lora.result / "README.md").read_text()
    sections = {part.split("\n", 1)[0]: part for part in text.split("\n## ")[3:]}
    read = {title: json.loads(part.split("```json\n")[1].split("```")[0]) for title, part in sections.items()}
    assert read["Run"]["transformers"] == transformers.__version__
    assert read["Run"]["torch"] == importlib.metadata.version("torch")
    (checkpoint, *_) = (lora.output / "checkpoints").iterdir()
    record = json.loads((checkpoint / "record.json").read_text())
    assert record.items() <= read["Run"].items()
    assert (record["seed"], record["data_seed"], record["order"], record["samples_in_a_step"]) == (1, 1, "random", 8)
    assert len(record["data"]) == 64
    assert read["Result"] == {
        "first_loss": lora.losses[1], "last_loss": lora.losses[18], "eval_loss": lora.of("eval")[-1]["eval_loss"], "steps": 18
    }  # fmt: skip
    arguments = read["TrainingArguments that differ from transformers' defaults"]
    assert (arguments["learning_rate"], arguments["seed"], arguments["eval_strategy"]) == (2e-2, 1, "epoch")
    assert read["LoraConfig that differs from peft's defaults"] == {
        "r": 4, "lora_dropout": 0.1, "target_modules": "all-linear", "task_type": "CAUSAL_LM"
    }  # fmt: skip
    assert read["Data"]["train"]["rows"] == 41
    assert text.startswith("---\nlibrary_name: peft\n")
    assert "PeftModel.from_pretrained(base, FOLDER)" in text
    for training in (full, merged):
        text = (training.result / "README.md").read_text()
        assert "library_name: transformers" in text
        assert "peft" not in text.split("## Result")[0]


def test_the_result_is_all_that_is_left_beside_checkpoints(full) -> None:
    assert sorted(p.name for p in full.output.iterdir()) == ["checkpoints", "model"]
    assert sorted(p.name for p in full.result.iterdir()) == [
        "README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


CHAT = [
    {"messages": [{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": f"{n}."}]}
    for n in range(20)
]
TEXT = [{"text": f"What is {n} and {n}? The sum is {n + n}."} for n in range(20)]


@pytest.mark.parametrize(("form", "rows"), [("chat", CHAT), pytest.param("text", TEXT, marks=pytest.mark.slow)])
def test_chat_and_text_are_trained_on(form: str, rows, train, dataset_of: Callable[..., Path], tmp_path: Path) -> None:
    evaluation = dataset_of(rows[:7], name="evaluation")
    training = train(
        tmp_path / "out",
        dataset_of(rows),
        eval_dataset=evaluation,
        learning_rate=5e-3,
        num_train_epochs=2,
        sample_prompts=["What is 3?"],
        data={"format": form},
    )
    losses = list(training.losses.values())
    assert losses[-1] < losses[0]
    assert len(training.of("eval")) == 2
    assert f'"format": "{form}"' in (training.result / "README.md").read_text()
    assert len(training.of("sample")) == 2


@pytest.mark.slow
def test_real_objects_train_like_ours(train, qa: Path, tmp_path: Path) -> None:
    ours = train(
        tmp_path / "ours",
        qa,
        training_parameters=TrainingArguments(max_steps=3, seed=7, logging_steps=1),
        lora_config=LoraConfig(r=2),
    )
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "elsewhere"), max_steps=3, seed=7, logging_steps=1, use_cpu=True
    )
    real = train(
        tmp_path / "real",
        qa,
        training_parameters=arguments,
        lora_config=peft.LoraConfig(r=2, target_modules="all-linear"),
    )
    assert real.losses == ours.losses
    assert not (tmp_path / "elsewhere" / "checkpoint-3").exists()


def test_another_trainer_class_of_transformers(train, qa: Path, tmp_path: Path) -> None:
    training = train(tmp_path / "out", qa, transformerClass="Seq2SeqTrainer", max_steps=2)
    assert '"trainer": "Seq2SeqTrainer"' in (training.result / "README.md").read_text()
    assert len(training.losses) == 2


def test_an_unknown_trainer_class_is_refused(train, qa: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"transformer_class='Seq2SeqTraner'.*Did you mean 'Seq2SeqTrainer'\?"):
        train(tmp_path / "out", qa, transformerClass="Seq2SeqTraner", max_steps=1)


def weights(training) -> dict[str, object]:
    return safetensors.load_file(training.result / "adapter_model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("data", [{}, pytest.param(PACKED, marks=pytest.mark.slow)], ids=["unpacked", "packed"])
def test_the_same_seed_gives_the_same_bits_and_another_one_others(data, train, qa: Path, tmp_path: Path) -> None:
    given = {"max_steps": 4, "lora_config": {"r": 2, "lora_dropout": 0.2}, "learning_rate": 1e-2, "data": data}
    first, again, other = (train(tmp_path / name, qa, **given, seed=s) for name, s in (("a", 3), ("b", 3), ("c", 4)))
    assert first.losses == again.losses
    assert all(torch.equal(weights(first)[n], w) for n, w in weights(again).items())
    assert first.losses != other.losses
    assert not any(torch.equal(weights(first)[n], w) for n, w in weights(other).items())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "steps"), [({}, 6), pytest.param(PACKED, 4, marks=pytest.mark.slow)], ids=["unpacked", "packed"]
)
@pytest.mark.parametrize("lora_config", [None, {"r": 4}])
def test_accumulation_is_one_large_batch(lora_config, data, steps: int, train, qa: Path, tmp_path: Path) -> None:
    given = {"num_train_epochs": 2, "learning_rate": 1e-3, "lora_config": lora_config, "save_strategy": "no"}
    given |= {"data": data}
    whole = train(tmp_path / "whole", qa, **given, per_device_train_batch_size=16)
    pieces = train(tmp_path / "pieces", qa, **given, per_device_train_batch_size=4, gradient_accumulation_steps=4)
    assert whole.losses.keys() == pieces.losses.keys() == set(range(1, steps + 1))
    assert list(pieces.losses.values()) == pytest.approx(list(whole.losses.values()), abs=1e-5)


@pytest.mark.parametrize("data", [{}, PACKED], ids=["unpacked", "packed"])
def test_every_sample_is_seen_once_an_epoch(data, train, qa: Path, tmp_path: Path, monkeypatch) -> None:
    from tunewright_hf.data.samples.collators import Collator

    seen: list[tuple[int, ...]] = []
    collate = Collator.__call__

    def watched(self, samples):
        batch = collate(self, samples)
        lengths = batch["cu_seq_lens_q"].diff().tolist()
        parts = zip(*(batch[key][0].split(lengths) for key in ("input_ids", "labels")), strict=True)
        seen.extend(tuple(ids.tolist()) for ids, labels in parts if (labels != -100).any())
        return batch

    monkeypatch.setattr(Collator, "__call__", watched)
    given = {"num_train_epochs": 2, "eval_strategy": "no", "save_strategy": "no", "gradient_accumulation_steps": 2}
    given |= {"activation_checkpointing": False}  # else a batch is looked at for its memory
    train(tmp_path / "out", qa, **given, data=data)
    assert len(set(seen[:41])) == 41
    assert sorted(seen[:41]) == sorted(seen[41:])
    assert seen[:41] != seen[41:], "each epoch has an order of its own"


OWN_LOSS = """
import torch, transformers

class Mean(transformers.Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = torch.nn.functional.cross_entropy(outputs.logits[0, :-1], labels[0, 1:])
        return (loss, outputs) if return_outputs else loss
"""


def test_a_class_with_a_loss_of_its_own_gets_no_samples_without_any(
    train, dataset_of, sums, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "their_loss.py").write_text(OWN_LOSS)
    monkeypatch.syspath_prepend(tmp_path)
    dataset_of(sums(3), file="validation.jsonl")
    given = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "num_train_epochs": 1}
    given |= {
        "transformer_class": "their_loss:Mean",
        "activation_checkpointing": False,
        "per_device_eval_batch_size": 2,
    }
    training = train(tmp_path / "out", dataset_of(sums(5)), **given)
    assert all(math.isfinite(loss) for loss in training.losses.values())
    assert all(math.isfinite(e["eval_loss"]) for e in training.of("eval"))


@pytest.mark.slow
def test_a_trainer_class_keeps_its_data_and_its_batches(train, qa: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "their_batches.py").write_text(
        """import transformers
class Own(transformers.Trainer):
    def __init__(self, *args, data_collator, **given):
        super().__init__(*args, data_collator=self.batch, **given)
        self.theirs, self.batches = data_collator, []
        self.train_dataset = self.train_dataset.select(range(4))
        self.seen.append(self)
    def batch(self, samples):
        self.batches.append(len(samples))
        return self.theirs(samples)
    seen = []
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    given = {"transformer_class": "their_batches:Own", "num_train_epochs": 2, "per_device_train_batch_size": 2}
    given |= {"eval_strategy": "no", "save_strategy": "no", "activation_checkpointing": False}
    training = train(tmp_path / "out", qa, **given)
    import their_batches

    assert max(training.losses) == 4
    assert their_batches.Own.seen[0].batches == [2] * 4
    with pytest.raises(RequestError, match=r"packing=True: does not work with Own, which makes the batches itself"):
        train(tmp_path / "packed", qa, **given, data=PACKED)


def test_a_loss_that_is_no_number_is_final(train, qa: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"learning_rate=1e\+30: the loss became nan by step \d+") as error:
        train(tmp_path / "out", qa, learning_rate=1e30, max_grad_norm=0.0, max_steps=10)
    assert "Lower learning_rate" in error.value.remedy
    assert not (tmp_path / "out" / "model").exists()


def test_only_full_batches_of_too_few_samples_are_refused(train, dataset_of, sums, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"dataloader_drop_last=True: .*5 samples.*takes 8.*Leave it out"):
        train(tmp_path / "out", dataset_of(sums(5)), dataloader_drop_last=True)


def test_without_evaluation_data_an_evaluation_is_refused(train, dataset_of, sums, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"eval_strategy='steps'.*needs evaluation data"):
        train(tmp_path / "out", dataset_of(sums(8)), eval_strategy="steps", max_steps=1)


def test_a_model_or_dataset_that_is_missing_is_refused(train, qa: Path, model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="dataset: is required for training"):
        train(tmp_path, None)
    run = TrainRun(dataset=qa, output=tmp_path, emit=lambda _: None)
    with pytest.raises(RequestError, match="model: is required for training"):
        HuggingFaceTrainParams().train(run)
