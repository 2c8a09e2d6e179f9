"""`python -m benchmarks.train`: LoRA on short documents, ours beside TRL and what the trainer of kubeflow-training 1.9 does.

All arms train the same random model on the same documents, with the same learnt tokens, adapter and learning rate, started by
torchrun, in turn, from modules that are compiled beforehand. The loss on held-out documents, computed afterwards from each
adapter by plain PEFT, must come out equal. What is compared is trained on tokens per second between the ends of the first and
the last step. Ratios above 1 mean that we are faster: the median of the rounds' ratios. On a machine that others use, look at
the same for seconds of processor time, with `--threads 1`: threads that wait for each other spin. `--ablate` adds arms of ours
that each go without one of our layers.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple

import attrs

from benchmarks.ablations import LAYERS, PREFIX
from benchmarks.timing import machine
from benchmarks.train_inputs import SETTINGS, Setting, held_out_loss, write_inputs
from tunewright.environment import MAX_RESTARTS, WORLD_SIZE, Paths
from tunewright.providers import wire

ARMS = ("ours", "trl_tuned", "trl_segment", "trl_default", "sdk_1_9")
ABLATED = tuple(PREFIX + layer for layer in LAYERS)
_RANK = Path(__file__).with_name("train_rank.py").absolute()
_MOST_LEARNT_APART = 0.25  # of what was learnt most: arms put other documents together in a step
_LEAST_LEARNT = 0.02  # nats; with less the losses would tell nothing

# Best of some products, so that it is what the machine can do.
_MATMUL = """
import sys, time, torch
device, dtype, size, threads = sys.argv[1], getattr(torch, sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
def product():
    began = time.perf_counter()
    a @ b
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began
print(2 * size**3 / min(product() for _ in range(12)))
"""


@attrs.frozen(kw_only=True)
class Plan:
    """What is measured.

    Attributes:
        device: "cpu" or "cuda".
        size: of `SETTINGS`.
        procs: ranks.
        threads: of each rank.
        epochs: how often the documents are seen.
        repeats: rounds.
        arms: in the order of a round.
    """

    device: str
    size: str
    procs: int
    threads: int
    epochs: int
    repeats: int
    arms: tuple[str, ...]

    @property
    def setting(self) -> Setting:
        """The model and the data."""
        return SETTINGS[self.size]

    @property
    def dtype(self) -> str:
        """Of the model on disk, and of the products."""
        return "bfloat16" if self.device == "cuda" else "float32"


class Run(NamedTuple):
    """One training.

    Attributes:
        rate: learnt tokens per second, from the end of the first step to that of the last.
        cpu_rate: learnt tokens per second of processor time of all ranks, meanwhile.
        tokens: learnt tokens, of all steps and ranks.
        first_step: seconds from torchrun's start to the end of the first step.
        wall: seconds from torchrun's start to its end.
        peak: bytes, of the rank that needed most; on a GPU of its memory.
        others: processors that other processes kept busy meanwhile.
        loss: on the held-out documents.
        untrained: the same before the training.
    """

    rate: float
    cpu_rate: float
    tokens: int
    first_step: float
    wall: float
    peak: int
    others: float
    loss: float
    untrained: float = float("nan")


def compile_modules() -> None:
    """Compile all installed modules, as those of an image are: uv leaves them to whoever imports them first."""
    folder = sysconfig.get_path("purelib")
    subprocess.run([sys.executable, "-m", "compileall", "-qq", "-j0", folder], check=False)  # some are templates


def job(plan: Plan, inputs: Path, workspace: Path) -> dict[str, object]:
    """What a rank is told; the batch is that of all ranks together."""
    setting = plan.setting
    return {
        "workspace": str(workspace),
        "model": str(inputs / "model"),
        "dataset": str(inputs / "dataset"),
        "device": plan.device,
        "bf16": plan.device == "cuda",
        "threads": plan.threads,
        "epochs": plan.epochs,
        "learning_rate": setting.learning_rate,
        "max_length": setting.max_length,
        "packs": max(1, setting.packs // plan.procs),
        "micro_batch": min(setting.micro_batch, setting.batch // plan.procs),
        "accumulation": max(1, setting.batch // plan.procs // setting.micro_batch),
    }


def our_environment(plan: Plan, told: Mapping[str, object], workspace: Path) -> dict[str, str]:
    """Write a job's configuration as a backend does; returns the variables that a container gets."""
    from tunewright_hf import HuggingFaceTrainParams

    params = HuggingFaceTrainParams(
        training_parameters={
            "learning_rate": told["learning_rate"],
            "num_train_epochs": told["epochs"],
            "per_device_train_batch_size": told["packs"],
            "save_strategy": "no",
            "logging_steps": 10,
            "seed": 1,
        },
        lora_config={"r": 8},
        data={"packing": True, "max_length": told["max_length"]},
    )
    names = {f.name: workspace / f".{f.name}" for f in attrs.fields(Paths) if f.name != "elsewhere"}
    paths = Paths(**{**names, "workspace": workspace, "config": workspace / "config"})
    for folder in (paths.run, paths.config, workspace / "output"):
        folder.mkdir()
    for slot in ("model", "dataset"):
        (workspace / slot).symlink_to(str(told[slot]))
    document = wire.WireDocument(
        kind="trainer",
        provider="hf",
        distribution="tunewright-hf",
        version=version("tunewright-hf"),
        params=wire.unstructure(params, "trainer"),
    )
    (paths.config / "trainer.json").write_text(document.dumps(), "utf-8")
    return {**paths.to_env(), WORLD_SIZE: str(plan.procs), MAX_RESTARTS: "0"}


def is_ours(arm: str) -> bool:
    """Whether an arm is ours, or ours without a layer."""
    return arm == "ours" or arm in ABLATED


def run(arm: str, plan: Plan, inputs: Path, workspace: Path) -> Run:
    """Train once.

    Raises:
        RuntimeError: it failed.
    """
    shutil.rmtree(workspace, ignore_errors=True)
    workspace.mkdir(parents=True)
    told = job(plan, inputs, workspace)
    (workspace / "job.json").write_text(json.dumps(told), "utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={plan.procs}"]
    command = [*torchrun, str(_RANK), arm, str(workspace / "job.json")]
    env = {**os.environ, "OMP_NUM_THREADS": str(plan.threads), "HF_HUB_OFFLINE": "1"}
    env |= {"HF_DATASETS_CACHE": str(workspace / "cache"), "TOKENIZERS_PARALLELISM": "false"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    if is_ours(arm):
        env |= our_environment(plan, told, workspace)
        command = [sys.executable, "-m", "tunewright_launcher", "run", "--", *command]
    log = workspace / "log"
    with log.open("wb") as output:
        began = time.time()
        code = subprocess.run(command, env=env, stdout=output, stderr=output, cwd=workspace, check=False).returncode
        wall = time.time() - began
    if code:
        raise RuntimeError(f"{arm} failed: {log.read_text('utf-8', errors='replace')[-3000:]}")
    return read(workspace, plan, began, wall)


def read(workspace: Path, plan: Plan, began: float, wall: float) -> Run:
    """What the ranks wrote down."""
    ranks = [json.loads((workspace / f"clock-{rank}.json").read_text("utf-8")) for rank in range(plan.procs)]
    first, last = ([rank["steps"][at] for rank in ranks] for at in (0, -1))
    seconds = last[0]["time"] - first[0]["time"]
    gained = {key: sum(e[key] - b[key] for b, e in zip(first, last, strict=True)) for key in ("tokens", "cpu")}
    machine_busy = last[0]["machine"] - first[0]["machine"]
    return Run(
        rate=gained["tokens"] / seconds,
        cpu_rate=gained["tokens"] / gained["cpu"],
        tokens=sum(rank["tokens"] for rank in last),
        first_step=first[0]["time"] - began,
        wall=wall,
        peak=max(rank["device_peak"] or rank["peak"] for rank in ranks),
        others=max(0.0, (machine_busy - gained["cpu"]) / seconds),
        loss=float("nan"),
    )


def matmul_rate(plan: Plan) -> float:
    """FLOP/s of square matrix products, of all ranks' threads together."""
    size, dtype = ("8192", plan.dtype) if plan.device == "cuda" else ("2048", plan.dtype)
    command = [sys.executable, "-c", _MATMUL, plan.device, dtype, size, str(plan.threads)]
    env = {**os.environ, "OMP_NUM_THREADS": str(plan.threads)}
    running = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(plan.procs)]
    return sum(float(process.communicate()[0]) for process in running)


def measure(plan: Plan, folder: Path) -> tuple[dict[str, list[Run]], list[float]]:
    """All arms in turn, round by round, each round with its matrix products.

    Args:
        plan: what to measure.
        folder: to work in; a model that is there is used again, as it takes minutes to write a large one.

    Raises:
        RuntimeError: an arm failed.
    """
    runs: dict[str, list[Run]] = {arm: [] for arm in plan.arms}
    products = []
    compile_modules()
    # In a process of its own: a child's peak memory is never counted below its parent's.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        inputs = folder / "inputs"
        inputs.mkdir(exist_ok=True)
        pool.submit(write_inputs, inputs, plan.setting, dtype=plan.dtype).result()
        untrained = pool.submit(held_out_loss, inputs, None, plan.device).result()
        for number in range(plan.repeats):
            products.append(matmul_rate(plan))
            for arm in plan.arms:
                workspace = folder / arm
                found = run(arm, plan, inputs, workspace)
                if not number:  # later rounds train the same
                    adapter = workspace / "output" / "model"
                    loss = pool.submit(held_out_loss, inputs, adapter, plan.device).result()
                    found = found._replace(loss=loss, untrained=untrained)
                runs[arm].append(found)
                print(
                    f"round {number + 1}: {arm:22} {found.rate:8.0f} tokens/s, {found.cpu_rate:8.0f} a CPU s",
                    flush=True,
                )
    return runs, products


def check_equal(runs: Mapping[str, Sequence[Run]]) -> None:
    """Whether the arms' rates may be compared.

    Raises:
        RuntimeError: one learnt other tokens than the others, or more or less from them; or none learnt anything.
    """
    tokens = {arm: found[0].tokens for arm, found in runs.items()}
    learnt = {arm: found[0].untrained - found[0].loss for arm, found in runs.items()}
    if len(set(tokens.values())) > 1:
        raise RuntimeError(f"the arms learnt different numbers of tokens: {tokens}")
    most = max(learnt.values())
    if not most >= _LEAST_LEARNT:  # NaN is nothing, too
        raise RuntimeError(f"no arm learnt enough for a comparison: the loss fell by {learnt}")
    if not all(most - fell <= _MOST_LEARNT_APART * most for fell in learnt.values()):
        raise RuntimeError(f"the arms did not learn the same: the loss fell by {learnt}")


def ratio(runs: Mapping[str, Sequence[Run]], arm: str, field: str) -> float:
    """How many times an arm's number ours is: the median of the rounds."""
    pairs = zip(runs["ours"], runs[arm], strict=True)
    return median(getattr(ours, field) / getattr(theirs, field) for ours, theirs in pairs)


def show(plan: Plan, runs: Mapping[str, Sequence[Run]], products: Sequence[float]) -> None:
    """Print a row for each arm."""
    title = f"{plan.size}, {plan.device}, {plan.procs} x {plan.threads} threads"
    columns = "tokens/s  (least to most)  of matmul  times   a CPU s  times   1st step s  wall s   MB peak  others' CPUs  loss"
    print(f"\n{title:28} {columns}")
    for arm, found in runs.items():
        rates = sorted(r.rate for r in found)
        share = median(r.rate * plan.setting.flops / p for r, p in zip(found, products, strict=True))
        spread = f"({rates[0]:.0f} to {rates[-1]:.0f})"
        fields = ("cpu_rate", "first_step", "wall", "others")
        cpu_rate, first, wall, others = (median(getattr(r, name) for r in found) for name in fields)
        speed = f"{median(rates):8.0f}  {spread:16} {share:9.1%}  {ratio(runs, arm, 'rate'):5.2f}"
        cost = f"{cpu_rate:8.0f}  {ratio(runs, arm, 'cpu_rate'):5.2f}   {first:10.1f}  {wall:6.1f}"
        peak = max(r.peak for r in found) / 1e6
        print(f"{arm:28} {speed}  {cost}  {peak:8.0f}  {others:12.2f}  {found[0].loss:.3f}")
    print(f"{'matrix products':28} {median(products) / 1e9:8.0f} GFLOP/s")


def as_json(plan: Plan, runs: Mapping[str, Sequence[Run]], products: Sequence[float]) -> str:
    """One line; medians and spreads are of learnt tokens per second."""
    rates = {arm: sorted(r.rate for r in found) for arm, found in runs.items()}
    others = [arm for arm in runs if arm != "ours"]
    settings = {**machine(), **attrs.asdict(plan), "load": os.getloadavg(), "matmul_flops": median(products)}
    found = {
        "settings": settings,
        "medians": {arm: median(values) for arm, values in rates.items()},
        "spreads": {arm: [values[0], values[-1]] for arm, values in rates.items()},
        "others_cpus": {arm: median(r.others for r in of) for arm, of in runs.items()},
        "cpu_ratios": {arm: ratio(runs, arm, "cpu_rate") for arm in others},
        "ratios": {arm: ratio(runs, arm, "rate") for arm in others},
    }
    return json.dumps(found)


def ablated(layers: Sequence[str] | None) -> tuple[str, ...]:
    """The arms that `--ablate` asks for; without names it is all of them."""
    return () if layers is None else tuple(PREFIX + layer for layer in layers or LAYERS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", choices=SETTINGS, help="default: small; on cuda 8b")
    parser.add_argument("--procs", type=int, choices=(1, 2), default=1, help="ranks, which share the processors")
    parser.add_argument("--threads", type=int, help="of each rank (default: the processors, shared)")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip", nargs="*", default=(), choices=ARMS[1:], help="arms to leave out")
    parser.add_argument("--ablate", nargs="*", choices=LAYERS, help="arms of ours without one layer: all, or these")
    options = parser.parse_args(arguments)
    plan = Plan(
        device=options.device,
        size=options.size or ("8b" if options.device == "cuda" else "small"),
        procs=options.procs,
        threads=options.threads or max(1, (os.cpu_count() or 1) // options.procs),
        epochs=options.epochs,
        repeats=options.repeats,
        arms=(*(arm for arm in ARMS if arm not in options.skip), *ablated(options.ablate)),
    )
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        runs, products = measure(plan, Path(folder))
    show(plan, runs, products)
    if options.json:
        print(as_json(plan, runs, products))
    check_equal(runs)


if __name__ == "__main__":
    main()
