"""Two workers with a volume each: a checkpoint is whole where it is uploaded from, and goes on elsewhere to the same bits."""

import shutil
import socket
from pathlib import Path

import attrs
import pytest

from tunewright import RequestError, TrainingClient
from tunewright.events import parse_event

torch = pytest.importorskip("torch")

# Each rank draws its own dropout.
GIVEN = {"num_train_epochs": 2, "learning_rate": 1e-2, "logging_steps": 1, "save_steps": 3, "save_total_limit": 3}
GIVEN |= {"lora_config": {"r": 4, "lora_dropout": 0.3}, "per_device_train_batch_size": 4}


def run_on_two_nodes(job, name: str, checkpoint: Path | None = None):
    """Rank 0's job, with its events; both nodes begin with the checkpoint, as one that was fetched from `output=`."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meeting = ("--nnodes=2", "--master-addr=localhost", f"--master-port={free.getsockname()[1]}")
    nodes = [attrs.evolve(job(f"{name}-{n}", 1, **GIVEN), node=(*meeting, f"--node-rank={n}")) for n in (0, 1)]
    for node in nodes:
        if checkpoint:
            shutil.copytree(checkpoint, node.workspace / "output" / "checkpoints" / checkpoint.name)
    runs = [node.start() for node in nodes]
    output = [run.communicate(timeout=400)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    return nodes[0], [e.to_dict() for line in output[0].splitlines() if (e := parse_event(line))]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_checkpoint_has_the_files_of_ranks_with_other_volumes(job) -> None:
    whole, expected = run_on_two_nodes(job, "whole")
    checkpoint = whole.workspace / "output" / "checkpoints" / "checkpoint-6"
    assert {"rng_state_0.pth", "rng_state_1.pth", "unlogged_1.json"} <= {p.name for p in checkpoint.iterdir()}
    resumed, events = run_on_two_nodes(job, "resumed", checkpoint)
    assert [e["resumed_from"] for e in events if e["event"] == "start"] == [6]
    losses, whole_losses = ({e["step"]: e["loss"] for e in es if e["event"] == "step"} for es in (events, expected))
    assert losses
    assert losses.items() <= whole_losses.items()
    assert all(torch.equal(resumed.weights[name], w) for name, w in whole.weights.items())


SHARDED = {"fsdp": True, "fsdp_config": {"version": 2, "state_dict_type": "SHARDED_STATE_DICT"}}


@pytest.mark.parametrize(
    ("given", "field"),
    [({"deepspeed": {"zero_optimization": {"stage": 1}}}, "deepspeed"), (SHARDED, "fsdp_config")],
    ids=["deepspeed", "fsdp"],
)
def test_shards_are_refused_where_each_worker_has_a_volume_of_its_own(given: dict[str, object], field: str) -> None:
    def plan(**storage: object) -> object:
        job = {"model": "hf://org/name", "dataset": "hf://datasets/org/name", "output": "s3://bucket/prefix"}
        return TrainingClient().train("job", **job, trainer={"provider": "hf", **given}, dry_run=True, **storage)

    with pytest.raises(RequestError, match=rf"^{field}: shards checkpoints, .*ReadWriteMany"):
        plan(num_workers=2)
    assert plan(num_workers=1)
    assert plan(num_workers=2, storage={"access_modes": ["ReadWriteMany"]})
