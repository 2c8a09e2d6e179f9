"""Record what is needed to repeat a training run. Each checkpoint and the model card contain it."""

from __future__ import annotations

import importlib.metadata
import platform

import torch
import transformers

from tunewright.events import Json
from tunewright.providers import TrainRun
from tunewright_hf.data.prepare import Prepared
from tunewright_hf.data.streaming import Stream

_LIBRARIES = ("tunewright-hf", "transformers", "peft", "torch", "accelerate", "datasets", "tokenizers")


def record(args: transformers.TrainingArguments, data: Prepared, run: TrainRun) -> dict[str, Json]:
    """Return seeds, the data and its order, the size of a step, and versions.

    With the order "random", an epoch's order depends on `data_seed` and the epoch's number, and not on the number of
    processes. `data` is a digest of the samples in the dataset's order; for a stream, of the names and sizes of its files and
    of how they are read.
    """
    return {
        "seed": args.seed,
        "data_seed": args.seed if args.data_seed is None else args.data_seed,
        "order": str(args.train_sampling_strategy),
        "data": data.digest,
        "streaming": isinstance(data.train, Stream),
        "processes": run.world_size,
        "samples_in_a_step": args.train_batch_size * run.world_size * args.gradient_accumulation_steps,
        "device": torch.cuda.get_device_name() if args.device.type == "cuda" else args.device.type,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _LIBRARIES},
    }
