"""What `check` refuses in its init container, which sees no GPU: nothing that a GPU could do, and all that cannot work."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright import RequestError, TrainRun
from tunewright_hf import HuggingFaceTrainParams

transformers = pytest.importorskip("transformers")


@pytest.fixture
def check(model_folder: Path, qa: Path, tmp_path: Path) -> Callable[..., None]:
    def call(*, model: Path | None = None, dataset: Path | None = None, **given: object) -> None:
        output = tmp_path / "output"
        run = TrainRun(model=model or model_folder, dataset=dataset or qa, output=output, emit=lambda _: None)
        HuggingFaceTrainParams(**given).check(run)
        assert not output.exists(), "a check leaves nothing"

    return call


@pytest.fixture
def copied_model(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def change(file: Path, **keys: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"bf16": True},
        {"fp16": True},
        {"tf32": True},
        {"bf16_full_eval": True},
        {"optim": "adamw_torch_fused"},
        {"ddp_backend": "nccl"},
        {"fsdp": True, "fsdp_config": {"version": 2}},
        {"use_cpu": False},
        {"lora_config": {}},
        {"lora_config": {"r": 8, "init_lora_weights": "pissa", "target_modules": ["q_proj"]}},
        {"lora_config": {"use_dora": True, "modules_to_save": ["lm_head"]}},
        {"load_best_model_at_end": True},
        {"eval_strategy": "steps", "eval_steps": 3, "load_best_model_at_end": True},
        {"eval_strategy": "steps", "eval_steps": 3, "load_best_model_at_end": True, "save_steps": 6},
        {"eval_strategy": "steps", "save_steps": 6, "load_best_model_at_end": True},
        {"eval_strategy": "steps", "eval_steps": 3, "early_stopping_patience": 3},
        {"eval_strategy": "steps", "eval_steps": 0.3, "early_stopping_patience": 3},
        {"eval_strategy": "steps", "early_stopping_patience": 3},
        {"save_strategy": "best"},
        {"metric_for_best_model": "eval_loss", "label_names": ["labels"]},
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-6}},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
        {"torch_compile": True, "torch_compile_backend": "eager"},
    ],
    ids=str,
)
def test_what_may_work_where_the_training_runs_passes(given: dict[str, object], check: Callable[..., None]) -> None:
    check(**given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"report_to": "wandb"}, ["report_to='wandb'", "is not installed", "Use an image that has it"]),
        ({"bf16": True, "fp16": True}, ["training_parameters", "At most one of fp16 and bf16"]),
        ({"load_best_model_at_end": True, "save_strategy": "steps"}, ["training_parameters", "strategy to match"]),
        ({"early_stopping_patience": 1, "eval_strategy": "steps", "eval_steps": 3, "save_steps": 4}, ["round multiple of 3"]),
        ({"push_to_hub": True}, ["push_to_hub=True", "hub_model_id='org/name'"]),
        ({"per_device_train_batch_size": 0}, ["per_device_train_batch_size=0", "more than 0"]),
        ({"gradient_accumulation_steps": 0}, ["gradient_accumulation_steps=0", "more than 0"]),
        ({"num_train_epochs": -1}, ["num_train_epochs=-1", "more than 0"]),
        ({"learning_rate": -1.0}, ["learning_rate=-1.0", "0 or more"]),
        ({"transformer_class": "Trainr"}, ["transformer_class='Trainr'", "Did you mean 'Trainer'?"]),
        ({"lora_config": {"target_modules": ["q_prj"]}}, ["lora_config", "q_prj", "all-linear"]),
        ({"lora_config": {"r": 0}}, ["lora_config", "positive integer"]),
        ({"data": {"max_length": 129}}, ["DataParams.max_length=129", "Give 128 or less"]),
        ({"data": {"completion_column": "answer"}, }, ["has no column", "'answer'", "Its columns are: prompt, completion"]),
        ({"lora_config": {}, "merge": True, "fsdp": True}, ["merge=True", "FSDP"]),
        ({"optim": "lomo"}, ["optim: was rejected", "lomo_optim", "Use a trainer image that has it"]),
        ({"optim": "galore_adamw", "optim_target_modules": ["mlp"]}, ["optim: was rejected", "galore_torch"]),
        ({"adam_beta1": 1.5}, ["optim", "beta", "1.5"]),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, ["lr_scheduler_kwargs: was rejected", "min_lr"]),
        ({"lr_scheduler_kwargs": {"foo": 1}}, ["lr_scheduler_kwargs: was rejected", "'foo'", "lr_scheduler_type='linear'"]),
        ({"metric_for_best_model": "f1"}, ["metric_for_best_model='f1'", "is not computed by evaluations", "There are: loss"]),
        ({"label_names": ["foo"]}, ["label_names=['foo']", "Leave it out"]),
        ({"use_liger_kernel": True}, ["use_liger_kernel=True", "liger-kernel", "is not installed"]),
        ({"torch_compile": True, "torch_compile_backend": "inductr"}, ["torch_compile_backend", "Did you mean 'inductor'"]),
        ({"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"reentrant": True}}, ["'use_reentrant'"]),
        ({"neftune_noise_alpha": -1.0}, ["neftune_noise_alpha=-1.0", "0 or more"]),
        ({"transformer_class": "DataCollatorForSeq2Seq"}, ["transformer_class='DataCollatorForSeq2Seq'", "not a Trainer class"]),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_work_is_refused(given: dict[str, object], expected: list[str], check: Callable[..., None]) -> None:
    with pytest.raises(RequestError) as error:
        check(**given)
    for part in expected:
        assert part in str(error.value)


@pytest.mark.parametrize("layer", ["lm_head", "embed_tokens"])
def test_an_adapter_of_a_shared_weight_is_not_merged(
    layer: str, check: Callable[..., None], train, copied_model: Path, qa: Path, tmp_path: Path
) -> None:
    given = {"lora_config": {"target_modules": ["q_proj", layer]}, "merge": True}
    check(**given)
    config = transformers.AutoConfig.from_pretrained(copied_model, tie_word_embeddings=True)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(copied_model)
    check(model=copied_model, lora_config=given["lora_config"])
    check(model=copied_model, lora_config={"modules_to_save": [layer]}, merge=True)
    for attempt in (check, lambda **more: train(tmp_path / "out", qa, **more)):
        with pytest.raises(RequestError, match=rf"merge=True: .*LoRA on {layer}.*Leave merge out"):
            attempt(model=copied_model, **given)


def test_a_model_folder_without_its_parts_is_refused(check: Callable[..., None], copied_model: Path) -> None:
    (copied_model / "model.safetensors").unlink()
    with pytest.raises(RequestError, match=r"has no weights.*save_pretrained"):
        check(model=copied_model)
    (copied_model / "config.json").unlink()
    with pytest.raises(RequestError, match=r"has no config\.json") as error:
        check(model=copied_model)
    assert (error.value.field, str(copied_model) in str(error.value)) == ("model", True)


def test_damaged_weights_are_refused(check: Callable[..., None], copied_model: Path) -> None:
    file = copied_model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(RequestError, match=r"model=.*has a damaged file, model.safetensors: .*Fetch or copy it again"):
        check(model=copied_model)


def test_a_dataset_without_rows_is_refused(check: Callable[..., None], dataset_of) -> None:
    with pytest.raises(RequestError, match="is empty") as error:
        check(dataset=dataset_of([]))
    assert error.value.field == "dataset"


def test_a_model_without_a_tokenizer_is_refused(check: Callable[..., None], copied_model: Path) -> None:
    for file in copied_model.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(RequestError, match=r"model: was rejected: .*Save the tokenizer"):
        check(model=copied_model)


def test_another_kind_of_model_is_refused(check: Callable[..., None], copied_model: Path) -> None:
    change(copied_model / "config.json", model_type="vit")
    with pytest.raises(RequestError, match=r"has a ViTConfig.*causal language models"):
        check(model=copied_model)


def test_pairs_of_messages_need_a_template(
    check: Callable[..., None], copied_model: Path, dataset_of, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "their_trainer.py").write_text("import transformers\nclass Pairs(transformers.Trainer): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    given = {"transformer_class": "their_trainer:Pairs", "data": {"format": "preference"}, "model": copied_model}
    turns = {name: [{"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
    pairs = dataset_of([{"prompt": [{"role": "user", "content": "What?"}], **turns}])
    check(dataset=pairs, **given)
    (copied_model / "chat_template.jinja").unlink()
    with pytest.raises(RequestError, match="has a tokenizer without a chat template"):
        check(dataset=pairs, **given)


def test_columns_of_pairs_are_suggested_by_their_names(check: Callable[..., None], dataset_of) -> None:
    given = {"transformer_class": "their_trainer:Pairs", "data": {"format": "preference"}}
    rows = dataset_of([{"instruction": "What?", "chosen_response": "This.", "rejected_response": "That."}])
    with pytest.raises(RequestError) as error:
        check(dataset=rows, **given)
    lines = (
        ("chosen_column", "chosen_response"),
        ("rejected_column", "rejected_response"),
        ("prompt_column", "instruction"),
    )
    for field, column in lines:
        assert f'trainer.data.{field}: "{column}"' in str(error.value)


@pytest.mark.parametrize("given", [{}, {"data": {"format": "chat"}}], ids=["auto", "chat"])
def test_chats_need_a_template(
    given, check: Callable[..., None], copied_model: Path, dataset_of, train, tmp_path
) -> None:
    messages = [{"role": "user", "content": "1?"}, {"role": "assistant", "content": "1."}]
    dataset = dataset_of([{"messages": messages}])
    check(dataset=dataset, **given)
    (copied_model / "chat_template.jinja").unlink()
    with pytest.raises(RequestError, match="without a chat template"):
        check(model=copied_model, dataset=dataset, **given)
    with pytest.raises(RequestError, match="without a chat template"):
        train(tmp_path / "out", dataset, model=copied_model, **given)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            {"chat_template": "chatml"},
            r"DataParams.chat_template='chatml': writes <\|im_start\|>, <\|im_end\|>.*alpaca",
        ),
        ({"chat_template": "{{ messages }}", "format": "auto"}, "concatenated as they are"),
        ({"chat_template": "{{ messages }}", "text_template": "{prompt}"}, "rows are read as text"),
        ({"eos_token": "</ss>"}, r"DataParams.eos_token='</ss>': is not a token.*Did you mean '</s>'"),
    ],
)
def test_a_template_or_an_end_that_does_not_fit_is_refused(data, expected: str, check: Callable[..., None]) -> None:
    with pytest.raises(RequestError, match=expected):
        check(data=data)


def test_the_end_of_turns_that_the_tokenizer_cuts_into_pieces_is_refused(
    check: Callable[..., None], dataset_of
) -> None:
    messages = [{"role": "user", "content": "1?"}, {"role": "assistant", "content": "1."}]
    text = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    with pytest.raises(RequestError, match=r"ends turns with <\|im_end\|>"):
        check(dataset=dataset_of([{"messages": messages}]), data={"chat_template": text})


def test_what_is_no_chat_needs_an_end(check: Callable[..., None], copied_model: Path) -> None:
    change(copied_model / "tokenizer_config.json", eos_token=None)
    with pytest.raises(RequestError, match=r"without an end-of-text token.*learn to stop"):
        check(model=copied_model)


CODE = """
import pathlib
from transformers import LlamaConfig, LlamaForCausalLM

