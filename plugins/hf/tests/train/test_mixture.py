"""Mixtures, trained: shares and losses by dataset in events and card, on any number of ranks, and after any interruption."""

import json
from pathlib import Path

import attrs
import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
transformers = pytest.importorskip("transformers")

GIVEN = {
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "per_device_train_batch_size": 4,
    "lora_config": {"r": 2, "lora_dropout": 0.3},
    "activation_checkpointing": False,
}
# A step is 8 samples; an epoch of these weights 59 samples, and so 8 steps.
PACE = {**GIVEN, "gradient_accumulation_steps": 2, "num_train_epochs": 2, "lr_scheduler_type": "cosine"}
WEIGHTS = {"sums": 2, "chats": 1, "texts": 1}


def weights(training) -> dict[str, object]:
    (file,) = training.result.glob("*model.safetensors")
    return safetensors.load_file(file)


def section(training, title: str) -> dict[str, object]:
    card = (training.result / "README.md").read_text()
    return json.loads(card.partition(f"## {title}\n\n```json\n")[2].partition("```")[0])


def test_events_and_card_say_shares_and_losses_by_dataset(train, mixture, tmp_path: Path) -> None:
    training = train(tmp_path / "out", mixture(**WEIGHTS), **PACE)
    steps = training.of("step")
    assert len(steps) == 16
    for step in steps:
        assert step["sources"].keys() == WEIGHTS.keys()
        assert all(s.keys() == {"loss", "samples", "tokens"} for s in step["sources"].values() if s["samples"])
        assert not [key for key in step if "/" in key]
    samples, tokens = (
        {name: sum(s["sources"][name][m] for s in steps) for name in WEIGHTS} for m in ("samples", "tokens")
    )
    assert sum(samples.values()) == 2 * 59
    assert [samples[name] for name in WEIGHTS] == pytest.approx([59, 29.5, 29.5], abs=2)
    evaluations = training.of("eval")
    assert [e["sources"].keys() for e in evaluations] == [{"sums", "chats"}] * 2, "there are no texts to evaluate on"
    found = section(training, "Mixture")
    assert {name: found[name]["share"] for name in found} == {"sums": 0.5, "chats": 0.25, "texts": 0.25}
    assert {name: found[name]["trained_samples"] for name in found} == samples
    assert {name: found[name]["trained_tokens"] for name in found} == tokens
    assert sum(found[name]["share_of_tokens"] for name in found) == pytest.approx(1)
    assert found["texts"]["train"]["rows"] == 7
    assert found["sums"]["last_loss"] == steps[-1]["sources"]["sums"]["loss"]


@pytest.mark.parametrize(
    "more",
    [
        {"lora_config": {"r": 2}, "data": {"packing": True, "max_length": 60}},
        pytest.param({"lora_config": None}, marks=pytest.mark.slow),
        pytest.param(
            {"lora_config": {"r": 2}, "fused_layers": False, "attn_implementation": "eager"}, marks=pytest.mark.slow
        ),
    ],
    ids=["fused_packed", "full", "plain_padded"],
)
def test_losses_by_dataset_add_up_to_the_loss(more, train, mixture, tmp_path: Path, monkeypatch) -> None:
    """With the supervised tokens of each dataset as weights, which the batches say."""
    from tunewright_hf.train import by_source

    labels = by_source.SourceMeter.lap
    counts: list[dict[str, float]] = []

    def watched(meter, sums):
        counts.append(dict(zip(meter.names, sums[:, 1].tolist(), strict=True)))
        return labels(meter, sums)

    monkeypatch.setattr(by_source.SourceMeter, "lap", watched)
    training = train(tmp_path / "out", mixture(**WEIGHTS), **{**GIVEN, "max_steps": 4, **more})
    for step, supervised in zip(training.of("step"), counts, strict=True):
        mean = sum(step["sources"][n]["loss"] * c for n, c in supervised.items() if c) / sum(supervised.values())
        assert mean == pytest.approx(step["loss"], abs=1e-5)
        assert len({round(s["loss"], 3) for s in step["sources"].values() if "loss" in s}) > 1, "they differ"


