"""What the client half takes, refuses and sends, without any heavy library."""

import copy
import subprocess
import sys

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright import RequestError, SecretRef
from tunewright.providers import wire
from tunewright.providers.fields import secret_env
from tunewright_hf import DataParams, HuggingFaceTrainParams, LoraConfig, TrainingArguments
from tunewright_hf.config import library_fields
from tunewright_hf.config.library_arguments import BitsAndBytesConfig


def there_and_back(params: HuggingFaceTrainParams) -> HuggingFaceTrainParams:
    document = wire.WireDocument(
        kind="trainer", provider="hf", distribution="d", version="0", params=wire.unstructure(params, "trainer")
    )
    return HuggingFaceTrainParams.load_config(wire.WireDocument.loads(document.dumps()).params, {})


def test_importing_the_client_half_loads_nothing_heavy() -> None:
    code = "import sys, tunewright_hf.data.reading.files; print([m for m in ('torch', 'transformers', 'peft', 'datasets') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_arguments_it_is_full_fine_tuning_and_travels_as_nothing() -> None:
    params = HuggingFaceTrainParams()
    assert params.lora_config is None
    assert wire.unstructure(params, "trainer") == {}
    assert there_and_back(params) == params


def test_only_what_was_given_is_recorded() -> None:
    assert dict(TrainingArguments(learning_rate=0.1, bf16=True)) == {"learning_rate": 0.1, "bf16": True}
    assert repr(LoraConfig(r=4)) == "LoraConfig(r=4)"
    assert TrainingArguments(seed=1) == TrainingArguments(seed=1) != TrainingArguments(seed=2)


def test_the_wire_brings_everything_back() -> None:
    params = HuggingFaceTrainParams(
        training_parameters=TrainingArguments(lr_scheduler_kwargs={"min_lr": 1e-6}, report_to=["none"]),
        lora_config={"r": 16, "target_modules": ("q_proj", "v_proj")},
        data=DataParams(format="chat", max_length=64),
        transformer_class="Seq2SeqTrainer",
        trust_remote_code=True,
        sample_prompts=["Hello?"],
        merge=True,
    )
    back = there_and_back(params)
    assert back == params
    assert hash(back) == hash(params)
    assert back.lora_config == LoraConfig(r=16, target_modules=["q_proj", "v_proj"])
    assert back.sample_prompts == ("Hello?",)


def test_lora_with_defaults_is_not_full_fine_tuning_on_the_wire() -> None:
    params = HuggingFaceTrainParams(lora_config={})
    assert there_and_back(params).lora_config == LoraConfig()


@given(
    rate=st.floats(0, 1),
    steps=st.integers(1, 10**6),
    column=st.text(min_size=1, max_size=8),
    prompts=st.lists(st.text(min_size=1)),
)
def test_the_wire_is_the_identity(rate: float, steps: int, column: str, prompts: list[str]) -> None:
    params = HuggingFaceTrainParams(
        learning_rate=rate, max_steps=steps, data={"text_column": column}, sample_prompts=prompts
    )
    assert there_and_back(params) == params


def test_the_keps_flat_spelling() -> None:
    kep = HuggingFaceTrainParams(learning_rate=0.1, transformerClass="Trainer", peft_config={})
    plain = HuggingFaceTrainParams(training_parameters=TrainingArguments(learning_rate=0.1), lora_config=LoraConfig())
    assert kep == plain
    assert HuggingFaceTrainParams(training_parameters={"seed": 1}, learning_rate=0.1).training_parameters == (
        TrainingArguments(seed=1, learning_rate=0.1)
    )


