"""QLoRA: the user's words for it, and a training with bitsandbytes where that is installed."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tunewright import RequestError, TrainRun
from tunewright.providers import wire
from tunewright_hf import BitsAndBytesConfig, HuggingFaceTrainParams

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

HAS_BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None
needs_bitsandbytes = pytest.mark.skipif(not HAS_BITSANDBYTES, reason="bitsandbytes is not installed")
QLORA = {"quantization_config": {}, "lora_config": {"r": 4}, "num_train_epochs": 2, "learning_rate": 1e-2}


def test_a_real_object_means_what_it_says() -> None:
    real = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16, bnb_4bit_use_double_quant=True
    )
    ours = {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_use_double_quant": True}
    assert BitsAndBytesConfig.of(real) == BitsAndBytesConfig(**ours)
    params = HuggingFaceTrainParams(lora_config={}, quantization_config=real)
    assert wire.unstructure(params, "trainer")["quantization_config"] == ours
    assert dict(BitsAndBytesConfig(bnb_4bit_compute_dtype=torch.float16)) == {"bnb_4bit_compute_dtype": "float16"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"quantization_config": {}}, "quantization_config: has no adapter to train. Give lora_config"),
        ({"quantization_config": {}, "lora_config": {}, "merge": True}, "merge=True: does not work with quantised"),
        ({"quantization_config": {"load_in_4bits": True}, "lora_config": {}}, "Did you mean 'load_in_4bit'?"),
        ({"quantization_config": {"bnb_4bit_quant_type": "nf5"}, "lora_config": {}}, "is not one of its values"),
    ],
    ids=["full", "merge", "name", "value"],
)
def test_what_cannot_work_is_refused_by_the_client(given: dict[str, object], expected: str) -> None:
    with pytest.raises(RequestError) as error:
        HuggingFaceTrainParams(**given)
    assert expected in str(error.value)


def test_the_client_half_needs_no_torch() -> None:
    code = "import sys; from tunewright_hf import BitsAndBytesConfig as B; B(load_in_4bit=True); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.skipif(HAS_BITSANDBYTES, reason="bitsandbytes is installed")
def test_without_bitsandbytes_the_check_refuses_it(model_folder: Path, qa: Path, tmp_path: Path) -> None:
    run = TrainRun(model=model_folder, dataset=qa, output=tmp_path, emit=lambda _: None)
    with pytest.raises(RequestError, match=r"bitsandbytes is not installed where the training runs.*trainer image"):
        HuggingFaceTrainParams(**QLORA).check(run)


@needs_bitsandbytes
def test_it_learns_resumes_to_the_same_bits_and_plain_peft_loads_it(
    train, qa: Path, tmp_path: Path, model_folder: Path, independent_eval_loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where a processor has AVX512-BF16, bitsandbytes evaluates in bf16, whatever the dtype that it is to compute in.
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    given = {**QLORA, "save_steps": 5, "logging_steps": 1, "per_device_train_batch_size": 8}
    whole = train(tmp_path / "whole", qa, **given)
    train(tmp_path / "cut", qa, **given, cut_at=("step", 7))
    resumed = train(tmp_path / "cut", qa, **given)
    assert list(whole.losses.values())[-1] < whole.losses[1] - 0.3
    assert resumed.of("start")[0]["resumed_from"] == 5
    assert resumed.losses.items() <= whole.losses.items()
    config = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    base = transformers.AutoModelForCausalLM.from_pretrained(
        model_folder, quantization_config=config, device_map={"": "cpu"}, dtype=torch.float32
    )
    model = peft.PeftModel.from_pretrained(base, whole.result)
    assert type(base.model.layers[0].mlp.up_proj.base_layer).__name__ == "Linear4bit"
    assert whole.of("eval")[-1]["eval_loss"] == pytest.approx(independent_eval_loss(model, whole.result, qa), abs=1e-5)


@needs_bitsandbytes
def test_activation_checkpointing_and_double_quantisation_learn_too(train, qa: Path, tmp_path: Path) -> None:
    double = {"bnb_4bit_use_double_quant": True}
    given = {**QLORA, "quantization_config": double, "activation_checkpointing": True, "logging_steps": 1}
    training = train(tmp_path / "out", qa, **given, max_steps=4, save_strategy="no", eval_strategy="no")
    assert training.losses[4] < training.losses[1]
