"""Going on from an adapter: the same bits as in one go, a new adapter on merged weights, and what does not fit is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
safetensors = pytest.importorskip("safetensors.torch")

from tunewright import TrainRun  # noqa: E402
from tunewright.errors import RequestError  # noqa: E402
from tunewright.providers import MARKER  # noqa: E402
from tunewright.providers.builtin.file import FileModel  # noqa: E402
from tunewright_hf import HuggingFaceTrainParams  # noqa: E402

# Nothing but the weights passes from one epoch to the next: no momentum, no schedule, no order of its own.
PLAIN = {
    "optim": "sgd",
    "learning_rate": 0.5,
    "lr_scheduler_type": "constant",
    "train_sampling_strategy": "sequential",
    "eval_strategy": "no",
    "save_strategy": "no",
}


@pytest.fixture(scope="module")
def first(train, qa: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter after one epoch."""
    folder = tmp_path_factory.mktemp("first")
    return train(folder / "out", qa, **PLAIN, num_train_epochs=1, lora_config={"r": 4, "lora_alpha": 16}).result


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.load_file(folder / "adapter_model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def check(model: Path, adapter: Path, dataset: Path, tmp_path: Path, **given: object) -> None:
    run = TrainRun(model=model, adapter=adapter, dataset=dataset, output=tmp_path / "out", emit=lambda event: None)
    HuggingFaceTrainParams(**{**PLAIN, **given}).check(run)


@pytest.mark.slow
def test_two_epochs_are_one_and_another_continued_twice(train, first: Path, qa: Path, tmp_path: Path) -> None:
    both = train(tmp_path / "both", qa, **PLAIN, num_train_epochs=2, lora_config={"r": 4, "lora_alpha": 16})
    second = train(tmp_path / "second", qa, **PLAIN, num_train_epochs=1, adapter=first)
    assert not same(weights(first), weights(second.result)), "something was learnt"
    assert same(weights(both.result), weights(second.result))
    assert peft.PeftConfig.from_pretrained(second.result) == peft.PeftConfig.from_pretrained(both.result)
    assert f"- Continued from: `{first}`" in (second.result / "README.md").read_text("utf-8")

    merged = train(tmp_path / "m", qa, **PLAIN, num_train_epochs=1, adapter=second.result, lora_config={}, merge=True)
    three = train(
        tmp_path / "three", qa, **PLAIN, num_train_epochs=3, lora_config={"r": 4, "lora_alpha": 16}, merge=True
    )
    assert same(*(safetensors.load_file(t.result / "model.safetensors") for t in (merged, three)))
    assert not (merged.result / "adapter_config.json").exists()


@pytest.mark.slow
def test_a_continued_training_resumes_to_the_same_bits(train, first: Path, qa: Path, tmp_path: Path) -> None:
    given = {"num_train_epochs": 1, "save_steps": 2, "learning_rate": 1e-2, "eval_strategy": "no", "adapter": first}
    whole = train(tmp_path / "whole", qa, **given)
    train(tmp_path / "cut", qa, **given, cut_at=("checkpoint", 4))
    resumed = train(tmp_path / "cut", qa, **given)
    assert min(resumed.losses) == 5
    assert same(weights(whole.result), weights(resumed.result))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_ranks_continue_an_adapter_as_one_does_and_resume_to_the_same_bits(
    job, train, first: Path, qa: Path, tmp_path: Path
) -> None:
    given = {"num_train_epochs": 2, "learning_rate": 1e-2, "eval_strategy": "no", "logging_steps": 1, "save_steps": 3}
    given |= {"activation_checkpointing": False, "adapter": first}
    alone = train(tmp_path / "alone", qa, **given, per_device_train_batch_size=8)
    whole = job("whole", 2, **given, per_device_train_batch_size=4)
    losses = {e["step"]: e["loss"] for e in whole.finish() if e["event"] == "step"}
    assert losses == pytest.approx(alone.losses, abs=1e-5)
    assert all(torch.allclose(whole.weights[name], w, atol=1e-4) for name, w in weights(alone.result).items())
    cut = job("cut", 2, **given, per_device_train_batch_size=4, callbacks=["killed:Killed"])
    events = cut.finish_after_a_kill()
    assert [e["resumed_from"] for e in events if e["event"] == "start"] == [None, 6]
    assert {e["step"]: e["loss"] for e in events if e["event"] == "step"} == losses
    assert same(cut.weights, whole.weights)
    config = peft.PeftConfig.from_pretrained(whole.workspace / "output" / "model")
    assert (config.r, config.lora_alpha) == (4, 16), "those of the adapter"


@pytest.mark.slow
@pytest.mark.parametrize("given", [{"lora_config": {"r": 2}, "merge": True}, {}], ids=["lora", "full"])
def test_an_adapter_is_merged_before_something_new_is_trained(
    given: dict[str, object], train, first: Path, qa: Path, model_folder: Path, tmp_path: Path
) -> None:
    frozen = {**PLAIN, "learning_rate": 0.0, "adapter_mode": "merge", "max_steps": 1}
    result = train(tmp_path / "out", qa, adapter=first, **frozen, **given).result
    base = transformers.AutoModelForCausalLM.from_pretrained(model_folder)
    expected = peft.PeftModel.from_pretrained(base, first).merge_and_unload().state_dict()
    found = transformers.AutoModelForCausalLM.from_pretrained(result).state_dict()
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)
    changed = train(tmp_path / "changed", qa, adapter=first, **{**frozen, "learning_rate": 0.5}, **given).result
    moved = transformers.AutoModelForCausalLM.from_pretrained(changed).state_dict()
    moving = [name for name in moved if not torch.equal(moved[name], expected[name])]
    assert ("model.embed_tokens.weight" in moving) == (not given), (
        "all weights are trained, or those of the new adapter"
    )
    assert moving
    assert f"- Merged before: `{first}`" in (changed / "README.md").read_text("utf-8")


