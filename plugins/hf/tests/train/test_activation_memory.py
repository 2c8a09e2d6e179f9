"""Activation checkpointing that follows from the memory: the decision, what it is made of, and the training that comes of it."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
datasets = pytest.importorskip("datasets")

from tunewright_hf.data.samples.packing import SEGMENTS  # noqa: E402
from tunewright_hf.train import activation_memory  # noqa: E402 - it needs torch

GIB = 1 << 30
LLAMA_8B_LORA = {"fixed": 17 * GIB, "per_token": 4 << 20}  # bf16; in 32 layers, measured without fused layers


@pytest.mark.parametrize(
    ("need", "available", "expected"),
    [
        ({**LLAMA_8B_LORA, "tokens": 4096}, 79 * GIB, False),
        ({**LLAMA_8B_LORA, "tokens": 4 * 4096}, 79 * GIB, True),
        ({**LLAMA_8B_LORA, "tokens": 4 * 4096}, 139 * GIB, False),
        ({**LLAMA_8B_LORA, "tokens": 1024}, 23 * GIB, True),
        ({"fixed": 85, "per_token": 0, "tokens": 9}, 100, False),
        ({"fixed": 85, "per_token": 1, "tokens": 1}, 100, True),
    ],
)
def test_it_is_switched_on_where_a_step_has_no_room(need: dict[str, int], available: int, expected: bool) -> None:
    assert activation_memory.needs_checkpointing(activation_memory.Need(**need), available) is expected


@pytest.mark.parametrize(
    ("size", "padding_free", "tokens"), [(2, True, 16), (2, False, 18), (9, True, 22), (9, False, 36)]
)
def test_the_largest_batch_is_of_the_longest_samples(size: int, padding_free: bool, tokens: int) -> None:
    data = datasets.Dataset.from_dict({"length": [1, 9, 5, 7]})
    assert activation_memory.largest_batch(data, size, padding_free=padding_free) == tokens


@pytest.mark.parametrize(("text", "limit"), [("1048576\n", 1 << 20), ("max\n", 1 << 62), (None, 1 << 62)])
def test_a_containers_limit_is_read(text: str | None, limit: int, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "memory.max").write_text(text)
    assert activation_memory._cgroup_limit(tmp_path) == limit


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [{"lora_config": {"r": 4, "lora_dropout": 0.2}}, pytest.param({"data": {"packing": True}}, marks=pytest.mark.slow)],
)
def test_a_training_is_the_same_with_and_without(
    given: dict[str, object], train: Callable, qa: Path, tmp_path: Path, monkeypatch, caplog
) -> None:
    pace = {"max_steps": 3, "logging_steps": 1, "save_strategy": "no", "eval_strategy": "no", **given}
    losses = {}
    for state, available in {"off": 1 << 40, "on": 1 << 20}.items():
        caplog.clear()
        monkeypatch.setattr(activation_memory, "memory_of", lambda _, found=available: found)
        with caplog.at_level(logging.INFO, "tunewright_hf.train.activation_memory"):
            losses[state] = train(tmp_path / state, qa, **pace).losses
        assert [r.getMessage().split(";")[0] for r in caplog.records] == [f"activation_checkpointing: {state}"]
    asked = train(tmp_path / "asked", qa, **pace, activation_checkpointing=False).losses
    assert losses["on"] == losses["off"] == asked, "to the bit, dropout included"


def test_a_smoothed_loss_is_planned_with_the_logits_that_it_needs(train, qa: Path, tmp_path: Path, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(
        activation_memory, "decide", lambda trainer, _: seen.append(activation_memory.logits_bytes(trainer))
    )
    for smoothing in (0.0, 0.1):
        train(tmp_path / str(smoothing), qa, max_steps=1, save_strategy="no", label_smoothing_factor=smoothing)
    assert seen[0] == 0 < seen[1]


def test_what_is_kept_of_a_token_is_what_torch_keeps(train, qa: Path, tmp_path: Path, monkeypatch) -> None:
    seen = []

    def look(trainer, given) -> None:
        batch = trainer.data_collator([{"input_ids": [5] * 64, "labels": [5] * 64}])
        whole = activation_memory.saved_bytes(trainer, batch)
        trainer.model.gradient_checkpointing_enable()
        less = activation_memory.saved_bytes(trainer, batch)
        trainer.model.gradient_checkpointing_disable()
        double = trainer.data_collator([{"input_ids": [5] * 64, "labels": [5] * 64}] * 2)
        seen.append((whole, less, activation_memory.saved_bytes(trainer, double)))

    monkeypatch.setattr(activation_memory, "decide", look)
    train(tmp_path / "out", qa, max_steps=1, save_strategy="no", eval_strategy="no", lora_config={"r": 4})
    ((whole, less, double),) = seen
    layers, hidden, inner, fp32 = 2, 64, 128, 4
    least = 64 * layers * fp32 * (4 * hidden + 3 * inner)  # q, k, v and the output; gate, up and their product
    assert least < whole < 3 * least
    assert less < whole / 2
    assert double == pytest.approx(2 * whole, rel=0.1)


@pytest.mark.parametrize(
    ("rows", "size"),
    [
        ([[2], [9], [5]], 9),
        ([[3, 8], [11, 1]], 11),
        ([[4], [activation_memory._MEASURED_TOKENS + 1]], activation_memory._MEASURED_TOKENS),
    ],
    ids=["samples", "packed", "long"],
)
def test_what_is_kept_of_a_token_is_measured_with_a_sample_as_long_as_the_longest(
    rows: list[list[int]], size: int
) -> None:
    columns = {name: [list(range(sum(row))) for row in rows] for name in ("input_ids", "labels")}
    columns |= {"length": [sum(row) for row in rows]} | ({SEGMENTS: rows} if len(rows[0]) > 1 else {})
    found = activation_memory._measured(datasets.Dataset.from_dict(columns))
    assert len(found["input_ids"]) == len(found["labels"]) == found["length"] == size
    assert found.get(SEGMENTS, [size]) == [size]
    assert max(found["input_ids"]) < sum(rows[0]), "of the first row, again and again"


@pytest.mark.slow
@pytest.mark.parametrize("given", [{}, {"fused_layers": False}, {"per_device_eval_batch_size": 8}], ids=str)
def test_an_evaluation_that_has_no_room_is_of_fewer_samples_with_the_same_loss(
    given: dict[str, object], train: Callable, qa: Path, tmp_path: Path, monkeypatch, caplog
) -> None:
    pace = {"max_steps": 2, "logging_steps": 1, "save_strategy": "no", "eval_strategy": "steps", "eval_steps": 2}
    pace |= {"activation_checkpointing": False, "lora_config": {"r": 4}, **given}
    usual = train(tmp_path / "usual", qa, **pace)
    monkeypatch.setattr(activation_memory, "memory_of", lambda _: 1)
    with caplog.at_level(logging.WARNING, "tunewright_hf.train.activation_memory"):
        small = train(tmp_path / "small", qa, **pace)
    assert [e["eval_loss"] for e in small.of("eval")] == pytest.approx(
        [e["eval_loss"] for e in usual.of("eval")], abs=1e-6
    )
    expected = "1 would fit" if "per_device_eval_batch_size" in given else "evaluating 1 samples at once"
    assert [expected in message for message in caplog.messages] == [True]


@pytest.mark.slow
def test_an_evaluation_with_the_fused_loss_has_no_logits(
    train: Callable, qa: Path, tmp_path: Path, monkeypatch
) -> None:
    from tunewright_hf.train import objective

    def whole(*_: object) -> None:
        raise AssertionError("these are logits")

    monkeypatch.setattr(objective, "each_answer_loss", whole)
    pace = {"max_steps": 2, "save_strategy": "no", "eval_strategy": "steps", "eval_steps": 2}
    assert train(tmp_path / "fused", qa, **pace).of("eval")
    with pytest.raises(AssertionError, match="these are logits"):
        train(tmp_path / "plain", qa, **pace, fused_layers=False)
