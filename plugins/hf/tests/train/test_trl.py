"""The Trainer classes of TRL for preferences: trained with LoRA, killed, and resumed to the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.slow

PAIRS = [
    {"prompt": f"What is {n} and {n}?", "chosen": f" The sum is {n + n}.", "rejected": f" What is {n}?"}
    for n in range(12)
]
ANSWERS = [
    {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
    for row in PAIRS
    for name in ("chosen", "rejected")
]
TALKS = [
    {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "chosen": [{"role": "assistant", "content": row["chosen"].strip()}],
        "rejected": [{"role": "assistant", "content": row["rejected"].strip()}],
    }
    for row in PAIRS
]
CASES = {"dpo": ("DPO", PAIRS), "dpo-talks": ("DPO", TALKS), "kto": ("KTO", ANSWERS), "kto-pairs": ("KTO", PAIRS)}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.load_file(folder / "adapter_model.safetensors")


def options(method: str) -> dict[str, object]:
    return {
        "transformer_class": f"trl:{method}Trainer",
        "transformer_class_arguments": {"beta": 0.5},
        "data": {"format": "preference", "max_length": 64},
        "learning_rate": 1e-2,
        "save_steps": 2,
        "logging_steps": 1,
        "per_device_train_batch_size": 4,
        "eval_strategy": "no",
    }


@pytest.mark.parametrize("case", CASES)
def test_preferences_are_learnt_and_resumed_to_the_same_bits(
    case: str, train, dataset_of: Callable[..., Path], tmp_path: Path
) -> None:
    method, rows = CASES[case]
    given = {**options(method), "num_train_epochs": 3, "lora_config": {"r": 4}}
    dataset = dataset_of(rows)
    whole = train(tmp_path / "whole", dataset, **given)
    train(tmp_path / "cut", dataset, **given, cut_at=("step", 3))
    resumed = train(tmp_path / "cut", dataset, **given)
    assert min(resumed.losses) == 3
    assert resumed.losses.items() <= whole.losses.items()
    one, other = weights(whole.result), weights(resumed.result)
    assert all(torch.equal(one[name], other[name]) for name in one)
    losses = list(whole.losses.values())
    assert losses[-1] < losses[0]
    assert f"with `trl:{method}Trainer`" in (whole.result / "README.md").read_text("utf-8")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", ["dpo", "kto"])
def test_a_process_that_is_killed_goes_on_to_the_same_bits(case: str, job, dataset_of: Callable[..., Path]) -> None:
    method, rows = CASES[case]
    given = {**options(method), "max_steps": 10, "save_steps": 3, "lora_config": {"r": 4}}
    whole = job("whole", 1, dataset=dataset_of(rows), **given)
    expected = {e["step"]: e["loss"] for e in whole.finish() if e["event"] == "step"}
    cut = job("cut", 1, dataset=dataset_of(rows), **given, callbacks=["killed:Killed"])
    events = cut.finish_after_a_kill()
    assert [e["resumed_from"] for e in events if e["event"] == "start"] == [None, 6]
    assert {e["step"]: e["loss"] for e in events if e["event"] == "step"} == expected
    assert all(torch.equal(cut.weights[name], weight) for name, weight in whole.weights.items())


def test_an_adapter_that_was_trained_before_is_the_reference(
    train, dataset_of: Callable[..., Path], qa: Path, tmp_path: Path
) -> None:
    first = train(tmp_path / "first", qa, max_steps=4, learning_rate=1e-2, eval_strategy="no", lora_config={"r": 4})
    given = {**options("DPO"), "max_steps": 4, "adapter": first.result}
    whole = train(tmp_path / "whole", dataset_of(PAIRS), **given)
    assert whole.losses[1] == pytest.approx(0.6931, abs=1e-3), "the policy is the reference at first"
    assert whole.losses[4] < whole.losses[1]
    assert not [path for path in whole.result.iterdir() if path.is_dir()], "the reference is not part of the result"
    train(tmp_path / "cut", dataset_of(PAIRS), **given, cut_at=("step", 3))
    resumed = train(tmp_path / "cut", dataset_of(PAIRS), **given)
    one, other = weights(whole.result), weights(resumed.result)
    assert all(torch.equal(one[name], other[name]) for name in one)
