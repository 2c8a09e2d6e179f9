"""What a check and a training say that they are doing, so that nobody looks at an empty screen."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright import TrainRun
from tunewright.events import Event, Pace, Phase
from tunewright_hf import HuggingFaceTrainParams

transformers = pytest.importorskip("transformers")

from tunewright_hf.train import trainer as trainer_module  # noqa: E402
from tunewright_hf.train.events import EventCallback  # noqa: E402


class SlowEvaluation(transformers.TrainerCallback):
    """An evaluation of which each batch takes long."""

    def on_prediction_step(self, *_: object, **__: object) -> None:
        time.sleep(0.6)


def phases(events: list[dict[str, object]]) -> list[str]:
    return [str(event["text"]) for event in events if event["event"] == "phase"]


def around(events: list[dict[str, object]], event: str) -> tuple[list[str], list[str]]:
    """The phases before and after an event."""
    at = [found["event"] for found in events].index(event)
    return phases(events[:at]), phases(events[at:])


def test_a_check_says_what_it_checks(model_folder: Path, qa: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    run = TrainRun(model=model_folder, dataset=qa, output=tmp_path / "output", emit=events.append)
    HuggingFaceTrainParams().check(run)
    assert [event.text for event in events if isinstance(event, Phase)] == [
        "checking the model, the dataset and the arguments",
        "checking the first rows of dataset",
    ]


def test_a_training_says_each_phase_before_its_first_step_and_after_its_last(train, qa: Path, tmp_path: Path) -> None:
    done = train(tmp_path / "out", qa, max_steps=1, sample_prompts=["What is 1 and 1?"], data={"packing": True})
    before, after = around(done.events, "start")
    expected = [
        "reading the train split",
        "reading the evaluation split",
        "tokenising the train split",
        "packing the samples",
        "tokenising the evaluation split",
        "loading the model",
        "trying out the model",
        "measuring the memory of a step",
        "answering the sample prompts before the training",
    ]
    assert [text for text in before if text in expected] == expected
    assert set(before) == set(expected)
    assert [text for text in after if not text.startswith("evaluating")] == [
        "saving the model",
        "answering the sample prompts",
    ]
    tokenising = [event for event in done.of("phase") if event["name"] == "tokenise"]
    assert [(event["total"], event["unit"]) for event in tokenising if not event["done"]] == [
        (41, "rows"),
        (11, "rows"),
    ]


def test_the_datasets_of_a_mixture_say_which_one_they_are(
    train, mixture: Callable[..., object], tmp_path: Path
) -> None:
    done = train(tmp_path / "out", mixture(sums=1, texts=1), max_steps=1)
    before, _ = around(done.events, "start")
    assert [text for text in before if "tokenising the train" in text] == [
        "sums: tokenising the train split",
        "texts: tokenising the train split",
    ]


def test_long_evaluations_and_checkpoints_are_told_of_and_short_ones_are_not(
    train, qa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"max_steps": 1, "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    monkeypatch.setattr(trainer_module, "LONG", 60.0)
    quiet = train(tmp_path / "quiet", qa, **given)
    _, after = around(quiet.events, "start")
    assert after == ["saving the model"]
    monkeypatch.setattr(trainer_module, "LONG", 0.0)
    _, after = around(train(tmp_path / "out", qa, **given).events, "start")
    assert {"evaluating", "saving a checkpoint at step 1"} <= {text.partition(":")[0] for text in after}


@pytest.mark.slow
def test_an_evaluation_that_lasts_counts_its_batches(train, qa: Path, tmp_path: Path) -> None:
    given = {"max_steps": 1, "eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 3}
    done = train(tmp_path / "out", qa, callbacks=[f"{__name__}:SlowEvaluation"], **given)
    counted = [event for event in done.of("phase") if event["name"] == "evaluate"]
    assert counted
    assert all((event["total"], event["unit"]) == (4, "batches") for event in counted)
    assert 0 < int(str(counted[-1]["done"])) <= 4


def callback(events: list[Event], tmp_path: Path, **given: object) -> tuple[EventCallback, object, object]:
    found = EventCallback(TrainRun(output=tmp_path, emit=events.append), None)
    args = transformers.TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", **given)
    return found, args, transformers.TrainerState(global_step=3, max_steps=10)


@pytest.mark.parametrize("compiles", [True, False])
def test_a_compiler_is_told_of_before_the_first_step(compiles: bool, tmp_path: Path) -> None:
    events: list[Event] = []
    found, args, state = callback(events, tmp_path, torch_compile=compiles)
    found.on_train_begin(args, state, None)
    told = [event.text for event in events if isinstance(event, Phase)]
    assert told == (["compiling the model, which takes up the first steps"] if compiles else [])


def test_a_training_that_seldom_logs_tells_its_steps_between_logs(tmp_path: Path) -> None:
    events: list[Event] = []
    found, args, state = callback(events, tmp_path)
    now = time.monotonic()
    found._pace = Pace(lambda: now)
    control = transformers.TrainerControl()
    now += 1000
    found.on_step_end(args, state, control)
    assert events == [], "it has logged just now"
    found._logged -= 4
    for _ in range(3):
        found.on_step_end(args, state, control)
    assert events == [Phase(name="train", text="training", done=3, total=10, unit="steps")]
