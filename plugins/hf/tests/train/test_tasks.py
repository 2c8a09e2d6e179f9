"""Other tasks than causal language modelling: sequence classification, regression, and encoder-decoder models."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright import RequestError, TrainRun
from tunewright_hf import DataParams, HuggingFaceModelParams, HuggingFaceTrainParams

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
datasets = pytest.importorskip("datasets")

CLASSIFIER, SEQ2SEQ = "AutoModelForSequenceClassification", "AutoModelForSeq2SeqLM"
PACE = {"learning_rate": 1e-2, "num_train_epochs": 4, "logging_steps": 1, "per_device_train_batch_size": 8, "seed": 1}
LABELS = ["even", "odd"]


def parity(count: int) -> list[dict[str, object]]:
    return [
        {"text": f"{'odd' if n % 2 else 'sum'} {n}" + " What" * (n % 3), "label": LABELS[n % 2]} for n in range(count)
    ]


def head_of(result: Path, base: Path, **head: object):
    """The classifier as its card says to load it."""
    if not (result / "adapter_config.json").exists():
        return transformers.AutoModelForSequenceClassification.from_pretrained(result)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, **head)
    return peft.PeftModel.from_pretrained(model, result)


def outputs(model, folder: Path, texts: list[str]):
    """The logits of each text by itself, as people ask the model."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return torch.cat([model.eval()(**tokenizer(text, return_tensors="pt")).logits for text in texts])


@pytest.mark.parametrize(
    ("name", "given"),
    [("bert", {}), ("llama", {"lora_config": {"r": 4}}),
     pytest.param("distilbert", {"lora_config": {"r": 4}}, marks=pytest.mark.slow),
     pytest.param("bert", {"lora_config": {"r": 4}, "merge": True}, marks=pytest.mark.slow)],
    ids=["bert", "llama-lora", "distilbert-lora", "bert-merged"],
)  # fmt: skip
def test_a_classifier_learns_and_the_result_is_what_was_trained(
    name: str, given: dict[str, object], base_of: Callable[[str], Path], classified: Path, train, tmp_path: Path
) -> None:
    base = base_of(name)
    training = train(tmp_path / "out", classified, model=base, transformer_type=CLASSIFIER, **PACE, **given)
    assert training.losses[1] == pytest.approx(math.log(2), abs=0.3)
    assert list(training.losses.values())[-1] < 0.5 * training.losses[1]
    model = head_of(training.result, base, num_labels=2)
    rows = parity(5)
    logits = outputs(model, training.result, [str(row["text"]) for row in rows])
    wanted = torch.tensor([LABELS.index(str(row["label"])) for row in rows])
    last = training.of("eval")[-1]
    # The evaluation at the end was the trained model's own, with pads and in other batches.
    assert last["eval_loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, wanted).item(), abs=1e-5)
    assert last["eval_accuracy"] == (logits.argmax(-1) == wanted).double().mean().item()
    assert last["eval_accuracy"] == 1
    card = (training.result / "README.md").read_text()
    assert "pipeline_tag: text-classification" in card
    assert '"even"' in card
    if "lora_config" not in given:
        assert model.config.id2label == {0: "even", 1: "odd"}


@pytest.mark.parametrize("name", ["t5", pytest.param("bart", marks=pytest.mark.slow)])
@pytest.mark.parametrize("lora_config", [None, pytest.param({"r": 4}, marks=pytest.mark.slow)], ids=["full", "lora"])
def test_an_encoder_decoder_learns_and_the_result_is_what_was_trained(
    name: str, lora_config, base_of: Callable[[str], Path], qa: Path, train, tmp_path: Path
) -> None:
    given = {**PACE, "transformer_type": SEQ2SEQ, "lora_config": lora_config, "sample_prompts": ["What is 3 and 3?"]}
    training = train(tmp_path / "out", qa, model=base_of(name), **given)
    losses = list(training.losses.values())
    assert losses[0] == pytest.approx(math.log(400), rel=0.2)
    assert losses[-1] < 0.9 * losses[0]
    load = transformers.AutoModelForSeq2SeqLM.from_pretrained
    model = load(base_of(name)) if lora_config else load(training.result)
    model = (peft.PeftModel.from_pretrained(model, training.result) if lora_config else model).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(training.result)
    expected = independent_loss(model, tokenizer, qa / "validation.jsonl")
    assert training.of("eval")[-1]["eval_loss"] == pytest.approx(expected, abs=1e-5)
    asked = tokenizer("What is 3 and 3?", return_tensors="pt")
    answer = model.generate(**asked, max_new_tokens=128, do_sample=False)[0]
    assert training.of("sample")[-1]["text"] == tokenizer.decode(answer, skip_special_tokens=True).strip()
    assert "AutoModelForSeq2SeqLM.from_pretrained" in (training.result / "README.md").read_text()


def independent_loss(model, tokenizer, file: Path) -> float:
    """The mean over all tokens of the completions, sample by sample."""
    total, count = 0.0, 0
    for row in map(json.loads, file.read_text().splitlines()):
        labels = tokenizer(row["completion"], return_tensors="pt")["input_ids"]
        with torch.no_grad():
            found = model(**tokenizer(row["prompt"], return_tensors="pt"), labels=labels)
        total += found.loss.item() * labels.shape[1]
        count += labels.shape[1]
    return total / count


def test_of_prompt_and_completion_each_is_framed_and_cut_by_itself(base_of: Callable[[str], Path]) -> None:
    from tunewright_hf.data.samples.seq2seq import PairEncoder

    tokenizer = transformers.AutoTokenizer.from_pretrained(base_of("t5"))
    sample = PairEncoder(tokenizer, DataParams())({"prompt": "What is 1?", "completion": "The sum."})
    prompt, completion = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in ("What is 1?", "The sum."))
    assert sample.ids == [0, *prompt, 1]
    assert sample.labels == [0, *completion, 1]
    cut = sample.cut(4)
    assert (cut.ids, cut.labels) == ([0, *prompt[:2], 1], [0, *completion[:3]])
    assert (sample.tokens, sample.supervised) == (len(sample.ids) + len(sample.labels), len(sample.labels))