@pytest.mark.slow
def test_the_check_takes_an_adapter_of_this_model(first: Path, qa: Path, model_folder: Path, tmp_path: Path) -> None:
    check(model_folder, first, qa, tmp_path)
    check(model_folder, first, qa, tmp_path, lora_config={"r": 4, "lora_dropout": 0.5, "target_modules": "all-linear"})


@pytest.fixture
def changed(first: Path, tmp_path: Path):
    """Copies the adapter, with other fields in its configuration."""

    def copy(**fields: object) -> Path:
        shutil.copytree(first, tmp_path / "changed")
        file = tmp_path / "changed" / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))
        return tmp_path / "changed"

    return copy


@pytest.mark.slow
def test_what_does_not_fit_is_refused_by_the_check(
    first: Path, changed, qa: Path, model_folder: Path, base_of, tmp_path: Path
) -> None:
    with pytest.raises(
        RequestError, match=r"lora_config.r=8: differs from the adapter's, which is 4.*adapter_mode='merge'"
    ):
        check(model_folder, first, qa, tmp_path, lora_config={"r": 8})
    with pytest.raises(RequestError, match=r"init_lora_weights='pissa': differs from the adapter's, which is True"):
        check(model_folder, first, qa, tmp_path, lora_config={"init_lora_weights": "pissa"})
    with pytest.raises(RequestError, match="would leave an adapter for merged weights"):
        check(model_folder, first, qa, tmp_path, lora_config={}, adapter_mode="merge")
    wide = transformers.AutoConfig.from_pretrained(model_folder)
    wide.hidden_size, wide.num_hidden_layers = 96, 3
    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    transformers.AutoModelForCausalLM.from_config(wide).save_pretrained(other)
    with pytest.raises(RequestError, match=r"adapter=.*does not fit the model: for .* it has .*, and the model needs"):
        check(other, first, qa, tmp_path)
    hub = tmp_path / "hub"
    shutil.copytree(model_folder, hub)
    (hub / MARKER).write_text(json.dumps({"uri": "hf://org/base", "revision": "a" * 40}))
    with pytest.raises(
        RequestError, match=r"belongs to the model org/other, not to org/base. Give model: hf://org/other"
    ):
        check(hub, changed(base_model_name_or_path="org/other"), qa, tmp_path)


@pytest.mark.slow
def test_all_layers_are_not_what_an_adapter_of_some_has(train, qa: Path, model_folder: Path, tmp_path: Path) -> None:
    some = train(tmp_path / "some", qa, max_steps=1, lora_config={"target_modules": ["q_proj", "v_proj"]}).result
    check(model_folder, some, qa, tmp_path)
    with pytest.raises(RequestError, match=r"target_modules='all-linear': is more than the adapter has, .* leaves out"):
        check(model_folder, some, qa, tmp_path, lora_config={"target_modules": "all-linear"})


@pytest.mark.slow
def test_damaged_weights_and_those_of_another_head_are_refused_by_the_check(
    first: Path, changed, qa: Path, model_folder: Path, tmp_path: Path
) -> None:
    adapter = changed()
    file = adapter / "adapter_model.safetensors"
    whole = file.read_bytes()
    for part in (whole[:-10], whole[:100], b"none"):
        file.write_bytes(part)
        with pytest.raises(RequestError, match=r"adapter=.*has a damaged file, adapter_model.safetensors: .*copy it"):
            check(model_folder, adapter, qa, tmp_path)
    head = {"base_model.model.lm_head.weight": torch.zeros(7, 64)}
    safetensors.save_file(weights(first) | head, file)
    with pytest.raises(RequestError, match=r"does not fit the model: for base_model.model.lm_head.weight it has \(7,"):
        check(model_folder, adapter, qa, tmp_path)


@pytest.mark.slow
def test_a_start_that_the_adapter_does_not_tell_is_refused(
    changed, qa: Path, model_folder: Path, tmp_path: Path
) -> None:
    given = {"lora_config": {"init_lora_weights": "pissa_niter_4"}}
    with pytest.raises(RequestError, match=r"init_lora_weights='pissa_niter_4': takes a random part.*Give pissa"):
        HuggingFaceTrainParams(**given)
    assert HuggingFaceTrainParams(**given, merge=True)
    with pytest.raises(RequestError, match=r"adapter=.*was begun with init_lora_weights=pissa_niter"):
        check(model_folder, changed(init_lora_weights="pissa_niter_4"), qa, tmp_path)


def test_what_is_no_adapter_is_refused_on_the_client(model_folder: Path, tmp_path: Path) -> None:
    params = HuggingFaceTrainParams()

    def offer(folder: Path) -> HuggingFaceTrainParams:
        return params.for_adapter(FileModel(uri=folder.as_uri()))

    with pytest.raises(RequestError, match=r"has no adapter_config.json.*A whole model is given as the model"):
        offer(model_folder)
    inner = tmp_path / "model"
    inner.mkdir()
    (inner / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    with pytest.raises(RequestError, match=f"Give {inner}"):
        offer(tmp_path)
    with pytest.raises(RequestError, match="is an adapter of the type IA3"):
        offer(inner)
    (inner / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(RequestError, match="lacks its weights"):
        offer(inner)
    (inner / "adapter_model.safetensors").touch()
    assert offer(inner).result_commands() == ("chat", "merge")
    with pytest.raises(RequestError, match="has no adapter to merge"):
        HuggingFaceTrainParams(adapter_mode="merge").check_adapter_mode(given=False)
