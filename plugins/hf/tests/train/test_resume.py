"""A training that was cut off goes on as if nothing had happened: the same losses and weights, bit for bit."""

import json
from pathlib import Path

import pytest

from tunewright.runner.checkpoints import newest_checkpoint

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

# 41 samples in batches of 4, two of them for a step: 6 steps an epoch. Dropout and noise draw random numbers.
LORA = {"lora_config": {"r": 2, "lora_dropout": 0.3}}
FULL = {"neftune_noise_alpha": 5.0}
# 26 packed rows in batches of 2, two of them for a step: 7 steps an epoch.
PACKED = {"data": {"packing": True, "max_length": 50}, "per_device_train_batch_size": 2}
PACE = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-2,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 3,
    "num_train_epochs": 2,
}


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, train, qa: Path):
    """Trains without checkpoints, for those change nothing; once for all tests that give the same."""
    known: dict[str, object] = {}

    def call(given: dict[str, object]):
        other = {k: v for k, v in given.items() if not k.startswith("save_")}
        key = json.dumps(other, sort_keys=True)
        if key not in known:
            known[key] = train(tmp_path_factory.mktemp("whole"), qa, **other, save_strategy="no")
        return known[key]

    return call


def weights(training) -> dict[str, object]:
    (file,) = training.result.glob("*model.safetensors")
    return safetensors.load_file(file)


def assert_same(resumed, whole) -> None:
    assert resumed.losses
    assert resumed.losses.items() <= whole.losses.items()
    assert all(torch.equal(weights(resumed)[name], w) for name, w in weights(whole).items())


CUTS = [
    ("in_an_epoch", ("step", 5), {"save_steps": 4}, 4),
    ("between_two_logs", ("step", 6), {"save_steps": 4, "logging_steps": 3}, 4),
    ("before_the_evaluation_of_an_epoch", ("checkpoint", 6), {"save_steps": 3}, 6),
    ("in_the_second_epoch", ("checkpoint", 8), {"save_steps": 4}, 8),
    ("after_a_checkpoint_of_an_epoch", ("checkpoint", 6), {"save_strategy": "epoch"}, 6),
    (
        "after_an_evaluation_within_an_epoch",
        ("checkpoint", 4),
        {"save_steps": 4, "eval_strategy": "steps", "eval_steps": 2},
        4,
    ),
]


WHERE = {
    "full": (FULL, (CUTS[0], CUTS[2])),
    "lora": (LORA, CUTS),
    "packed_full": (PACKED, CUTS[:1]),
    "packed_lora": ({**LORA, **PACKED}, (CUTS[0], CUTS[3])),
}
# Both kinds of weights, with and without packing, cut off once each; the rest of the grid takes its time.
QUICK = ("packed_lora",)


@pytest.mark.parametrize(
    ("given", "cut_at", "step"),
    [
        pytest.param(
            {**method, **c[2]},
            c[1],
            c[3],
            id=f"{name}_{c[0]}",
            marks=() if i == 0 and name in QUICK else pytest.mark.slow,
        )
        for name, (method, cuts) in WHERE.items()
        for i, c in enumerate(cuts)
    ],
)
def test_it_resumes_to_the_same_bits(given, cut_at, step: int, train, uninterrupted, qa: Path, tmp_path: Path) -> None:
    given = {**PACE, "logging_steps": 1, **given}
    whole = uninterrupted(given)
    before = train(tmp_path / "cut", qa, **given, cut_at=cut_at)
    assert newest_checkpoint(tmp_path / "cut" / "checkpoints").name == f"checkpoint-{step}"
    assert not before.result.exists()
    resumed = train(tmp_path / "cut", qa, **given)
    assert resumed.of("start")[0]["resumed_from"] == step
    assert min(resumed.losses) > step
    assert_same(resumed, whole)
    evaluations = {e["step"]: e["eval_loss"] for e in [*before.of("eval"), *resumed.of("eval")]}
    assert evaluations == {e["step"]: e["eval_loss"] for e in whole.of("eval")}


@pytest.mark.parametrize(
    "data",
    [pytest.param({"dataloader_num_workers": 1}, marks=pytest.mark.slow), PACKED],
    ids=["with a reading process", "packed"],
)
def test_sigterm_makes_a_checkpoint_and_the_training_goes_on_from_it(
    data, train, uninterrupted, qa: Path, tmp_path: Path
) -> None:
    given = {**PACE, **LORA, "logging_steps": 1, **data}
    whole = uninterrupted(given)
    with pytest.raises(SystemExit) as end:
        train(tmp_path / "cut", qa, **given, save_strategy="no", terminate_at=("step", 4))
    assert end.value.code == 143
    assert newest_checkpoint(tmp_path / "cut" / "checkpoints").name == "checkpoint-5"
    resumed = train(tmp_path / "cut", qa, **given)
    assert min(resumed.losses) == 6
    assert_same(resumed, whole)