@pytest.mark.slow
def test_losses_of_an_evaluation_by_dataset_are_those_of_each_by_itself(
    train, mixture, sources, tmp_path: Path
) -> None:
    given = {**GIVEN, "max_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "learning_rate": 1e-9}
    together = train(tmp_path / "out", mixture(sums=1, chats=1), **given).of("eval")[-1]
    apart = {name: train(tmp_path / name, sources[name], **given).of("eval")[-1] for name in ("sums", "chats")}
    assert {name: s["loss"] for name, s in together["sources"].items()} == pytest.approx(
        {name: e["eval_loss"] for name, e in apart.items()}, abs=1e-4
    )
    assert (
        min(e["eval_loss"] for e in apart.values())
        < together["eval_loss"]
        < max(e["eval_loss"] for e in apart.values())
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, train, mixture):
    return train(tmp_path_factory.mktemp("whole"), mixture(**WEIGHTS, once=("texts",)), **PACE, save_strategy="no")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cut_at", "given", "step"),
    [
        (("step", 11), {"save_steps": 5}, 10),  # in the second epoch
        (("step", 7), {"save_steps": 5, "logging_steps": 3}, 5),
        (("checkpoint", 7), {"save_strategy": "epoch"}, 7),
    ],
)
def test_it_resumes_to_the_same_bits(cut_at, given, step: int, train, mixture, uninterrupted, tmp_path: Path) -> None:
    parts = mixture(**WEIGHTS, once=("texts",))
    given = {**PACE, **given}
    whole = uninterrupted
    if given["logging_steps"] != 1:
        whole = train(tmp_path / "whole", parts, **given, cut_at=None)
        cut_at = ("step", 9)
    train(tmp_path / "cut", parts, **given, cut_at=cut_at)
    resumed = train(tmp_path / "cut", parts, **given)
    assert resumed.of("start")[0]["resumed_from"] == step
    expected = {e["step"]: e for e in whole.of("step")}
    assert resumed.of("step")
    for event in resumed.of("step"):
        assert event["loss"] == expected[event["step"]]["loss"]
        assert event["sources"] == expected[event["step"]]["sources"]
    assert all(torch.equal(weights(resumed)[name], w) for name, w in weights(whole).items())
    assert section(resumed, "Mixture") == section(whole, "Mixture")


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        {"streaming": True},
        pytest.param({"streaming": True, "packing": True, "mix_by": "tokens"}, marks=pytest.mark.slow),
    ],
    ids=["by_samples", "packed_by_tokens"],
)
def test_a_streamed_mixture_resumes_to_the_same_bits(data, train, mixture, tmp_path: Path) -> None:
    given = {**GIVEN, "max_steps": 9, "save_steps": 4, "data": data}
    whole = train(tmp_path / "whole", mixture(**WEIGHTS), **given)
    train(tmp_path / "cut", mixture(**WEIGHTS), **given, cut_at=("step", 6))
    resumed = train(tmp_path / "cut", mixture(**WEIGHTS), **given)
    assert [e["resumed_from"] for e in resumed.of("start")] == [4]
    assert [e["sources"] for e in resumed.of("step")] == [e["sources"] for e in whole.of("step")][4:]
    assert resumed.losses == {step: loss for step, loss in whole.losses.items() if step > 4}
    assert all(torch.equal(weights(resumed)[name], w) for name, w in weights(whole).items())
    found = section(whole, "Mixture")
    assert found["texts"]["train"]["rows"] >= 7
    if data == {"streaming": True}:
        assert [found[n]["trained_samples"] for n in WEIGHTS] == pytest.approx([18, 9, 9], abs=1)


@pytest.mark.slow
def test_a_streamed_mixture_is_that_of_data_on_disk(train, mixture, tmp_path: Path) -> None:
    given = {**GIVEN, "max_steps": 5, "train_sampling_strategy": "sequential"}
    on_disk = train(tmp_path / "on_disk", mixture(**WEIGHTS), **given)
    streamed = train(tmp_path / "streamed", mixture(**WEIGHTS), **given, data={"streaming": True})
    assert streamed.losses == on_disk.losses
    assert [e["sources"] for e in streamed.of("step")] == [e["sources"] for e in on_disk.of("step")]


@pytest.mark.slow
@pytest.mark.parametrize("data", [{}, {"streaming": True}, {"mix_by": "tokens"}], ids=str)
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.timeout(900)
def test_any_number_of_ranks_makes_the_same_training(data, processes: int, job, train, mixture, tmp_path: Path) -> None:
    given = {
        **GIVEN,
        "max_steps": 12,
        "lora_config": {"r": 4},
        "save_strategy": "no",
        "data": data,
        "learning_rate": 1e-3,
    }
    parts = mixture(**WEIGHTS)
    alone = train(tmp_path / "alone", parts, **{**given, "per_device_train_batch_size": 8})
    several = job("several", processes, dataset=parts, **{**given, "per_device_train_batch_size": 8 // processes})
    steps = [e for e in several.finish() if e["event"] == "step"]
    assert [e["loss"] for e in steps] == pytest.approx(list(alone.losses.values()), abs=1e-5)
    for event, expected in zip(steps, alone.of("step"), strict=True):
        for name, one in expected["sources"].items():
            assert event["sources"][name] == pytest.approx(one, abs=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ranks_that_are_told_to_end_go_on_in_the_mixture_where_they_were(job, mixture) -> None:
    given = {**GIVEN, "num_train_epochs": 5, "save_strategy": "no"}
    parts = mixture(**WEIGHTS, once=("chats",))
    whole = job("whole", 2, dataset=parts, **given)
    expected = [e for e in whole.finish() if e["event"] == "step"]
    cut = job("cut", 2, dataset=parts, **given)
    last = cut.be_told_to_end()
    steps = [e for e in cut.finish() if e["event"] == "step"]
    assert [(e["loss"], e["sources"]) for e in steps] == [(e["loss"], e["sources"]) for e in expected[last:]]
    assert all(torch.equal(cut.weights[name], w) for name, w in whole.weights.items())


@pytest.mark.slow
def test_an_encoder_decoder_model_is_trained_on_a_mixture(train, mixture, base_of, tmp_path: Path) -> None:
    (sums,) = mixture(sums=3)
    again = attrs.evolve(sums, name="again", weight=1, data={"completion_template": "{question}"})
    given = {"max_steps": 4, "logging_steps": 1, "transformer_type": "AutoModelForSeq2SeqLM", "model": base_of("t5")}
    given |= {"data": {"prompt_template": "{question}", "completion_template": "{answer}"}}
    training = train(tmp_path / "out", (sums, again), **given)
    for step in training.of("step"):
        losses = [s["loss"] for s in step["sources"].values()]
        assert min(losses) <= step["loss"] <= max(losses)
    assert training.of("eval")[-1]["sources"].keys() == {"sums", "again"}
