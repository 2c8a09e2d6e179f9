"""The record of a training: what somebody needs to repeat it. It is in each checkpoint, and in the result's card."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
from collections.abc import Mapping

import torch
import transformers

from tunewright.events import Json
from tunewright.providers import TrainRun
from tunewright_hf.callbacks import checkpoint_folder
from tunewright_hf.data import Prepared
from tunewright_hf.stream import Stream

logger = logging.getLogger(__name__)

FILE = "record.json"
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


class Recorded(transformers.TrainerCallback):  # type: ignore[misc]
    """Writes the record into each checkpoint, and tells what is another than in the one that is resumed from."""

    def __init__(self, run: TrainRun, now: Mapping[str, Json]) -> None:
        self._run = run
        self._now = now

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Warn of what makes other bits than without the interruption."""
        if self._run.rank == 0 and self._run.resume_from and (file := self._run.resume_from / FILE).is_file():
            before = json.loads(file.read_text(encoding="utf-8"))
            for name in sorted(name for name in self._now if before.get(name) != self._now[name]):
                came = self._run.resume_from.name
                logger.warning("%s was made with %s %s, now %s", came, name, before.get(name), self._now[name])

    def on_save(
        self, args: transformers.TrainingArguments, state: transformers.TrainerState, *_: object, **__: object
    ) -> None:
        """Write it beside the weights."""
        if self._run.rank == 0:
            file = checkpoint_folder(args, state) / FILE
            file.write_text(json.dumps(self._now, indent=2), encoding="utf-8")
