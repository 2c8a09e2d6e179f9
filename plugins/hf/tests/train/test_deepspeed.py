"""DeepSpeed through TrainingArguments: the same training as without, killed and resumed in between; on CPUs, or on GPUs."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from tunewright import RequestError, TrainRun
from tunewright_hf import HuggingFaceTrainParams

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
safetensors = pytest.importorskip("safetensors.torch")

from tunewright_hf.train import deepspeed  # noqa: E402 - it needs transformers

HAS_DEEPSPEED = importlib.util.find_spec("deepspeed") is not None
needs_deepspeed = pytest.mark.skipif(not HAS_DEEPSPEED, reason="deepspeed is not installed")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

# In fp32, on GPUs too. The norm of gradients is above the limit, so that both must clip alike.
PACE = {"num_train_epochs": 2, "logging_steps": 1, "max_grad_norm": 0.3, "gradient_accumulation_steps": 2}
PACE |= {"bf16": False}
LORA = {**PACE, "lora_config": {"r": 4}, "learning_rate": 1e-2}
FULL = {**PACE, "learning_rate": 1e-3}
MOST = 1e-4 if torch.cuda.is_available() else 1e-5  # what rounding makes of losses and weights


def config(stage: int) -> dict[str, object]:
    return {"zero_optimization": {"stage": stage}}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were."""
    monkeypatch.setattr(deepspeed.importlib.util, "find_spec", lambda name: name)


def needs_ranks(ranks: int) -> None:
    if 0 < torch.cuda.device_count() < ranks:
        pytest.skip(f"needs as many GPUs as ranks, {ranks}, or none")


@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_deepspeed
@pytest.mark.parametrize(
    ("stage", "ranks", "method"),
    [(1, 2, FULL), (2, 1, LORA), (2, 2, LORA), (3, 1, FULL), (3, 2, LORA), (3, 2, FULL)],
    ids=["1-2-full", "2-1-lora", "2-2-lora", "3-1-full", "3-2-lora", "3-2-full"],
)
def test_it_trains_as_one_rank_does_without_and_goes_on_after_a_kill(
    stage: int, ranks: int, method: dict[str, object], job, train, qa: Path, model_folder: Path, tmp_path: Path
) -> None:
    needs_ranks(ranks)
    alone = train(tmp_path / "alone", qa, **method, per_device_train_batch_size=4, save_strategy="no")
    given = {**method, "per_device_train_batch_size": 4 // ranks, "save_steps": 6, "deepspeed": config(stage)}
    sharded = job("sharded", ranks, **given, callbacks=["killed:Killed"])
    events = sharded.finish_after_a_kill()
    assert [e["resumed_from"] for e in events if e["event"] == "start"] == [None, 6]
    steps, expected = ({e["step"]: e for e in es if e["event"] == "step"} for es in (events, alone.events))
    for name in ("loss", "grad_norm"):
        found = {step: e[name] for step, e in steps.items()}
        assert found == pytest.approx({step: e[name] for step, e in expected.items()}, abs=MOST)
    evaluations = {e["step"]: e["eval_loss"] for e in events if e["event"] == "eval"}
    assert evaluations == pytest.approx({e["step"]: e["eval_loss"] for e in alone.of("eval")}, abs=MOST)
    (file,) = alone.result.glob("*model.safetensors")
    weights = safetensors.load_file(file)
    assert sharded.weights.keys() == weights.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(sharded.weights[name], weight, rtol=0, atol=10 * MOST)
    assert_loads(sharded.workspace / "output" / "model", model_folder)


def assert_loads(result: Path, base: Path):
    """By plain transformers and peft; returns the model."""
    load = transformers.AutoModelForCausalLM.from_pretrained
    model = (
        peft.PeftModel.from_pretrained(load(base), result)
        if (result / "adapter_config.json").exists()
        else load(result)
    )
    assert all(w.numel() for w in model.parameters())
    return model


@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_deepspeed
def test_packed_samples_answers_and_the_best_checkpoint(job, train, qa: Path, tmp_path: Path) -> None:
    data = {"packing": True, "max_length": 50}
    given = {**LORA, "data": data, "load_best_model_at_end": True, "sample_prompts": ["What is 1?"]}
    alone = train(tmp_path / "alone", qa, **given, per_device_train_batch_size=4)
    sharded = job("sharded", 1, **given, per_device_train_batch_size=4, deepspeed=config(2))
    events = sharded.finish()
    losses = {e["step"]: e["loss"] for e in events if e["event"] == "step"}
    assert losses == pytest.approx(alone.losses, abs=MOST)
    assert [e["text"] for e in events if e["event"] == "sample"] == [e["text"] for e in alone.of("sample")]
    assert all(e["total_tokens_per_second"] > 0 for e in events if e["event"] == "step")


@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_deepspeed
@needs_gpu
@pytest.mark.parametrize("stage", [2, 3])
def test_bf16_on_a_gpu(stage: int, job, qa: Path, model_folder: Path, independent_eval_loss) -> None:
    given = {**LORA, "bf16": True, "per_device_train_batch_size": 4, "deepspeed": config(stage)}
    sharded = job("sharded", 1, **given)
    events = sharded.finish()
    losses = [e["loss"] for e in events if e["event"] == "step"]
    assert losses[-1] < losses[0] - 0.3
    result = sharded.workspace / "output" / "model"
    evaluation = [e["eval_loss"] for e in events if e["event"] == "eval"][-1]
    assert independent_eval_loss(assert_loads(result, model_folder), result, qa) == pytest.approx(evaluation, abs=0.05)


def test_what_is_left_open_is_what_the_arguments_say(installed: None, tmp_path: Path) -> None:
    given = {"zero_optimization": {"stage": 3}, "gradient_clipping": 0.5}
    found = deepspeed.configuration({"deepspeed": given})
    assert found["gradient_clipping"] == 0.5
    assert found["gradient_accumulation_steps"] == found["train_micro_batch_size_per_gpu"] == "auto"
    assert found["zero_optimization"] == {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}
    assert given == {"zero_optimization": {"stage": 3}, "gradient_clipping": 0.5}, "the user's own stays"
    (tmp_path / "zero.json").write_text(json.dumps(given))
    assert deepspeed.configuration({"deepspeed": str(tmp_path / "zero.json")}) == found


UNSAVED = {"zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": False}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"deepspeed": config(2), "save_only_model": True}, "save_only_model=True: does not work with DeepSpeed"),
        ({"deepspeed": config(4)}, r"deepspeed\.zero_optimization.* Give \{\"stage\": 2\}"),
        ({"deepspeed": UNSAVED}, "the result would have no weights"),
        ({"deepspeed": "missing.json"}, "deepspeed='missing.json': cannot be read: .*No such file"),
    ],
    ids=["save_only_model", "stage", "gather", "file"],
)
def test_what_could_not_be_resumed_or_saved_is_refused(
    installed: None, given: dict[str, object], expected: str
) -> None:
    with pytest.raises(RequestError, match=expected):
        deepspeed.configuration(given)