def test_the_callers_dicts_are_never_changed() -> None:
    given_dicts = {
        "training_parameters": {"lr_scheduler_kwargs": {"a": 1}},
        "lora_config": {"r": 4},
        "data": {"format": "text"},
    }
    before = copy.deepcopy(given_dicts)
    params = HuggingFaceTrainParams(**given_dicts, learning_rate=0.1)
    wire.unstructure(params, "trainer")
    assert given_dicts == before
    given_dicts["training_parameters"]["lr_scheduler_kwargs"]["a"] = 2
    assert params.training_parameters["lr_scheduler_kwargs"] == {"a": 1}


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"training_parameters": {"learning_rat": 1}}, ["TrainingArguments.learning_rat", "Did you mean 'learning_rate'?"]),
        ({"learning_rat": 1}, ["learning_rat", "Did you mean 'learning_rate'?"]),
        ({"lora_config": {"rank": 1}}, ["LoraConfig.rank", "Did you mean 'r'?"]),
        ({"lora_config": {"lora_alfa": 1}}, ["LoraConfig.lora_alfa", "Did you mean 'lora_alpha'?"]),
        ({"data": {"formt": "text"}}, ["DataParams.formt", "Did you mean 'format'?"]),
        ({"data": {"format": "chatt"}}, ["DataParams.format='chatt'", "Did you mean 'chat'?"]),
        ({"data": {"packing": 1}}, ["DataParams.packing=1", "must be bool"]),
        ({"data": {"max_length": 1}}, ["DataParams.max_length=1", "at least 2"]),
        ({"data": {"max_length": "512"}}, ["DataParams.max_length='512'", "int"]),
        ({"learning_rate": "0.01"}, ["learning_rate='0.01'", "must be float, not str", "without quotes"]),
        ({"learning_rate": "1e-4"}, ["learning_rate='1e-4'", "Write it without quotes"]),
        ({"learning_rate": float("nan")}, ["learning_rate=nan", "finite"]),
        ({"bf16": 3}, ["bf16=3", "must be bool, not int"]),
        ({"max_steps": 1.5}, ["max_steps=1.5", "must be int, not float"]),
        ({"max_steps": True}, ["max_steps=True", "must be int, not bool"]),
        ({"per_device_train_batch_size": 0}, ["per_device_train_batch_size=0", "more than 0", "leave it out"]),
        ({"learning_rate": -1}, ["learning_rate=-1", "0 or more"]),
        ({"data_seed": -1}, ["data_seed=-1", "0 or more"]),
        ({"max_steps": 0}, ["max_steps=0", "would train nothing"]),
        ({"accelerator_config": {"dispatch_batches": True}}, ["accelerator_config.dispatch_batches=True", "does not work"]),
        ({"accelerator_config": {"use_seedable_sampler": False}}, ["use_seedable_sampler=False", "the same bits"]),
        ({"dataloader_persistent_workers": True}, ["dataloader_persistent_workers=True", "the same bits"]),
        ({"transformer_class_arguments": {"predict_with_generate": True}}, ["predict_with_generate=True", "Leave it out"]),
        ({"seed": None}, ["seed=None", "must be int, not NoneType"]),
        ({"lr_scheduler_type": "cosin"}, ["lr_scheduler_type='cosin'", "Did you mean 'cosine'?"]),
        ({"output_dir": "/tmp"}, ["output_dir='/tmp'", "the job's output folder"]),
        ({"resume_from_checkpoint": "x"}, ["resume_from_checkpoint='x'", "newest complete checkpoint"]),
        ({"train_sampling_strategy": "group_by_length"}, ["train_sampling_strategy='group_by_length'", "packing=True"]),
        ({"lora_config": {"task_type": "SEQ_CLS"}}, ["LoraConfig.task_type='SEQ_CLS'", "causal language models"]),
        ({"lora_config": {"inference_mode": True}}, ["LoraConfig.inference_mode=True"]),
        ({"lora_config": True}, ["LoraConfig", "not bool"]),
        ({"training_parameters": [1]}, ["TrainingArguments", "not list"]),
        ({"training_parameters": {"lr_scheduler_kwargs": {"a": object()}}}, ["lr_scheduler_kwargs", "object"]),
        ({"peft_config": {}, "lora_config": {}}, ["lora_config", "both are given"]),
        ({"training_parameters": {"seed": 1}, "seed": 2}, ["seed=2", "given twice"]),
        ({"sample_prompts": "Hello"}, ["sample_prompts='Hello'", "list of strings"]),
        ({"sample_prompts": ["Hello", ""]}, ["sample_prompts=['Hello', '']", "empty prompt"]),
        ({"merge": True}, ["merge=True", "no adapter"]),
        ({"trust_remote_code": "yes"}, ["trust_remote_code='yes'", "bool"]),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_field_value_and_remedy(keywords: dict[str, object], expected: list[str]) -> None:
    with pytest.raises(RequestError) as error:
        HuggingFaceTrainParams(**keywords)
    for part in expected:
        assert part in str(error.value)


def test_what_fits_is_taken() -> None:
    arguments = TrainingArguments(
        learning_rate=1, num_train_epochs=3, report_to="none", debug=["underflow_overflow"], fsdp=True
    )
    assert arguments["learning_rate"] == 1
    assert LoraConfig(bias="all", init_lora_weights="pissa_niter_4", target_modules={"b", "a"})["target_modules"] == [
        "a",
        "b",
    ]