pathlib.Path(__file__).parent.joinpath("ran")
open({proof!r}, "a").write("ran ")


class OwnConfig(LlamaConfig):
    model_type = "own-llama"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own_code(copied_model: Path, tmp_path: Path) -> Path:
    """A model folder that brings its own class; the file that its code writes is `ran` beside it."""
    (copied_model / "own.py").write_text(CODE.format(proof=str(tmp_path / "ran")))
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    change(copied_model / "config.json", model_type="own-llama", auto_map=auto_map, architectures=["OwnForCausalLM"])
    return copied_model


def test_code_in_a_model_folder_does_not_run_unasked(check, train, own_code: Path, qa: Path, tmp_path: Path) -> None:
    for attempt in (check, lambda model: train(tmp_path / "out", qa, model=model, max_steps=1)):
        with pytest.raises(RequestError, match=r"trust_remote_code=True if you trust") as error:
            attempt(model=own_code)
        assert error.value.field == "model"
    assert not (tmp_path / "ran").exists()


def test_code_that_is_trusted_runs_and_comes_with_the_result(
    check, train, own_code: Path, qa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    check(model=own_code, trust_remote_code=True)
    assert (tmp_path / "ran").exists()
    training = train(tmp_path / "out", qa, model=own_code, max_steps=2, trust_remote_code=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(training.result, trust_remote_code=True)
    assert type(model).__name__ == "OwnForCausalLM"


def test_a_known_model_with_code_beside_it_is_loaded_by_transformers_own_class(
    train, copied_model: Path, qa: Path, tmp_path: Path
) -> None:
    (copied_model / "own.py").write_text(CODE.format(proof=str(tmp_path / "ran")))
    change(copied_model / "config.json", auto_map={"AutoModelForCausalLM": "own.OwnForCausalLM"})
    train(tmp_path / "out", qa, model=copied_model, max_steps=1)
    assert not (tmp_path / "ran").exists()


def test_a_bad_row_is_found_before_ranks_start_with_its_file_and_number(
    model_folder, dataset_of, sums, tmp_path
) -> None:
    rows = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}] * 4
    dataset_of(rows)
    odd = {"messages": [{"role": "Kunde", "content": "a"}, {"role": "assistant", "content": "b"}]}
    dataset = dataset_of([*rows, odd], file="more.jsonl")
    run = TrainRun(model=model_folder, dataset=dataset, output=tmp_path, emit=lambda _: None)
    with pytest.raises(RequestError, match=r"an unknown role: 'Kunde' \(line 5 of .*/more\.jsonl\)"):
        HuggingFaceTrainParams().check(run)
    HuggingFaceTrainParams(data={"roles": {"Kunde": "user"}}).check(run)


