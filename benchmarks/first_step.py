"""`python -m benchmarks.first_step`: how long it takes to the end of the first step, ours beside TRL.

`ours` is what the local backend starts once the inputs are there: `run`, torchrun, the check, the training. `ours_exec` is the same
with the torchrun of an image, which starts each rank anew. `cli` is `tunewright train` itself, from the command line to the first
step, its inputs fetched and verified. TRL is started by torchrun (`trl`), which several processes need, and as a plain Python script
(`trl_python`), which is enough for one. All arms train the same model on the same documents, in turn, from compiled modules.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

from transformers import TrainerCallback

from benchmarks.timing import machine
from benchmarks.train import Plan, compile_modules, job, our_environment
from benchmarks.train_inputs import write_inputs
from tunewright.backends.local.env import write_programs
from tunewright.environment import CHECK_BY_RANK

_ROOT = Path(__file__).absolute().parents[1]
_RANK = Path(__file__).with_name("train_rank.py").absolute()
_FILE = "BENCHMARK_FIRST_STEP"
_CLOCK = "benchmarks.first_step:FirstStep"
_OURS = ("-m", "tunewright_launcher", "train")

Environment = dict[str, str]


class FirstStep(TrainerCallback):
    """Writes down when the first step has ended."""

    def on_step_end(self, *_: object, **__: object) -> None:
        """Write it, once."""
        file = Path(os.environ[_FILE])
        if not file.exists():
            file.write_text(repr(time.time()), "utf-8")


def _torchrun(plan: Plan) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={plan.procs}"]


def _in_container(plan: Plan, told: Mapping[str, object], workspace: Path) -> Environment:
    """Return the variables of a container whose trainer has our clock."""
    env = our_environment(plan, told, workspace)
    file = workspace / "config" / "trainer.json"
    document = json.loads(file.read_text("utf-8"))
    document["params"]["callbacks"] = [_CLOCK]
    file.write_text(json.dumps(document), "utf-8")
    return env


def _ours(plan: Plan, told: Mapping[str, object], workspace: Path) -> tuple[list[str], Environment]:
    programs = workspace / "programs"
    write_programs(programs)
    env = _in_container(plan, told, workspace) | {CHECK_BY_RANK: "1"}
    torchrun = [str(programs / "torchrun"), *_torchrun(plan)[3:]]
    return [sys.executable, "-m", "tunewright_launcher", "run", "--", *torchrun, *_OURS], env


def _ours_exec(plan: Plan, told: Mapping[str, object], workspace: Path) -> tuple[list[str], Environment]:
    command = [sys.executable, "-m", "tunewright_launcher", "run", "--", *_torchrun(plan), *_OURS]
    return command, _in_container(plan, told, workspace)


def _cli(plan: Plan, told: Mapping[str, object], workspace: Path) -> tuple[list[str], Environment]:
    trainer = {
        "provider": "hf",
        "lora_config": {"r": 8},
        "callbacks": [_CLOCK],
        "training_parameters": {
            "num_train_epochs": 1,
            "save_strategy": "no",
            "per_device_train_batch_size": told["packs"],
        },
        "data": {"packing": True, "max_length": told["max_length"]},
    }
    document = {"name": "first", "model": told["model"], "dataset": told["dataset"], "trainer": trainer}
    file = workspace / "first.yaml"
    file.write_text(json.dumps({**document, "num_procs_per_worker": plan.procs}), "utf-8")
    command = [str(Path(sys.executable).with_name("tunewright")), "train", str(file), "--backend", "local"]
    return command, {"TUNEWRIGHT_HOME": str(workspace / "home"), "TUNEWRIGHT_CACHE": "off"}


def _trl(plan: Plan, _: Mapping[str, object], workspace: Path) -> tuple[list[str], Environment]:
    return [*_torchrun(plan), str(_RANK), "trl_tuned", str(workspace / "job.json")], {}


def _trl_python(_: Plan, __: Mapping[str, object], workspace: Path) -> tuple[list[str], Environment]:
    return [sys.executable, str(_RANK), "trl_tuned", str(workspace / "job.json")], {}


Command = Callable[[Plan, Mapping[str, object], Path], tuple[list[str], Environment]]
ARMS: Mapping[str, Command] = {
    "ours": _ours,
    "ours_exec": _ours_exec,
    "cli": _cli,
    "trl": _trl,
    "trl_python": _trl_python,
}


def run(arm: str, plan: Plan, inputs: Path, workspace: Path) -> float:
    """Train once; return the seconds from the command to the end of the first step.

    Raises:
        RuntimeError: the training failed.
    """
    shutil.rmtree(workspace, ignore_errors=True)
    workspace.mkdir(parents=True)
    told = job(plan, inputs, workspace)
    (workspace / "job.json").write_text(json.dumps(told), "utf-8")
    command, own = ARMS[arm](plan, told, workspace)
    clock = workspace / "first-step"
    env = {**os.environ, "OMP_NUM_THREADS": str(plan.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    env |= {"HF_DATASETS_CACHE": str(workspace / "cache"), "PYTHONPATH": str(_ROOT), _FILE: str(clock), **own}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    log = workspace / "log"
    with log.open("wb") as output:
        began = time.time()
        code = subprocess.run(command, env=env, stdout=output, stderr=output, cwd=workspace, check=False).returncode
    if code:
        raise RuntimeError(f"{arm} failed: {log.read_text('utf-8', errors='replace')[-3000:]}")
    if clock.is_file():
        return float(clock.read_text("utf-8")) - began
    steps: list[dict[str, float]] = json.loads((workspace / "clock-0.json").read_text("utf-8"))["steps"]
    return steps[0]["time"] - began


def measure(plan: Plan, folder: Path) -> dict[str, list[float]]:
    """All arms in turn, round by round.

    Raises:
        RuntimeError: an arm failed.
    """
    seconds: dict[str, list[float]] = {arm: [] for arm in plan.arms}
    compile_modules()
    inputs = folder / "inputs"
    inputs.mkdir()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(write_inputs, inputs, plan.setting, dtype=plan.dtype).result()
    for number in range(plan.repeats):
        for arm in plan.arms:
            seconds[arm].append(run(arm, plan, inputs, folder / arm))
            print(f"round {number + 1}: {arm:12} {seconds[arm][-1]:6.2f} s", flush=True)
    return seconds


def ratios(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Which part of each arm's time ours takes: the median of the rounds."""
    others = [arm for arm in seconds if arm != "ours"]
    return {arm: median(o / t for o, t in zip(seconds["ours"], seconds[arm], strict=True)) for arm in others}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--procs", type=int, choices=(1, 2), default=1, help="ranks")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    threads = max(1, (os.cpu_count() or 1) // options.procs)
    arms = tuple(arm for arm in ARMS if arm != "trl_python" or options.procs == 1)
    shape = {"device": "cpu", "size": "small", "procs": options.procs, "threads": threads, "epochs": 1}
    plan = Plan(**shape, repeats=options.repeats, arms=arms)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        seconds = measure(plan, Path(folder))
    found = ratios(seconds)
    for arm, values in seconds.items():
        low, *_, high = sorted(values) if len(values) > 1 else values * 2
        share = f"   ours takes {found[arm]:.2f} of it" if arm in found else ""
        print(f"{arm:12} {median(values):6.2f} s   ({low:.2f} to {high:.2f}){share}")
    if options.json:
        print(json.dumps({"settings": {**machine(), **shape}, "seconds": seconds, "ratios": found}))


if __name__ == "__main__":
    main()
