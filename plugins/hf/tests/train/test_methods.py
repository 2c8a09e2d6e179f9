"""Methods that PEFT and transformers have: reached by their own names, and as exact as what is plain."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright import RequestError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
safetensors = pytest.importorskip("safetensors.torch")

LORAS = {
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True, "lora_alpha": 16},
    "pissa": {"init_lora_weights": "pissa"},
    "targets": {"target_modules": ["q_proj", "v_proj"], "modules_to_save": ["lm_head"]},
}
PACE = {"learning_rate": 5e-3, "num_train_epochs": 2, "logging_steps": 1, "per_device_train_batch_size": 16}


def logits(model):
    with torch.no_grad():
        return model.eval()(torch.arange(5, 45)[None]).logits


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dora", *(pytest.param(m, marks=pytest.mark.slow) for m in LORAS if m != "dora")])
def test_a_kind_of_lora_learns_resumes_and_is_loaded_by_plain_peft(
    method: str, train, qa: Path, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunewright_hf.train import model_card

    given = {**PACE, "lora_config": {"r": 4, **LORAS[method]}, "save_steps": 2}
    train(tmp_path / "out", qa, **given, cut_at=("step", 3))
    trained = {}
    monkeypatch.setattr(model_card, "render", lambda trainer, *_: trained.update(logits=logits(trainer.model)) or "")
    resumed = train(tmp_path / "out", qa, **given)
    whole = train(tmp_path / "whole", qa, **given)
    assert list(whole.losses.values())[-1] < whole.losses[1]
    assert resumed.losses.keys() == {3, 4, 5, 6}
    assert resumed.losses.items() <= whole.losses.items(), "the same bits after a restart"
    base = transformers.AutoModelForCausalLM.from_pretrained(model_folder)
    before = logits(base)
    found = logits(peft.PeftModel.from_pretrained(base, whole.result))
    assert (found - before).abs().max() > 1e-2
    torch.testing.assert_close(found, trained["logits"], rtol=0, atol=1e-5)


def test_it_stops_when_evaluations_get_no_better(train, qa: Path, tmp_path: Path) -> None:
    # Upside down: the loss falls, so that no evaluation is better than the first.
    given = {"metric_for_best_model": "loss", "greater_is_better": True, "num_train_epochs": 9}
    given = {**PACE, **given, "early_stopping_patience": 2}
    cut = train(tmp_path / "out", qa, **given, cut_at=("checkpoint", 6))
    training = train(tmp_path / "out", qa, **given)
    evaluations = [e["step"] for e in [*cut.of("eval"), *training.of("eval")]]
    assert evaluations == [3, 6, 9], "the first, and two that are no better, of which one was before the restart"
    (saved,) = (tmp_path / "out" / "checkpoints").glob(f"checkpoint-{evaluations[0]}/model.safetensors")
    assert saved.read_bytes() == (training.result / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"load_best_model_at_end": True, "eval_steps": 1}, list(range(1, 13))),
        ({"early_stopping_patience": 9, "eval_steps": 0.25}, [3, 6, 9, 12]),
        ({"early_stopping_patience": 9, "logging_steps": 5}, [5, 10, 12]),
        ({"early_stopping_patience": 9, "eval_steps": 3, "save_steps": 6}, [6, 12]),
    ],
    ids=str,
)
def test_each_evaluation_has_a_checkpoint_and_the_best_is_the_result(
    given: dict[str, object], expected: list[int], train, qa: Path, tmp_path: Path
) -> None:
    training = train(tmp_path / "out", qa, eval_strategy="steps", max_steps=12, learning_rate=0.1, **given)
    assert [e["step"] for e in training.of("checkpoint")] == expected
    best = min((e for e in training.of("eval") if e["step"] in expected), key=lambda e: e["eval_loss"])
    (saved,) = (tmp_path / "out" / "checkpoints").glob(f"checkpoint-{best['step']}/model.safetensors")
    assert saved.read_bytes() == (training.result / "model.safetensors").read_bytes()


def test_stopping_early_needs_evaluations(train, dataset_of: Callable[..., Path], sums, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="early_stopping_patience: needs evaluations"):
        train(tmp_path / "out", dataset_of(sums(8)), early_stopping_patience=2)


CALLBACK = """
import logging
from transformers import TrainerCallback

class Counts(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        logging.getLogger("counts").warning("step %d", state.global_step)

nothing = 3
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with a callback."""
    (tmp_path / "their_callbacks.py").write_text(CALLBACK)
    info = tmp_path / "theirs-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[tunewright.hf.callbacks]\ncounts = their_callbacks:Counts\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["counts", "their_callbacks:Counts"])
def test_a_callback_is_found_by_its_name(name: str, train, qa: Path, tmp_path: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING, "counts"):
        train(tmp_path / "out", qa, max_steps=2, save_strategy="no", eval_strategy="no", callbacks=[name])
    assert [r.getMessage() for r in caplog.records if r.name == "counts"] == ["step 1", "step 2"]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("count", r"callbacks='count': is not installed.*Did you mean 'counts'"),
        ("their_callbacks:Nothing", "cannot be loaded: .*Nothing"),
        ("not_there:Counts", "cannot be loaded: No module named 'not_there'"),
        ("their_callbacks:nothing", "is not a callback"),
    ],
)
def test_a_callback_that_is_none_is_refused(name: str, expected: str) -> None:
    from tunewright_hf import HuggingFaceTrainParams
    from tunewright_hf.train import extensions

    with pytest.raises(RequestError, match=expected):
        extensions.build_callbacks(HuggingFaceTrainParams(callbacks=[name]))