def test_a_text_is_cut_before_the_token_that_ends_it(base_of: Callable[[str], Path]) -> None:
    from tunewright_hf.data.samples.classification import Classes, Classifier

    tokenizer = transformers.AutoTokenizer.from_pretrained(base_of("bert"))
    classes = Classes(problem="single_label_classification", names=("a", "b"), numbers={"a": 0, "b": 1})
    encode = Classifier(tokenizer, DataParams(), classes)
    text = tokenizer("What is 1?", add_special_tokens=False)["input_ids"]
    sample = encode({"text": "What is 1?", "label": "b"})
    assert (sample.ids, sample.labels) == ([0, *text, 1], 1)
    assert sample.cut(4).ids == [0, *text[:2], 1]
    assert encode({"text": " ", "label": "b"}) is None
    assert encode({"text": "What is 1?", "label": None}) is None
    with pytest.raises(RequestError, match="'c'"):
        encode({"text": "What is 1?", "label": "c"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "given", "measure"),
    [
        ([{"text": f"What is {n}", "label": n / 4} for n in range(8)], {}, "eval_mae"),
        pytest.param(
            [{"text": f"What is {n}", "label": n} for n in range(8)],
            {"num_labels": 1},
            "eval_mae",
            marks=pytest.mark.slow,
        ),
        ([{"text": f"What is {n}", "label": [["a"], ["a", "b"], []][n % 3]} for n in range(8)], {}, "eval_accuracy"),
    ],
    ids=["regression", "regression_of_integers", "multi_label"],
)
def test_numbers_and_several_labels_are_learnt(
    rows, given, measure: str, base_of: Callable[[str], Path], dataset_of: Callable[..., Path], train, tmp_path: Path
) -> None:
    evaluation = dataset_of(rows[:5], name="evaluation")
    given = {**PACE, **given, "num_train_epochs": 10, "per_device_train_batch_size": 3, "per_device_eval_batch_size": 2}
    training = train(
        tmp_path / "out", dataset_of(rows), eval_dataset=evaluation, model=base_of("bert"), transformer_type=CLASSIFIER, **given
    )  # fmt: skip
    assert list(training.losses.values())[-1] < training.losses[1]
    model = head_of(training.result, base_of("bert"))
    found = outputs(model, training.result, [str(row["text"]) for row in rows[:5]])
    if measure == "eval_mae":
        wanted = torch.tensor([float(row["label"]) for row in rows[:5]])
        loss, measured = torch.nn.functional.mse_loss(found[:, 0], wanted), (found[:, 0] - wanted).abs().mean()
    else:
        wanted = torch.tensor([[float(name in row["label"]) for name in "ab"] for row in rows[:5]])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(found, wanted)
        measured = ((found > 0) == wanted.bool()).all(1).double().mean()
    last = training.of("eval")[-1]
    assert last["eval_loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert last[measure] == pytest.approx(measured.item(), abs=1e-5)


@pytest.mark.parametrize("task", [CLASSIFIER, pytest.param(SEQ2SEQ, marks=pytest.mark.slow)])
def test_accumulation_is_one_large_batch(
    task: str, base_of: Callable[[str], Path], classified: Path, qa: Path, train, tmp_path: Path
) -> None:
    model, dataset = (base_of("bert"), classified) if task == CLASSIFIER else (base_of("t5"), qa)
    given = {"transformer_type": task, "model": model, "num_train_epochs": 2, "learning_rate": 1e-3, "seed": 1}
    given |= {"eval_strategy": "no", "save_strategy": "no", "label_smoothing_factor": 0.1}
    whole = train(tmp_path / "whole", dataset, **given, per_device_train_batch_size=16)
    pieces = train(tmp_path / "pieces", dataset, **given, per_device_train_batch_size=4, gradient_accumulation_steps=4)
    assert list(pieces.losses.values()) == pytest.approx(list(whole.losses.values()), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("task", [CLASSIFIER, pytest.param(SEQ2SEQ, marks=pytest.mark.slow)])
def test_a_training_that_was_cut_off_goes_on_to_the_same_bits(
    task: str, base_of: Callable[[str], Path], classified: Path, qa: Path, train, tmp_path: Path
) -> None:
    model, dataset = (base_of("distilbert"), classified) if task == CLASSIFIER else (base_of("t5"), qa)
    given = {
        **PACE,
        "transformer_type": task,
        "model": model,
        "num_train_epochs": 2,
        "lora_config": {"r": 2},
        "save_steps": 2,
    }
    train(tmp_path / "out", dataset, **given, cut_at=("step", 3))
    resumed = train(tmp_path / "out", dataset, **given)
    whole = train(tmp_path / "whole", dataset, **given)
    assert min(resumed.losses) == 3
    assert resumed.losses.items() <= whole.losses.items()
    assert [e["eval_loss"] for e in resumed.of("eval")] == [e["eval_loss"] for e in whole.of("eval")][
        -len(resumed.of("eval")) :
    ]


@pytest.mark.slow
def test_a_head_that_is_there_keeps_its_labels(
    base_of: Callable[[str], Path], classified: Path, train, dataset_of: Callable[..., Path], tmp_path: Path
) -> None:
    given = {"transformer_type": CLASSIFIER, "max_steps": 1, "save_strategy": "no", "eval_strategy": "no"}
    first = train(tmp_path / "first", classified, model=base_of("bert"), **given)
    again = dataset_of([{"text": "What is", "label": "odd"}, {"text": "sum", "label": "odd"}], name="again")
    second = train(tmp_path / "second", again, model=first.result, **given, learning_rate=0.0)
    before, after = (head_of(t.result, t.result) for t in (first, second))
    assert after.config.id2label == {0: "even", 1: "odd"}
    assert torch.equal(before.classifier.weight, after.classifier.weight)
    other = dataset_of([{"text": "What is", "label": n} for n in "abc"], name="other")
    third = train(tmp_path / "third", other, model=first.result, **given)
    assert head_of(third.result, third.result).config.id2label == {0: "a", 1: "b", 2: "c"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"transformer_type": CLASSIFIER, "data": {"format": "chat"}}, r"DataParams\.format='chat'.*transformer_type='AutoModelForCausalLM'"),
        ({"data": {"format": "classification"}}, r"transformer_type='AutoModelForSequenceClassification'"),
        ({"transformer_type": CLASSIFIER, "data": {"packing": True}}, r"DataParams\.packing"),
        ({"transformer_type": SEQ2SEQ, "data": {"packing": True}}, r"DataParams\.packing"),
        ({"transformer_type": SEQ2SEQ, "data": {"format": "text"}}, r"DataParams\.format='text'"),
        ({"transformer_type": CLASSIFIER, "sample_prompts": ["x"]}, "does not generate text"),
        ({"transformer_type": CLASSIFIER, "lora_config": {"task_type": "CAUSAL_LM"}}, r"LoraConfig\.task_type='CAUSAL_LM'"),
        ({"transformer_type": SEQ2SEQ, "attn_implementation": "segments"}, "attn_implementation='segments'"),
        ({"num_labels": 3}, "num_labels=3"),
        ({"transformer_type": "AutoModelForSeqClassification"}, "Did you mean 'AutoModelForSequenceClassification'"),
        ({"transformer_type": CLASSIFIER, "num_labels": 0}, "1 for regression"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_the_task_is_refused_on_the_client(given: dict[str, object], expected: str) -> None:
    with pytest.raises(RequestError, match=expected):
        HuggingFaceTrainParams(**given)


def test_the_models_provider_says_what_the_trainer_trains() -> None:
    model = HuggingFaceModelParams(uri="hf://org/name", transformer_type=CLASSIFIER, num_labels=3)
    trainer = HuggingFaceTrainParams(learning_rate=1e-4).for_model(model)
    assert trainer == HuggingFaceTrainParams(learning_rate=1e-4, transformer_type=CLASSIFIER, num_labels=3)
    assert trainer.data.format == "classification"
    assert trainer.for_model(HuggingFaceModelParams(uri="hf://org/name")) == trainer
    with pytest.raises(RequestError, match=r"num_labels=2: differs from the model provider's, 3"):
        HuggingFaceTrainParams(transformer_type=CLASSIFIER, num_labels=2).for_model(model)


def test_the_request_has_what_the_models_provider_says(classified: Path, base_of: Callable[[str], Path]) -> None:
    from tunewright import TrainingClient

    model = HuggingFaceModelParams(uri="hf://org/name", transformer_type=CLASSIFIER)
    request = TrainingClient(backend="local").train_request(model=model, dataset=str(classified), trainer="hf")
    assert request.trainer.provider.transformer_type == CLASSIFIER


def test_what_is_trained_does_not_change_what_is_fetched() -> None:
    from tunewright import TrainingClient

    storage = {"claim": "models", "key": "auto"}
    given = {"dataset": "hf://datasets/org/name", "trainer": "hf", "storage": storage, "dry_run": True}
    models = [
        HuggingFaceModelParams(uri="hf://org/name", **extra)
        for extra in ({}, {"transformer_type": CLASSIFIER, "num_labels": 2})
    ]
    plain, classifier = (TrainingClient().train("a", model=model, **given) for model in models)
    data = [next(d["data"] for d in found if d["kind"] == "ConfigMap") for found in (plain, classifier)]
    assert data[0]["model.json"] == data[1]["model.json"]
    assert (
        json.loads(data[1]["trainer.json"])["params"].items()
        >= {"transformer_type": CLASSIFIER, "num_labels": 2}.items()
    )


def test_a_model_of_another_task_is_refused_with_the_class_that_loads_it(
    base_of: Callable[[str], Path], train, qa: Path, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=r"has a T5Config.*Give transformer_type='AutoModelForSeq2SeqLM'"):
        train(tmp_path / "out", qa, model=base_of("t5"), max_steps=1)
    shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize("name", ["distilbert", "llama", "bart"])
def test_the_check_takes_a_classifier(
    name: str, base_of: Callable[[str], Path], classified: Path, tmp_path: Path
) -> None:
    run = TrainRun(model=base_of(name), dataset=classified, output=tmp_path, emit=lambda _: None)
    HuggingFaceTrainParams(transformer_type=CLASSIFIER, lora_config={}).check(run)
    with pytest.raises(RequestError, match="No modules were targeted"):
        HuggingFaceTrainParams(transformer_type=CLASSIFIER, lora_config={"target_modules": ["nowhere"]}).check(run)


def test_a_preview_shows_the_label(base_of: Callable[[str], Path], classified: Path, qa: Path, tmp_path: Path) -> None:
    run = TrainRun(model=base_of("bert"), dataset=classified, output=tmp_path, emit=lambda _: None)
    first = next(HuggingFaceTrainParams(transformer_type=CLASSIFIER).preview(run))
    assert first.pieces == (("<s>sum 0</s>", False), (" even", True))
    run = TrainRun(model=base_of("t5"), dataset=qa, output=tmp_path, emit=lambda _: None)
    first = next(HuggingFaceTrainParams(transformer_type=SEQ2SEQ).preview(run))
    assert first.pieces == (("<s>What is 0 and 0?</s>", False), ("<s> The sum is 0.</s>", True))
