"""DeepSpeed: what its configuration leaves open, and what it does not say itself until it is too late."""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import transformers

from tunewright.errors import RequestError
from tunewright.events import Json
from tunewright_hf.train.checkpoints import FILE

logger = logging.getLogger(__name__)

_GATHER = "stage3_gather_16bit_weights_on_model_save"
_AUTO = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")


def configuration(given: Mapping[str, object]) -> dict[str, Json]:
    """The configuration, with what TrainingArguments say where it says nothing.

    DeepSpeed would accumulate and clip nothing where these are left out, and not save what stage 3 has sharded.

    Args:
        given: the user's TrainingArguments, of which `deepspeed` is a dict or the path of a JSON file.

    Raises:
        RequestError: DeepSpeed is not there, the file cannot be read, or a training could not be resumed or saved.
    """
    if importlib.util.find_spec("deepspeed") is None:
        remedy = "Use a trainer image that has deepspeed, or give fsdp=True, which needs no other library."
        raise RequestError("is not installed where the training runs", field="deepspeed", remedy=remedy)
    if given.get("save_only_model"):
        remedy = "Leave save_only_model out: DeepSpeed resumes from the optimizer's files alone."
        raise RequestError("does not work with DeepSpeed", field="save_only_model", value=True, remedy=remedy)
    config = _read(given["deepspeed"])
    stage = config.setdefault("zero_optimization", {})
    if not isinstance(stage, dict) or stage.setdefault("stage", 2) not in (0, 1, 2, 3):
        raise RequestError(
            "is no ZeRO configuration", field="deepspeed.zero_optimization", value=stage, remedy='Give {"stage": 2}.'
        )
    for name in _AUTO:
        config.setdefault(name, "auto")
    for name in ("bf16", "fp16"):
        config.setdefault(name, {"enabled": "auto"})
    if stage["stage"] == 3 and not stage.setdefault(_GATHER, True):  # noqa: PLR2004 - DeepSpeed's own number
        remedy = "Leave it out, or the result would have no weights."
        raise RequestError("is needed to save the result", field=f"deepspeed.{_GATHER}", value=False, remedy=remedy)
    return config


def _read(value: object) -> dict[str, Json]:
    if isinstance(value, Mapping):
        return dict(copy.deepcopy(value))
    try:
        return dict(json.loads(Path(str(value)).read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        remedy = "Give the configuration itself, as a mapping, or a JSON file of the trainer's image."
        raise RequestError(f"cannot be read: {error}", field="deepspeed", value=value, remedy=remedy) from error


def check_start(args: transformers.TrainingArguments, world_size: int, resume_from: Path | None) -> None:
    """Refuse what DeepSpeed would fail at when the model is loaded; called on every rank.

    Raises:
        RequestError: there is nothing to compile its operators with, or other ranks made the checkpoint.
    """
    if not args.deepspeed:
        return
    if args.device.type == "cpu" and sys.platform == "linux":  # elsewhere it does without
        compiler = (os.environ.get("CXX") or "c++").split()[0]
        missing = [name for name in (compiler, "ninja") if shutil.which(name) is None]
        if missing:
            remedy = f"Use a trainer image that has {' and '.join(missing)}, or give fsdp=True."
            problem = f"compiles its operators on CPUs, and {missing[0]} is not installed"
            raise RequestError(problem, field="deepspeed", remedy=remedy)
        if args.process_index == 0:
            logger.warning("DeepSpeed compiles an operator before its first step on a CPU, which may take minutes")
    if resume_from is not None and (file := resume_from / FILE).is_file():
        before = json.loads(file.read_text("utf-8")).get("processes")
        if before not in (None, world_size):
            problem = f"cannot resume from {resume_from.name}, which {before} processes made, with {world_size}"
            raise RequestError(problem, field="deepspeed", remedy=f"Start the job with {before} processes.")