def classifier(labels: list[object], validation: list[object], dataset_of, **more: object) -> Path:
    for name, values in (("train", labels), ("validation", validation)):
        folder = dataset_of(
            [{"text": f"a {i}", "label": label, **more} for i, label in enumerate(values)], file=f"{name}.jsonl"
        )
    return folder


CLASSIFIER = {"transformer_type": "AutoModelForSequenceClassification"}


@pytest.mark.parametrize(
    ("labels", "validation", "expected"),
    [
        (
            ["x", "y"] * 60,
            ["x", "odd"],
            r"does not occur in the training split: 'odd' \(line 2 of .*validation\.jsonl\)",
        ),
        (["x"] * 150, ["x"], "holds only one label, 'x'"),
        ([None, ""], ["x"], "holds no labels"),
        ([0.5, 1.5], [0.5, "many"], r"has a label that is not a number: 'many' \(line 2 of .*validation"),
        ([["x"], ["y"]], ["x", "y"], r"has a label that is not a list: 'x' \(line 1 of .*validation"),
    ],
    ids=["unknown", "one", "none", "regression", "several"],
)
def test_labels_are_checked_before_ranks_start(labels, validation, expected, check, dataset_of) -> None:
    with pytest.raises(RequestError, match=expected):
        check(dataset=classifier(labels, validation, dataset_of), **CLASSIFIER)


def test_rows_of_a_classifier_are_encoded_by_the_check(check, dataset_of, caplog: pytest.LogCaptureFixture) -> None:
    labels = ["x"] * 150 + ["y"]
    check(dataset=classifier(labels, ["x", "y"], dataset_of), **CLASSIFIER)
    with pytest.raises(RequestError, match=r"column 'text' holds a dict.* \(line 1 of .*train\.jsonl\)"):
        check(dataset=classifier(labels, ["x", "y"], dataset_of, text={"a": 1}), **CLASSIFIER)
    check(dataset=classifier(labels, ["x", "z"], dataset_of), data={"on_bad_row": "drop"}, **CLASSIFIER)
    assert "1 of the first 2 rows would be dropped (has a label that does not occur" in caplog.text


def test_what_only_a_list_of_datasets_gives_a_meaning_to_is_refused(check) -> None:
    with pytest.raises(
        RequestError, match=r"DataParams.mix_by='tokens': .*there is one. Leave it out, or give a list of several"
    ):
        check(data={"mix_by": "tokens"})
