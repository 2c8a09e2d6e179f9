"""Real faults in real jobs of one and two ranks: each ends in time, with its cause, and no checkpoint is lost for it."""

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tunewright.events import Checkpoint, parse_event
from tunewright.runner.checkpoints import newest_checkpoint

pytest.importorskip("torch")

pytestmark = pytest.mark.timeout(600)

# Callbacks that rank 1 (or the only rank) comes to harm by, from step 6 on; they are the user's own code to the trainer.
FAULTS = """
import os, resource, signal, time
import torch
from transformers import TrainerCallback

class Fault(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 6 and int(os.environ["RANK"]) == args.world_size - 1:
            self.happen()

class Killed(Fault):
    def happen(self):
        os.kill(os.getpid(), signal.SIGKILL)

class Stalled(Fault):
    def happen(self):
        time.sleep(25)

class NoMemory(Fault):
    def happen(self):
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + (64 << 20)
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        try:
            torch.ones(1 << 28)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

class Ended(RuntimeError):
    def __str__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return "the reason that it has"

class Failed(Fault):
    def happen(self):
        raise Ended

class NoNumber(TrainerCallback):
    def on_step_begin(self, args, state, control, model, **kwargs):
        if state.global_step == 5 and int(os.environ["RANK"]) == args.world_size - 1:
            with torch.no_grad():
                next(p for p in model.parameters() if p.requires_grad).fill_(float("nan"))
"""
PACE = {"num_train_epochs": 6, "logging_steps": 1, "save_steps": 4, "per_device_train_batch_size": 4}
PACE |= {"lora_config": {"r": 4}, "eval_strategy": "no"}


@pytest.fixture
def faulty(job) -> Callable[..., object]:
    def make(fault: str, processes: int = 2, **given: object):
        made = job("job", processes, **{**PACE, "max_restarts": 0, **given, "callbacks": [f"faults:{fault}"]})
        (made.workspace / "faults.py").write_text(FAULTS)
        return made

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "given", "code", "causes"),
    [
        ("Killed", {}, 1, ["rank 1 ended with signal SIGKILL", "Rank 0 lost another rank"]),
        ("Stalled", {"ddp_timeout": 10}, 1, ["Rank 0 waited ddp_timeout=10 s for another rank"]),
        ("NoMemory", {}, 64, ["per_device_train_batch_size=4: is too large for the memory of cpu", "Lower it"]),
        ("NoNumber", {"logging_steps": 50}, 64, ["the loss became nan by step 8", "Lower learning_rate"]),
    ],
    ids=["killed", "stalled", "memory", "nan"],
)
def test_what_one_rank_suffers_ends_both_and_is_the_cause(
    fault: str, given: dict[str, object], code: int, causes: list[str], faulty
) -> None:
    bad = faulty(fault, **given)
    run = bad.start()
    run.communicate(timeout=180)
    assert run.returncode == code
    for cause in causes:
        assert cause in bad.message
    assert newest_checkpoint(bad.workspace / "output" / "checkpoints").name == "checkpoint-4"
    assert not (bad.workspace / "output" / "model").exists()


@pytest.mark.slow
def test_an_error_is_told_although_sigterm_comes_as_torchrun_sends_it_to_the_other_ranks(faulty) -> None:
    bad = faulty("Failed", processes=1)
    run = bad.start()
    run.communicate(timeout=180)
    assert run.returncode == 1
    assert "the reason that it has" in bad.message


# Dies when half of the optimizer's file of the second checkpoint is written.
DIES_IN_SAVING = """
import io, os, signal
import torch

save = torch.save
def dies(value, file, *args, **kwargs):
    if "checkpoint-8" in str(file) and "optimizer" in str(file):
        whole = io.BytesIO()
        save(value, whole, *args, **kwargs)
        open(file, "wb").write(whole.getvalue()[: len(whole.getvalue()) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return save(value, file, *args, **kwargs)
if not os.path.exists("died"):
    open("died", "w").close()
    torch.save = dies
"""


@pytest.mark.slow
def test_a_checkpoint_that_a_killed_process_was_writing_is_not_resumed_from(job) -> None:
    whole, cut = job("whole", 1, **PACE), job("cut", 1, **PACE)
    (cut.workspace / "rank.py").write_text(DIES_IN_SAVING + (cut.workspace / "rank.py").read_text())
    whole.finish()
    run = cut.start()
    run.communicate(timeout=180)
    checkpoints = cut.workspace / "output" / "checkpoints"
    assert run.returncode == 129
    assert (checkpoints / "checkpoint-8" / "optimizer.pt").stat().st_size > 0
    assert newest_checkpoint(checkpoints).name == "checkpoint-4"
    events = cut.finish()
    assert [e["resumed_from"] for e in events if e["event"] == "start"] == [4]
    assert all((cut.weights[name] == w).all() for name, w in whole.weights.items())


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["cut", *(pytest.param(h, marks=pytest.mark.slow) for h in ("emptied", "removed"))])
def test_a_checkpoint_whose_file_is_not_whole_any_more_is_passed_over(
    harm: str, train, qa: Path, tmp_path: Path
) -> None:
    given = {**PACE, "save_total_limit": 3, "max_steps": 9}
    train(tmp_path / "out", qa, **given, cut_at=("checkpoint", 8))
    file = tmp_path / "out" / "checkpoints" / "checkpoint-8" / "optimizer.pt"
    if harm == "removed":
        file.unlink()
    else:
        os.truncate(file, 0 if harm == "emptied" else file.stat().st_size - 1)
    resumed = train(tmp_path / "out", qa, **given)
    assert resumed.of("start")[0]["resumed_from"] == 4


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a volume of so many bytes."""
    folder = tmp_path / "volume"
    folder.mkdir()

    def mount(size: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if os.name != "posix" or not shutil.which("mount") or subprocess.run(command, check=False).returncode:
            pytest.skip("only root may mount a small volume")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_volume_that_is_full_in_saving_keeps_the_checkpoint_before(small_volume, job) -> None:
    full = job("full", 2, **{**PACE, "save_total_limit": 1, "lora_config": None})
    output = full.workspace / "output"
    output.rmdir()
    # A checkpoint of this model has 1.3 MB, of which two thirds are the optimizer's.
    output.symlink_to(small_volume(2_200_000))
    run = full.start()
    told, _ = run.communicate(timeout=180)
    steps = [e.step for line in told.splitlines() if isinstance(e := parse_event(line), Checkpoint)]
    assert (run.returncode, steps) == (73, [4])
    assert "The volume is full" in full.message
    assert "checkpoint-4 is complete and is kept" in full.message
    assert "larger volume" in full.message
    assert newest_checkpoint(output / "checkpoints").name == "checkpoint-4"
    state = json.loads((output / "checkpoints" / "checkpoint-4" / "trainer_state.json").read_text())
    assert state["global_step"] == 4


@pytest.mark.slow
def test_what_is_another_than_in_the_checkpoint_is_told(
    train, qa: Path, dataset_of, sums, tmp_path: Path, caplog
) -> None:
    given = {**PACE, "seed": 3, "max_steps": 6}
    train(tmp_path / "out", qa, **given, cut_at=("checkpoint", 4))
    with caplog.at_level(logging.WARNING, "tunewright_hf.train.checkpoints"):
        train(tmp_path / "out", dataset_of(sums(50)), **{**given, "seed": 4})
    told = [r.getMessage() for r in caplog.records if r.name == "tunewright_hf.train.checkpoints"]
    assert [text.split()[4] for text in told] == ["data", "data_seed", "seed"]
    assert told[2] == "checkpoint-4 was made with seed 3, now 4"
