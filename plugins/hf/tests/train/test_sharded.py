"""FSDP2 through TrainingArguments, on two ranks: the same training as on one, killed and resumed in between."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PACE = {"num_train_epochs": 2, "logging_steps": 1}
LORA = {**PACE, "lora_config": {"r": 4}, "learning_rate": 1e-2}
FULL = {**PACE, "learning_rate": 1e-3}
# accelerate takes FSDP on GPUs and the like alone; on CPUs it would be DDP, without a word. torch itself shards there, too.
SHARDING = """
from accelerate.state import AcceleratorState, DistributedType, PartialState

initialise = AcceleratorState.__init__
def sharding(self, *args, fsdp_plugin=None, **given):
    initialise(self, *args, fsdp_plugin=fsdp_plugin, **given)
    if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP
AcceleratorState.__init__ = sharding
"""
SHARDS = {"fsdp_config": {"version": 2, "state_dict_type": "SHARDED_STATE_DICT"}}


@pytest.mark.parametrize(
    ("method", "config"),
    [(LORA, {"fsdp_config": {"version": 2}}), (FULL, SHARDS)],
    ids=["lora", "full_sharded_checkpoints"],
)
def test_fsdp2_trains_as_one_rank_does_and_goes_on_after_a_kill(
    method: dict[str, object], config: dict[str, object], job, train, qa: Path, tmp_path: Path
) -> None:
    alone = train(tmp_path / "alone", qa, **method, per_device_train_batch_size=8, save_strategy="no")
    sharding = {**config, "fsdp": True, "save_steps": 6, "callbacks": ["killed:Killed"]}
    sharded = job("sharded", 2, **method, **sharding, per_device_train_batch_size=4)
    rank = sharded.workspace / "rank.py"
    rank.write_text(SHARDING + rank.read_text())
    events = sharded.finish_after_a_kill()
    assert [e["resumed_from"] for e in events if e["event"] == "start"] == [None, 6]
    losses = {e["step"]: e["loss"] for e in events if e["event"] == "step"}
    assert losses == pytest.approx(alone.losses, abs=1e-5)
    found = {e["step"]: e["eval_loss"] for e in events if e["event"] == "eval"}
    assert found == pytest.approx({e["step"]: e["eval_loss"] for e in alone.of("eval")}, abs=1e-5)
    (file,) = alone.result.glob("*model.safetensors")
    expected = safetensors.load_file(file)
    assert sharded.weights.keys() == expected.keys()
    for name, weight in expected.items():
        # Adam divides by what may be nearly 0: of thousands of weights one was 1.7e-5 away.
        torch.testing.assert_close(sharded.weights[name], weight, rtol=0, atol=5e-5)


def test_fsdp_is_refused_where_it_would_be_ddp_without_a_word(job) -> None:
    sharded = job("sharded", 2, **LORA, fsdp=True, fsdp_config={"version": 2}, per_device_train_batch_size=4)
    assert sharded.start().wait(300) == 64
    assert "fsdp=True: is disabled by accelerate on cpu" in sharded.message
