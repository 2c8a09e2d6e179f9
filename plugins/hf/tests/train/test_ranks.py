"""Trainings of several processes: torchrun, the launcher's `train` on every rank, gloo on loopback."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tunewright.events import Step, parse_event

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

pytestmark = pytest.mark.timeout(900)

LORA = {"lora_config": {"r": 4}}
# 26 rows, most of them of two samples. Adam makes more of rounding errors where steps are large.
PACKED = {"data": {"packing": True, "max_length": 50}, "learning_rate": 1e-3}
GLOBAL_BATCH = 8
GIVEN = {"num_train_epochs": 2, "learning_rate": 1e-2, "logging_steps": 1, "save_strategy": "no"}
GIVEN |= {"activation_checkpointing": False}  # else a batch more is seen, for its memory


def losses(events: list[dict[str, object]]) -> dict[int, float]:
    return {int(e["step"]): float(e["loss"]) for e in events if e["event"] == "step"}


def evaluations(events: list[dict[str, object]]) -> list[float]:
    return [float(e["eval_loss"]) for e in events if e["event"] == "eval"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "processes"),
    [(LORA, 2), (LORA, 4), ({}, 2), ({}, 4), ({**LORA, **PACKED}, 2), (PACKED, 4)],
    ids=["lora-2", "lora-4", "full-2", "full-4", "lora_packed-2", "packed-4"],
)
def test_any_number_of_ranks_makes_the_same_training(
    method: dict[str, object], processes: int, job, train, qa: Path, tmp_path: Path
) -> None:
    alone = train(tmp_path / "alone", qa, **{**GIVEN, **method}, per_device_train_batch_size=GLOBAL_BATCH)
    several = job("several", processes, **{**GIVEN, **method}, per_device_train_batch_size=GLOBAL_BATCH // processes)
    events = several.finish()
    assert [e["world_size"] for e in events if e["event"] == "start"] == [processes]
    assert len([e for e in events if e["event"] == "saved"]) == 1, "one rank speaks"
    assert losses(events).keys() == alone.losses.keys()
    assert list(losses(events).values()) == pytest.approx(list(alone.losses.values()), abs=1e-5)
    assert evaluations(events) == pytest.approx([e["eval_loss"] for e in alone.of("eval")], abs=1e-5)
    assert_every_sample_was_seen_once(several, qa)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "t5"])
def test_any_number_of_ranks_makes_the_same_training_of_other_tasks(
    name: str,
    job,
    base_of: Callable[[str], Path],
    classified: Path,
    train,
    qa: Path,
    tmp_path: Path,
) -> None:
    tasks = {"bert": ("AutoModelForSequenceClassification", classified), "t5": ("AutoModelForSeq2SeqLM", qa)}
    task, dataset = tasks[name]
    given = {**GIVEN, "transformer_type": task, "learning_rate": 1e-3, "model": base_of(name)}
    alone = train(tmp_path / "alone", dataset, **given, per_device_train_batch_size=GLOBAL_BATCH)
    several = job("several", 2, dataset=dataset, **given, per_device_train_batch_size=GLOBAL_BATCH // 2)
    events = several.finish()
    assert losses(events).keys() == alone.losses.keys()
    assert list(losses(events).values()) == pytest.approx(list(alone.losses.values()), abs=1e-5)
    assert evaluations(events) == pytest.approx([e["eval_loss"] for e in alone.of("eval")], abs=1e-5)


@pytest.mark.slow
def test_ranks_train_a_model_whose_steps_leave_weights_out(job, base_of: Callable[[str], Path], classified) -> None:
    given = {"transformer_type": "AutoModelForSequenceClassification", "model": base_of("xlnet")}
    events = job("xlnet", 2, dataset=classified, **{**GIVEN, **given, "max_steps": 3}).finish()
    assert losses(events).keys() == {1, 2, 3}


def assert_every_sample_was_seen_once(done, dataset: Path) -> None:
    tokenizer = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(done.workspace / "model")
    rows = [json.loads(line) for line in (dataset / "train.jsonl").read_text().splitlines()]
    samples = sorted(
        [*tokenizer(row["prompt"])["input_ids"], *tokenizer(row["completion"])["input_ids"], 1] for row in rows
    )
    seen = [s for r in range(done.processes) for s in json.loads((done.workspace / f"seen-{r}").read_text())]
    assert sorted(s for s in seen if s in samples) == sorted([*samples, *samples]), "once in each of two epochs"


@pytest.mark.slow
def test_a_rank_is_killed_and_the_job_goes_on_to_the_same_bits(job) -> None:
    pace = {"save_strategy": "steps", "save_steps": 7, "num_train_epochs": 20, "gradient_accumulation_steps": 2}
    given = {
        **GIVEN,
        **pace,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 4,
        "lora_config": {"r": 4, "lora_dropout": 0.1},
    }
    whole = job("whole", 2, **given)
    expected = whole.finish()
    cut = job("cut", 2, **given)
    run = cut.start()
    killed_at = kill_a_rank_at(run, 30)
    assert run.wait(120) == 129, "to be started again"
    assert not (cut.workspace / "output" / "model").exists()
    events = cut.finish()
    assert [e["resumed_from"] for e in events if e["event"] == "start"] == [killed_at // 7 * 7]
    assert losses(events)
    assert losses(events).items() <= losses(expected).items()
    assert evaluations(events) == evaluations(expected)[-len(evaluations(events)) :]
    assert all(torch.equal(cut.weights[name], w) for name, w in whole.weights.items())


@pytest.mark.slow
def test_ranks_that_are_told_to_end_leave_a_checkpoint_of_one_step(job) -> None:
    given = {**GIVEN, **LORA, **PACKED, "num_train_epochs": 6, "per_device_train_batch_size": 3}
    whole = job("whole", 2, **given)
    whole.finish()
    cut = job("cut", 2, **given)
    last = cut.be_told_to_end()
    events = cut.finish()
    assert [e["resumed_from"] for e in events if e["event"] == "start"] == [last]
    assert all(torch.equal(cut.weights[name], w) for name, w in whole.weights.items())


def kill_a_rank_at(run: subprocess.Popen[str], step: int) -> int:
    """Kill -9 rank 1 once the step is made; the last step that was."""
    last, victim = 0, None
    for line in run.stdout:
        event = parse_event(line)
        if isinstance(event, Step):
            last = event.step
            if victim is None and last >= step:
                ranks = psutil.Process(run.pid).children(recursive=True)
                victim = next(p for p in ranks if p.environ().get("RANK") == "1")
                victim.kill()
    assert victim is not None
    return last


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_the_job_for_good(job) -> None:
    bad = job("bad", 2, **{**GIVEN, "learning_rate": 1e30, "max_grad_norm": 0.0})
    run = bad.start()
    run.communicate(timeout=400)
    assert run.returncode == 64
    assert "the loss became nan" in bad.message


RESUMES = """
import sys
from collections.abc import Callable
from pathlib import Path
import torch
from tunewright.providers.base import TrainRun
from tunewright_hf.distributed import check_same_checkpoint

torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
resume = Path(sys.argv[1 + rank])
check_same_checkpoint(TrainRun(output=Path(), rank=rank, world_size=2, resume_from=resume, emit=print))
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_ranks_that_fetched_different_checkpoints_do_not_train_apart(tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text(RESUMES)
    torchrun = [Path(sys.executable).with_name("torchrun"), "--standalone", "--nproc-per-node=2", tmp_path / "rank.py"]
    command = [*torchrun, "checkpoint-10", "checkpoint-20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode != 0
    assert "rank 1 from checkpoint-20" in done.stderr


@pytest.mark.slow
def test_two_workers_of_two_processes_make_the_same_training(
    train, qa: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunewright import JobState, TrainingClient

    monkeypatch.setenv("TUNEWRIGHT_HOME", str(tmp_path / "home"))
    given = {**GIVEN, **LORA}
    alone = train(tmp_path / "alone", qa, **given, per_device_train_batch_size=GLOBAL_BATCH)
    job = TrainingClient("local").train(
        "several",
        model=str(model_folder),
        dataset=str(qa),
        trainer={"provider": "hf", **given, "per_device_train_batch_size": GLOBAL_BATCH // 4},
        num_workers=2,
        num_procs_per_worker=2,
        storage={"access_modes": ["ReadWriteMany"]},
        env={"OMP_NUM_THREADS": "1"},
    )
    assert job.wait(timeout=400).state is JobState.SUCCEEDED
    events = [event.to_dict() for event in job.events()]
    assert [e["world_size"] for e in events if e["event"] == "start"] == [4]
    assert losses(events) == pytest.approx(alone.losses, abs=1e-5)
    assert evaluations(events) == pytest.approx([e["eval_loss"] for e in alone.of("eval")], abs=1e-5)
    saved = safetensors.load_file(Path(job.result) / "adapter_model.safetensors")
    expected = safetensors.load_file(alone.result / "adapter_model.safetensors")
    assert max((saved[name] - w).abs().max() for name, w in expected.items()) < 1e-4, "Adam makes more of rounding"
