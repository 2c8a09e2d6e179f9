"""`python -m benchmarks.train_gpu`: LoRA of a Llama-3 8B with random weights in bf16 on one GPU, ours beside TRL with packing.

Two workloads of `benchmarks.train`, whose arms and checks these are: documents that fill 4,096 tokens, and documents as short
as chats are. Told are learnt tokens per second and model FLOP/s utilisation: of the operations that the model needs, attention
included and without those of the adapter, over what the maker says that the GPU computes at most. A round takes five minutes
on an H100. `--device cpu --tiny` shows within minutes that everything runs; its share is of the measured matrix products.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.train import Plan, Run, as_json, check_equal, measure, show
from benchmarks.train_inputs import Setting, lengths

ARMS = ("ours", "trl_tuned")
LARGE, TINY = ("8b_full", "8b"), ("tiny_full", "tiny")  # each of one model
_PEAK = (
    "import torch; from tunewright_hf.train.throughput import peak_flops; print(peak_flops(torch.device('cuda')) or 0)"
)


def flops_per_token(setting: Setting) -> float:
    """Of frozen weights, forward and back to their inputs, and of attention: 12 for each layer, token seen and dimension."""
    documents, shape = lengths(setting), setting.shape
    seen = sum(n * (n + 1) / 2 for n in documents) / sum(documents)
    return setting.flops + 12 * shape["num_hidden_layers"] * shape["hidden_size"] * seen


def peak(device: str, products: Sequence[float]) -> float:
    """FLOP/s that the device computes at most: by its data sheet, or else as measured."""
    if device == "cuda":
        # Not in this process: a child's peak memory is never counted below its parent's.
        told = subprocess.run([sys.executable, "-c", _PEAK], capture_output=True, text=True, check=True).stdout
        if float(told):
            return float(told)
    return median(products)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both workloads, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to see that it runs")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip", nargs="*", default=(), choices=ARMS[1:], help="arms to leave out")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        found = {size: _measure(size, options, Path(folder)) for size in (TINY if options.tiny else LARGE)}
    if options.json:
        print(json.dumps({size: document for size, (document, _) in found.items()}))
    for _, runs in found.values():
        check_equal(runs)


def _measure(
    size: str, options: argparse.Namespace, folder: Path
) -> tuple[dict[str, object], Mapping[str, Sequence[Run]]]:
    plan = Plan(
        device=options.device,
        size=size,
        procs=1,
        threads=max(1, os.cpu_count() or 1),
        epochs=1,
        repeats=options.repeats,
        arms=tuple(arm for arm in ARMS if arm not in options.skip),
    )
    runs, products = measure(plan, folder)
    show(plan, runs, products)
    most = peak(options.device, products)
    rates = {arm: median(run.rate for run in of) for arm, of in runs.items()}
    mfu = {arm: rate * flops_per_token(plan.setting) / most for arm, rate in rates.items()}
    told = ", ".join(f"{arm} {share:.1%}" for arm, share in mfu.items())
    print(f"model FLOP/s utilisation, of {most / 1e12:.1f} TFLOP/s: {told}", flush=True)
    return {**json.loads(as_json(plan, runs, products)), "mfu": mfu, "peak_flops": most}, runs


if __name__ == "__main__":
    main()
