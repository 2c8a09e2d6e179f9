"""What is told of a training's speed and of its end, against independent counts and real errors."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tunewright import RequestError, TrainRun
from tunewright.events import Event

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from tunewright_hf.data.samples.collators import Collator  # noqa: E402
from tunewright_hf.train import throughput  # noqa: E402 - it needs torch
from tunewright_hf.train.events import EventCallback  # noqa: E402
from tunewright_hf.train.failures import explain_out_of_memory  # noqa: E402

TOKENS = 24
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64, "vocab_size": 100}


def model_of(family: str = "llama", **given: object):
    config = transformers.AutoConfig.for_model(family, **SIZES, **given)
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")


def counted_by_torch(model) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    ids = torch.arange(TOKENS)[None]
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids).loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("tied", [False, True])
def test_operations_are_those_that_torch_counts(tied: bool) -> None:
    model = model_of(tie_word_embeddings=tied)
    flops = throughput.Flops.of(model)
    # "eager" computes every pair; it does not leave out those that a causal mask hides.
    assert flops.per_token * TOKENS + flops.per_pair * TOKENS**2 == counted_by_torch(model)


def test_frozen_weights_have_no_gradients_of_their_own() -> None:
    model = peft.get_peft_model(model_of(), peft.LoraConfig(r=4, target_modules="all-linear"))
    flops = throughput.Flops.of(model)
    # What the first layer's projections read needs no gradient, since the embeddings are frozen.
    first = model.base_model.model.model.layers[0].self_attn
    readers = [w for n, w in first.named_parameters() if ("base_layer" in n or "lora_A" in n) and "o_proj" not in n]
    saved = 2 * TOKENS * sum(w.numel() for w in readers)
    assert flops.per_token * TOKENS + flops.per_pair * TOKENS**2 - saved == counted_by_torch(model)


def test_expert_layers_are_not_guessed() -> None:
    assert throughput.Flops.of(model_of("mixtral", num_local_experts=4)) is None


@pytest.mark.parametrize("padding_free", [False, True])
def test_the_meter_counts_tokens_without_pads(padding_free: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "peak_flops", lambda _: 1000.0)
    meter = throughput.Meter(throughput.Flops(per_token=10, per_pair=1), torch.device("cpu"), half=True)
    samples = [{"input_ids": [5] * n, "labels": [-100, -100, *[5] * (n - 2)]} for n in (3, 5)]
    batches = meter.timed(iter([Collator(0, padding_free=padding_free)(samples)] * 2))
    meter.add(list(batches))
    counts = meter.counts().tolist()
    assert counts == [2 * 4, 2 * 8, 2 * (6 + 15)]
    found = meter.lap(counts, seconds=2.0, world_size=2)
    assert (found["tokens_per_second"], found["total_tokens_per_second"]) == (4, 8)
    assert found["mfu"] == (10 * 8 + 1 * 21) / 2000
    assert meter.counts().tolist() == [0, 0, 0], "each lap starts anew"


def test_what_cannot_be_counted_is_left_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    model = model_of()
    vars(model.config)["num_attention_heads"] = [4, 2]  # as of a family whose layers differ
    assert throughput.flops_of(model) is None
    meter = throughput.Meter(None, torch.device("cpu"), half=True)
    for labels in ([[5, 5]], torch.ones(())):  # as another collator may make them
        meter.add([{"input_ids": [[5, 5]], "attention_mask": torch.ones(1, 2), "labels": labels}] * 2)
    assert caplog.text.count("cannot be counted") == 1
    assert meter.lap(meter.counts().tolist(), seconds=1.0, world_size=1).keys() == {"data_wait", "peak_memory_bytes"}


def test_metrics_that_are_no_numbers_are_left_out_of_events() -> None:
    found: list[Event] = []
    run = TrainRun(output=Path(), emit=found.append)
    metrics = {"eval_loss": 0.5, "eval_f1": torch.tensor(0.25), "eval_confusion": [[1, 0], [0, 1]], "eval_note": "good"}
    state, control = transformers.TrainerState(), transformers.TrainerControl()
    EventCallback(run, None).on_evaluate(None, state, control, metrics)
    assert [event.extra for event in found] == [{"eval_f1": 0.25}]


def too_much() -> None:
    torch.empty(1 << 60)


def as_on_a_gpu() -> None:
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1.00 GiB"
    )


@pytest.mark.parametrize("allocate", [too_much, as_on_a_gpu])
def test_a_memory_that_is_too_small_is_told_with_what_to_do(allocate: Callable[[], None], tmp_path: Path) -> None:
    args = transformers.TrainingArguments(output_dir=str(tmp_path), per_device_train_batch_size=6, use_cpu=True)
    expected = (
        r"batch_size=6: is too large for the memory of cpu: .*(can't allocate memory: you tried|CUDA out of memory)"
    )
    with pytest.raises(RequestError, match=expected) as error, explain_out_of_memory(args):
        allocate()
    assert "activation_checkpointing=True" in error.value.remedy


@pytest.mark.parametrize(
    ("sizes", "evaluates", "expected"),
    [
        ((6, 4), True, "per_device_eval_batch_size=4: .* Lower it, which does not change eval_loss"),
        ((6, 1), True, r"DataParams.max_length: .*\(in an evaluation\).* Lower it\.$"),
        ((1, 4), False, r"DataParams.max_length: .* Set activation_checkpointing=True; or lower it\."),
    ],
)
def test_the_field_that_made_a_batch_too_large_is_named(
    sizes: tuple[int, int], evaluates: bool, expected: str, tmp_path: Path
) -> None:
    names = ("per_device_train_batch_size", "per_device_eval_batch_size")
    args = transformers.TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, **dict(zip(names, sizes, strict=True))
    )
    with pytest.raises(RequestError, match=expected), explain_out_of_memory(args, lambda: evaluates):
        as_on_a_gpu()


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    args = transformers.TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    with pytest.raises(RuntimeError, match="mat1 and mat2"), explain_out_of_memory(args):
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_what_is_measured_is_in_tensorboard(train, qa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    training = train(tmp_path / "out", qa, report_to="tensorboard", max_steps=3)
    board = accumulator.EventAccumulator(str(tmp_path / "board")).Reload()
    for name in (
        "loss",
        "learning_rate",
        "tokens_per_second",
        "total_tokens_per_second",
        "peak_memory_bytes",
        "data_wait",
    ):
        written = {event.step: event.value for event in board.Scalars(f"train/{name}")}
        assert written == pytest.approx({e["step"]: e[name] for e in training.of("step")}, rel=1e-6), name
    assert board.Scalars("eval/loss")


@pytest.mark.slow
def test_a_trainjob_whose_controller_asks_is_told_how_far_it_is(
    train, qa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict] = []

    class Controller(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            assert self.headers["Authorization"] == "Bearer secret"
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    (tmp_path / "token").write_text("secret")
    with ThreadingHTTPServer(("127.0.0.1", 0), Controller) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", f"http://127.0.0.1:{server.server_address[1]}/status")
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_TOKEN", str(tmp_path / "token"))
        train(tmp_path / "out", qa, max_steps=3)
        server.shutdown()
    last = told[-1]["trainerStatus"]
    assert last["progressPercentage"] == 100
    assert {metric["name"] for metric in last["metrics"]} >= {"loss", "learning_rate"}
