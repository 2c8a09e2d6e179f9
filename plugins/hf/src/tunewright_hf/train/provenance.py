"""The record of a training: what somebody needs to repeat it. It is in each checkpoint, and in the result's card."""

from __future__ import annotations

import importlib.metadata
import logging
import platform

import torch
import transformers

from tunewright.events import Json
from tunewright.providers import TrainRun
from tunewright_hf.data.prepare import Prepared
from tunewright_hf.data.streaming import Stream

logger = logging.getLogger(__name__)

_LIBRARIES = ("tunewright-hf", "transformers", "peft", "torch", "accelerate", "datasets", "tokenizers")


def record(args: transformers.TrainingArguments, data: Prepared, run: TrainRun) -> dict[str, Json]:
    """Seeds, the data and its order, the shape of a step, and versions.

    With the order "random", that of an epoch is drawn from `data_seed` and the epoch's number, and is the same for any
    number of processes. `data` is a digest of the samples, in the dataset's order; of a stream, of its files' names and sizes
    and of how they are read.
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