@pytest.mark.slow
@pytest.mark.parametrize("given", [{"max_steps": 8}, {"num_train_epochs": 1}], ids=["within_an_epoch", "at_its_end"])
def test_a_training_that_was_cut_off_in_saving_makes_no_further_step(
    given, train, uninterrupted, qa: Path, tmp_path: Path
) -> None:
    given = {**PACE, **LORA, "lr_scheduler_type": "constant", **given}
    whole = uninterrupted(given)
    train(tmp_path / "cut", qa, **given, cut_at=("eval", max(whole.losses)))
    resumed = train(tmp_path / "cut", qa, **given)
    assert resumed.losses == {}
    assert all(torch.equal(weights(resumed)[name], w) for name, w in weights(whole).items())
    assert [e["eval_loss"] for e in resumed.of("eval")] == [whole.of("eval")[-1]["eval_loss"]]


@pytest.mark.slow
def test_a_trainer_that_adds_losses_up_in_another_way_resumes_all_the_same(
    train, uninterrupted, qa: Path, tmp_path: Path, monkeypatch, caplog
) -> None:
    given = {**PACE, **LORA, "logging_steps": 3, "save_steps": 4}
    whole, usual = uninterrupted(given), transformers.Trainer._maybe_log_save_evaluate

    def another(*args, **more):
        return usual(*args, **more)

    monkeypatch.setattr(transformers.Trainer, "_maybe_log_save_evaluate", another)
    train(tmp_path / "cut", qa, **given, cut_at=("checkpoint", 4))
    resumed = train(tmp_path / "cut", qa, **given)
    assert any("may be the mean of fewer steps: the source of" in message for message in caplog.messages)
    assert {step: loss for step, loss in resumed.losses.items() if step > 6}.items() <= whole.losses.items()
    assert all(torch.equal(weights(resumed)[name], w) for name, w in weights(whole).items())


@pytest.mark.slow
def test_an_incomplete_checkpoint_is_passed_over_and_removed(train, uninterrupted, qa: Path, tmp_path: Path) -> None:
    given = {**PACE, **LORA, "save_steps": 2, "logging_steps": 1}
    whole = uninterrupted(given)
    train(tmp_path / "cut", qa, **given, cut_at=("checkpoint", 6))
    checkpoints = tmp_path / "cut" / "checkpoints"
    (checkpoints / "checkpoint-6" / "complete.json").unlink()
    (checkpoints / "checkpoint-6" / "optimizer.pt").write_bytes(b"cut off")
    (checkpoints / "checkpoint-7").mkdir()
    resumed = train(tmp_path / "cut", qa, **given)
    assert resumed.of("start")[0]["resumed_from"] == 4
    assert not (checkpoints / "checkpoint-7").exists()
    assert_same(resumed, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "kept"), [pytest.param(None, [10, 12], marks=pytest.mark.slow), (1, [12]), (4, [6, 8, 10, 12])]
)
def test_older_checkpoints_are_removed(limit: int | None, kept: list[int], train, qa: Path, tmp_path: Path) -> None:
    given = {} if limit is None else {"save_total_limit": limit}
    training = train(tmp_path / "out", qa, **PACE, **LORA, save_steps=2, **given)
    left = sorted(int(p.name.rpartition("-")[2]) for p in (training.output / "checkpoints").iterdir())
    assert left == kept
    assert all((training.output / "checkpoints" / f"checkpoint-{n}" / "complete.json").is_file() for n in left)


@pytest.mark.slow
def test_an_older_checkpoint_stays_until_the_new_one_is_complete(train, qa: Path, tmp_path: Path, monkeypatch) -> None:
    from tunewright_hf.train import events

    complete = events.mark_checkpoint
    seen: list[list[str]] = []

    def watched(folder: Path) -> None:
        seen.append(sorted(p.name for p in folder.parent.iterdir() if (p / "complete.json").exists()))
        complete(folder)

    monkeypatch.setattr(events, "mark_checkpoint", watched)
    train(tmp_path / "out", qa, **PACE, **LORA, save_steps=4, save_total_limit=1)
    assert seen == [[], ["checkpoint-4"], ["checkpoint-8"]]


def test_the_best_checkpoint_is_kept_and_loaded_at_the_end(train, qa: Path, tmp_path: Path) -> None:
    # Upside down, so that the best is not the last.
    given = {**PACE, "metric_for_best_model": "loss", "greater_is_better": True}
    training = train(tmp_path / "out", qa, **given, save_total_limit=1, load_best_model_at_end=True)
    losses = {e["step"]: e["eval_loss"] for e in training.of("eval")}
    best = max(losses, key=losses.get)
    assert best != max(losses), "the last is the best, so this shows nothing"
    saved = safetensors.load_file(training.output / "checkpoints" / f"checkpoint-{best}" / "model.safetensors")
    assert all(torch.equal(saved[name], w) for name, w in weights(training).items())


@pytest.mark.slow
def test_the_best_checkpoint_by_steps_needs_no_arithmetic(train, qa: Path, tmp_path: Path) -> None:
    given = {**PACE, "num_train_epochs": 3, "eval_strategy": "steps", "eval_steps": 5, "load_best_model_at_end": True}
    training = train(tmp_path / "out", qa, **given)
    assert [e["step"] for e in training.of("checkpoint")] == [5, 10, 15, 18]