def test_a_token_is_refused_among_the_arguments_and_never_shown() -> None:
    for keywords in (
        {"training_parameters": {"hub_token": "hf_" + "x" * 30}},
        {"training_parameters": {"hub_token": None}},
    ):
        with pytest.raises(RequestError, match=r"TrainingArguments\.hub_token: is a secret") as error:
            HuggingFaceTrainParams(**keywords)
        assert "xxx" not in str(error.value)


def test_a_hub_token_is_a_secret_of_its_own() -> None:
    params = HuggingFaceTrainParams(hub_token="hf_literal", push_to_hub=True)
    assert "hf_literal" not in repr(params)
    assert wire.unstructure(params, "trainer") == {"training_parameters": {"push_to_hub": True}}
    assert secret_env(params)["HF_TOKEN"].reveal() == "hf_literal"
    assert HuggingFaceTrainParams(hub_token=SecretRef(name="s", key="k")).hub_token == SecretRef(name="s", key="k")


def test_fields_json_is_what_the_installed_libraries_have() -> None:
    assert library_fields._document() == library_fields.read_installed(), (
        "run: python -m tunewright_hf.config.library_fields"
    )


def test_real_objects_are_taken_and_reduced_to_what_differs() -> None:
    import peft
    import transformers

    real = transformers.TrainingArguments(
        output_dir="x", learning_rate=1e-3, lr_scheduler_type="cosine", save_total_limit=1, use_cpu=True, bf16=True
    )
    lora = peft.LoraConfig(r=16, target_modules=["v_proj", "q_proj"], task_type="CAUSAL_LM", use_dora=True)
    params = HuggingFaceTrainParams(training_parameters=real, lora_config=lora)
    recorded = dict(params.training_parameters)
    recorded.pop("dataloader_pin_memory")  # the real class switches it off with use_cpu
    assert recorded == {
        "learning_rate": 1e-3, "lr_scheduler_type": "cosine", "save_total_limit": 1, "use_cpu": True, "bf16": True
    }  # fmt: skip
    assert params.lora_config == LoraConfig(
        r=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", use_dora=True
    )
    assert there_and_back(params) == params


def test_real_defaults_leave_nothing_but_the_machine() -> None:
    import peft
    import transformers

    recorded = dict(TrainingArguments.of(transformers.TrainingArguments(output_dir="x", use_cpu=True)))
    assert recorded == {"use_cpu": True, "dataloader_pin_memory": False}
    assert dict(LoraConfig.of(peft.LoraConfig())) == {}


def test_a_real_object_with_nested_and_renamed_fields() -> None:
    import peft
    import transformers

    real = transformers.TrainingArguments(
        output_dir="x", activation_checkpointing=True, accelerator_config={"dispatch_batches": True}, tf32=False
    )
    recorded = TrainingArguments.of(real)
    assert recorded["accelerator_config"] == {"dispatch_batches": True}
    assert recorded["activation_checkpointing"] is True
    assert recorded["tf32"] is False
    assert "gradient_checkpointing" not in recorded
    eva = LoraConfig.of(peft.LoraConfig(init_lora_weights="eva", eva_config=peft.EvaConfig(rho=1.5)))
    assert eva["eva_config"] == {"rho": 1.5}


def test_a_real_objects_token_is_refused_and_not_shown() -> None:
    import transformers

    real = transformers.TrainingArguments(output_dir="x", hub_token="hf_literal", use_cpu=True)
    with pytest.raises(RequestError, match="hub_token") as error:
        HuggingFaceTrainParams(training_parameters=real)
    assert "hf_literal" not in str(error.value)


def test_another_object_of_that_name_is_refused() -> None:
    @attrs.frozen
    class LoraConfig:
        r: int = 4

    with pytest.raises(RequestError, match="not LoraConfig"):
        HuggingFaceTrainParams(lora_config=LoraConfig())


def test_a_field_of_a_newer_library_is_let_through_and_a_typo_is_not(caplog: pytest.LogCaptureFixture) -> None:
    given = TrainingArguments(zyx_qqq=3)
    assert given["zyx_qqq"] == 3
    assert "TrainingArguments.zyx_qqq is not a field in transformers " in caplog.text
    with pytest.raises(RequestError, match="Did you mean 'learning_rate'"):
        TrainingArguments(learning_rat=1e-4)
    with pytest.raises(RequestError, match="is not a field"):
        BitsAndBytesConfig(zyx_qqq=3)  # the real class would ignore it