@pytest.mark.parametrize(
    ("path", "before", "expected"),
    [
        ("", None, r"is not installed.*or give fsdp=True"),
        (None, 4, r"checkpoint-6 with 2 processes, as 4 processes wrote it"),
    ],
    ids=["compiler", "processes"],
)
def test_what_deepspeed_would_fail_at_later_is_refused_at_the_start(
    path: str | None, before: int | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = transformers.TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    args.deepspeed = config(2)
    checkpoint = tmp_path / "checkpoint-6"
    checkpoint.mkdir()
    (checkpoint / "record.json").write_text(json.dumps({"processes": before or 2}))
    tools = {} if path == "" else {"c++": "c++", "ninja": "ninja"}
    monkeypatch.setattr(shutil, "which", tools.get)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(RequestError, match=expected):
        deepspeed.check_start(args, 2, checkpoint)


@pytest.mark.skipif(HAS_DEEPSPEED, reason="deepspeed is installed")
def test_without_deepspeed_the_check_refuses_it(model_folder: Path, qa: Path, tmp_path: Path) -> None:
    run = TrainRun(model=model_folder, dataset=qa, output=tmp_path, emit=lambda _: None)
    with pytest.raises(RequestError, match=r"deepspeed: is not installed where.*trainer image.*fsdp=True"):
        HuggingFaceTrainParams(deepspeed=config(2)).check(run)


@needs_deepspeed
def test_the_check_builds_it_without_other_ranks(model_folder: Path, qa: Path, tmp_path: Path) -> None:
    run = TrainRun(model=model_folder, dataset=qa, output=tmp_path, emit=lambda _: None)
    HuggingFaceTrainParams(deepspeed=config(3)).check(run)
