"""DeepSpeed: complete its configuration, and refuse early what it would fail at late."""

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
    """Return the configuration, with "auto" for settings that TrainingArguments has, too.

    Without them DeepSpeed would neither accumulate nor clip gradients, nor save what ZeRO stage 3 has sharded.

    Args:
        given: the user's TrainingArguments, in which `deepspeed` is a dict or the path of a JSON file.

    Raises:
        RequestError: DeepSpeed is not installed, the file cannot be read, or a training could not be resumed or saved.
    """
    if importlib.util.find_spec("deepspeed") is None:
        remedy = "Use a trainer image that has deepspeed, or give fsdp=True, which needs no other library."
        raise RequestError("is not installed where the training runs", field="deepspeed", remedy=remedy)
    if given.get("save_only_model"):
        remedy = "Leave save_only_model out: DeepSpeed resumes from the optimizer's files."
        raise RequestError("does not work with DeepSpeed", field="save_only_model", value=True, remedy=remedy)
    config = _read(given["deepspeed"])
    stage = config.setdefault("zero_optimization", {})
    if not isinstance(stage, dict) or stage.setdefault("stage", 2) not in (0, 1, 2, 3):
        raise RequestError(
            "is not a ZeRO configuration", field="deepspeed.zero_optimization", value=stage, remedy='Give {"stage": 2}.'
        )
    for name in _AUTO:
        config.setdefault(name, "auto")
    for name in ("bf16", "fp16"):
        config.setdefault(name, {"enabled": "auto"})
    if stage["stage"] == 3 and not stage.setdefault(_GATHER, True):  # noqa: PLR2004 - DeepSpeed's own number
        remedy = "Leave it out. Without it the result would have no weights."
        raise RequestError("must be true to save the result", field=f"deepspeed.{_GATHER}", value=False, remedy=remedy)
    return config


def _read(value: object) -> dict[str, Json]:
    if isinstance(value, Mapping):
        return dict(copy.deepcopy(value))
    try:
        return dict(json.loads(Path(str(value)).read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        remedy = "Give the configuration itself, as a mapping, or the path of a JSON file in the trainer's image."
        raise RequestError(f"cannot be read: {error}", field="deepspeed", value=value, remedy=remedy) from error


def check_start(args: transformers.TrainingArguments, world_size: int, resume_from: Path | None) -> None:
    """Refuse what DeepSpeed would fail at when the model is loaded. Call it on every rank.

    Raises:
        RequestError: no compiler for its operators is installed, or the checkpoint has another number of processes.
    """
    if not args.deepspeed:
        return
    if args.device.type == "cpu" and sys.platform == "linux":  # elsewhere it compiles nothing
        compiler = (os.environ.get("CXX") or "c++").split()[0]
        missing = [name for name in (compiler, "ninja") if shutil.which(name) is None]
        if missing:
            remedy = f"Use a trainer image that has {' and '.join(missing)}, or give fsdp=True."
            problem = f"compiles operators for CPUs, and {missing[0]} is not installed"
            raise RequestError(problem, field="deepspeed", remedy=remedy)
        if args.process_index == 0:
            logger.warning("DeepSpeed compiles an operator before its first step on a CPU, which may take minutes")
    if resume_from is not None and (file := resume_from / FILE).is_file():
        before = json.loads(file.read_text("utf-8")).get("processes")
        if before not in (None, world_size):
            problem = (
                f"cannot resume from {resume_from.name} with {world_size} processes, as {before} processes wrote it"
            )
            raise RequestError(problem, field="deepspeed", remedy=f"Start the job with {before} processes.")
