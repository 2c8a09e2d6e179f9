"""Build the real TrainingArguments, with defaults resolved for this machine."""

from __future__ import annotations

import dataclasses
import logging
import math
import typing
from collections.abc import Mapping
from pathlib import Path

import torch
import transformers
from transformers.integrations import get_available_reporting_integrations

from tunewright.errors import RequestError, did_you_mean
from tunewright_hf.config.library_arguments import construct
from tunewright_hf.config.train_params import TrainParams
from tunewright_hf.errors import as_request_error
from tunewright_hf.train import deepspeed
from tunewright_hf.train.extensions import arguments_class

logger = logging.getLogger(__name__)

# A restart loses at most a tenth of the run, or 500 steps. A run logs about a hundred times, and at least every 50 steps.
_SAVES, _MOST_STEPS_TO_SAVE = 10, 500
_LOGS, _MOST_STEPS_TO_LOG = 100, 50
_MOST_EVALUATED = 8  # samples at once, unless the user gives another number


def build_arguments(
    params: TrainParams, output: Path, *, evaluates: bool, defaults: Mapping[str, object] | None = None
) -> transformers.TrainingArguments:
    """Return the real TrainingArguments: the user's fields, then our defaults, then those of transformers.

    Args:
        params: the user's parameters.
        output: folder for the checkpoints.
        evaluates: whether there is data to evaluate on.
        defaults: further defaults.

    Raises:
        RequestError: transformers rejects them, or they ask for an evaluation without data.
    """
    given = dict(params.training_parameters)
    if not evaluates and given.get("eval_strategy", "no") != "no":
        remedy = "Give eval_dataset=…, or a dataset with a validation or test split, or leave eval_strategy out."
        value = given["eval_strategy"]
        raise RequestError("needs evaluation data", field="eval_strategy", value=value, remedy=remedy)
    if given.get("push_to_hub") and not given.get("hub_model_id"):
        remedy = "Give hub_model_id='org/name', or leave push_to_hub out."
        raise RequestError("needs a repository", field="push_to_hub", value=True, remedy=remedy)
    if given.get("deepspeed"):
        given["deepspeed"] = deepspeed.configuration(given)
    if params.early_stopping_patience is not None:
        _check_early_stopping(given, evaluates=evaluates)
        # A resumed training continues to count evaluations.
        given = {"load_best_model_at_end": True, "restore_callback_states_from_checkpoint": True, **given}
    _check_noise(given, packing=params.data.packing)
    ours = {
        "report_to": "kubeflow" if "kubeflow" in get_available_reporting_integrations() else "none",
        "disable_tqdm": True,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # transformers would log the last finite loss instead of NaN
        "save_total_limit": 2,
        # A step has room for as many. The size does not change eval_loss, which is a mean over tokens.
        "per_device_eval_batch_size": min(_MOST_EVALUATED, _number(given, "per_device_train_batch_size")),
        "eval_strategy": "epoch" if evaluates else "no",
        **_precision(given),
        **({"metric_for_best_model": "loss"} if given.get("save_strategy") == "best" else {}),
        **(defaults or {}),
    }
    ours |= _checkpoint_each_evaluation(given, ours)
    cls = arguments_class(params.transformer_class)
    own = dict(params.transformer_class_arguments)
    names = {f.name for f in dataclasses.fields(cls)}
    for name in own:
        if name not in names:
            field = f"transformer_class_arguments.{name}"
            raise RequestError(
                f"is not a field of {cls.__name__}", field=field, remedy=did_you_mean(name, sorted(names))
            )
    if "max_length" in names and params.data.max_length is not None:
        own.setdefault("max_length", params.data.max_length)
    with as_request_error("training_parameters", "Change the argument that it names."):
        return construct(cls, {**ours, **own, **given, "output_dir": str(output), "batch_eval_metrics": True})


def _check_noise(given: Mapping[str, object], *, packing: bool) -> None:
    value = given.get("neftune_noise_alpha")
    if value is not None and packing:
        problem = "is scaled by the length of a sample, which packed rows do not have"
        raise RequestError(problem, field="neftune_noise_alpha", value=value, remedy="Leave out either it or packing.")


def _check_early_stopping(given: Mapping[str, object], *, evaluates: bool) -> None:
    if not evaluates or given.get("eval_strategy") == "no" or given.get("load_best_model_at_end") is False:
        remedy = (
            "Give evaluation data, and leave eval_strategy and load_best_model_at_end out; or leave early stopping out."
        )
        raise RequestError("needs evaluations and the best checkpoint", field="early_stopping_patience", remedy=remedy)


def _checkpoint_each_evaluation(given: Mapping[str, object], ours: Mapping[str, object]) -> dict[str, object]:
    """Return defaults by which each evaluation has a checkpoint, so that the best one can be loaded at the end."""
    if not given.get("load_best_model_at_end"):
        return {}
    names = ("eval_steps", "logging_steps", "save_steps")  # transformers itself falls back from the first to the second
    steps = next((given[name] for name in names if given.get(name)), ours.get("logging_steps"))
    every = {"eval_steps": steps, "save_steps": steps} if steps else {}
    return {"save_strategy": given.get("eval_strategy", "epoch"), **every}


def _precision(given: Mapping[str, object]) -> dict[str, object]:
    """Return defaults for precision and device: bf16 on GPUs that support it, else fp32."""
    if not torch.cuda.is_available():
        return {"use_cpu": True, "bf16": False}  # some classes of arguments default to bf16
    chosen = any(given.get(name) is not None for name in ("bf16", "fp16"))
    supported = torch.cuda.is_bf16_supported(including_emulation=False)
    return {} if chosen or given.get("use_cpu") else {"bf16": supported}


def default_intervals(params: TrainParams, samples: int, world_size: int) -> dict[str, object]:
    """Return defaults for `logging_steps` and `save_steps`, by the length of the run."""
    given = params.training_parameters
    steps = total_steps(given, samples, world_size)
    logs = max(1, min(_MOST_STEPS_TO_LOG, steps // _LOGS))
    saves = max(1, min(_MOST_STEPS_TO_SAVE, math.ceil(steps / _SAVES)))
    return {"logging_steps": logs, "save_steps": saves}


def check_drop_last(args: transformers.TrainingArguments, samples: int) -> None:
    """Raise RequestError if incomplete batches are dropped and no batch is complete. `samples` is 0 if unknown."""
    batch = args.train_batch_size * args.world_size
    if args.dataloader_drop_last and 0 < samples < batch:
        problem = f"leaves nothing to train on: there are {samples} samples, and a batch of all processes takes {batch}"
        remedy = "Leave it out, or lower per_device_train_batch_size."
        raise RequestError(problem, field="dataloader_drop_last", value=True, remedy=remedy)


def total_steps(given: Mapping[str, object], samples: int, world_size: int) -> int:
    """Return the number of optimizer steps in a run."""
    if _number(given, "max_steps") > 0:
        return int(_number(given, "max_steps"))
    batches = math.ceil(samples / (_number(given, "per_device_train_batch_size") * world_size))
    epochs, accumulated = (_number(given, name) for name in ("num_train_epochs", "gradient_accumulation_steps"))
    return math.ceil(epochs * math.ceil(batches / accumulated))


def _number(given: Mapping[str, object], name: str) -> float:
    """Return a number that the user gave, or the default of transformers."""
    default = transformers.TrainingArguments.__dataclass_fields__[name].default
    return typing.cast("float", given.get(name, default))
