"""From stand-ins to the real classes of transformers and peft, with what "automatic" comes to on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import importlib.metadata
import logging
import math
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path

import peft
import torch
import transformers

from tunewright.errors import RequestError
from tunewright.wire import did_you_mean
from tunewright_hf import zero
from tunewright_hf.params import HuggingFaceTrainParams
from tunewright_hf.quantization import BitsAndBytesConfig
from tunewright_hf.standins import LoraConfig

logger = logging.getLogger(__name__)

_T = typing.TypeVar("_T")

CALLBACKS = "tunewright.hf.callbacks"
"""The entry-point group of callbacks."""

# A restart loses at most a tenth of the run, or 500 steps; a log has about a hundred lines, and one each 50 steps at least.
_SAVES, _MOST_STEPS_TO_SAVE = 10, 500
_LOGS, _MOST_STEPS_TO_LOG = 100, 50


@contextlib.contextmanager
def refused(field: str, remedy: str) -> Iterator[None]:
    """What a library refuses in here is a bad request: its own message, under the field's name."""
    try:
        yield
    except RequestError:
        raise
    except (ValueError, TypeError, KeyError, ImportError, OSError, RuntimeError, NotImplementedError) as error:
        problem = f"is refused: {' '.join(str(error).split())}".rstrip(". ")
        raise RequestError(problem, field=field, remedy=remedy) from error


def trainer_class(name: str) -> type[transformers.Trainer]:
    """The Trainer class of a name: one of transformers, or "module:Class".

    Raises:
        RequestError: there is none.
    """
    if ":" in name:
        return _load(importlib.metadata.EntryPoint(name, name, ""), transformers.Trainer, "transformer_class")
    cls = getattr(transformers, name, None) if name.isidentifier() else None
    if not (isinstance(cls, type) and issubclass(cls, transformers.Trainer)):
        names = [n for n in dir(transformers) if n.endswith("Trainer")]
        remedy = did_you_mean(name, names)
        raise RequestError("is no Trainer class of transformers", field="transformer_class", value=name, remedy=remedy)
    return cls


def arguments_class(name: str) -> type[transformers.TrainingArguments]:
    """The arguments that a Trainer class takes: of transformers', by its name; of others, as its constructor says."""
    default: type[transformers.TrainingArguments] = transformers.TrainingArguments
    if ":" not in name:
        return getattr(transformers, f"{name.removesuffix('Trainer')}TrainingArguments", default)
    try:
        hint = typing.get_type_hints(trainer_class(name).__init__).get("args")
    except NameError:  # of something that is imported for type checkers alone
        return default
    found = [c for c in typing.get_args(hint) or (hint,) if isinstance(c, type) and issubclass(c, default)]
    return found[0] if found else default


def build_callbacks(params: HuggingFaceTrainParams) -> list[transformers.TrainerCallback]:
    """The callbacks that the user asks for.

    Raises:
        RequestError: one is not installed here, or is no callback.
    """
    patience = params.early_stopping_patience
    built = [] if patience is None else [transformers.EarlyStoppingCallback(early_stopping_patience=patience)]
    return [*built, *(_load_callback(name)() for name in params.callbacks)]


def _load_callback(name: str) -> type[transformers.TrainerCallback]:
    group = importlib.metadata.entry_points(group=CALLBACKS)
    point = (
        importlib.metadata.EntryPoint(name, name, CALLBACKS)
        if ":" in name
        else next((p for p in group if p.name == name), None)
    )
    if point is None:
        remedy = (
            f"{did_you_mean(name, sorted(group.names))} Or install the package that brings it, or write module:Class."
        )
        raise RequestError("is not installed where the training runs", field="callbacks", value=name, remedy=remedy)
    return _load(point, transformers.TrainerCallback, "callbacks")


def _load(point: importlib.metadata.EntryPoint, base: type[_T], field: str) -> type[_T]:
    """The class of an entry point.

    Raises:
        RequestError: it is not there, or not derived from `base`.
    """
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        remedy = "Use an image that has it, as a class in a module that can be imported."
        raise RequestError(f"cannot be loaded: {error}", field=field, value=point.name, remedy=remedy) from error
    if not (isinstance(found, type) and issubclass(found, base)):
        remedy = f"Derive it from transformers.{base.__name__}."
        kind = base.__name__.removeprefix("Trainer").lower() or "Trainer class"
        raise RequestError(f"is no {kind}", field=field, value=point.name, remedy=remedy)
    return found


def build_arguments(
    params: HuggingFaceTrainParams, output: Path, *, evaluates: bool, defaults: Mapping[str, object] | None = None
) -> transformers.TrainingArguments:
    """The real TrainingArguments: what was given, over our defaults, over transformers'.

    Args:
        params: the user's.
        output: folder for the checkpoints.
        evaluates: whether there is something to evaluate on.
        defaults: further defaults.

    Raises:
        RequestError: transformers refuses them, or asks for an evaluation without data for it.
    """
    given = dict(params.training_parameters)
    if not evaluates and given.get("eval_strategy", "no") != "no":
        remedy = "Give eval_dataset=…, or a dataset with a validation or test split, or leave eval_strategy out."
        value = given["eval_strategy"]
        raise RequestError("has nothing to evaluate on", field="eval_strategy", value=value, remedy=remedy)
    if given.get("push_to_hub") and not given.get("hub_model_id"):
        remedy = "Give hub_model_id='org/name', or leave push_to_hub out."
        raise RequestError("does not say where to", field="push_to_hub", value=True, remedy=remedy)
    if given.get("deepspeed"):
        given["deepspeed"] = zero.configuration(given)
    if params.early_stopping_patience is not None:
        _check_early_stopping(given, evaluates=evaluates)
        # A resumed training goes on counting where it was.
        given = {"load_best_model_at_end": True, "restore_callback_states_from_checkpoint": True, **given}
    if given.get("neftune_noise_alpha") is not None and params.data.packing:
        problem = "is scaled by a sample's length, which packed samples do not have"
        value = given["neftune_noise_alpha"]
        raise RequestError(problem, field="neftune_noise_alpha", value=value, remedy="Leave it or packing out.")
    ours = {
        "report_to": "none",
        "disable_tqdm": True,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # transformers would show the last good loss instead of nan
        "save_total_limit": 2,
        "eval_strategy": "epoch" if evaluates else "no",
        **_device(given),
        **(defaults or {}),
    }
    ours |= _best(given, ours)
    cls = arguments_class(params.transformer_class)
    own = dict(params.transformer_class_arguments)
    names = {f.name for f in dataclasses.fields(cls)}
    for name in own:
        if name not in names:
            field = f"transformer_class_arguments.{name}"
            raise RequestError(f"is no field of {cls.__name__}", field=field, remedy=did_you_mean(name, sorted(names)))
    if "max_length" in names and params.data.max_length is not None:
        own.setdefault("max_length", params.data.max_length)
    with refused("training_parameters", "Change the argument that it names."):
        return construct(cls, {**ours, **own, **given, "output_dir": str(output), "batch_eval_metrics": True})


def _check_early_stopping(given: Mapping[str, object], *, evaluates: bool) -> None:
    if not evaluates or given.get("eval_strategy") == "no" or given.get("load_best_model_at_end") is False:
        remedy = (
            "Give data to evaluate on, and leave eval_strategy and load_best_model_at_end as they are; or leave it out."
        )
        raise RequestError("needs evaluations, and the best checkpoint", field="early_stopping_patience", remedy=remedy)


def _best(given: Mapping[str, object], ours: Mapping[str, object]) -> dict[str, object]:
    """The best checkpoint can be loaded only if there is one for each evaluation: so it is, unless `save_steps` is given."""
    if not given.get("load_best_model_at_end"):
        return {}
    names = ("eval_steps", "logging_steps", "save_steps")  # transformers itself takes the second for the first
    steps = next((given[name] for name in names if given.get(name)), ours.get("logging_steps"))
    every = {"eval_steps": steps, "save_steps": steps} if steps else {}
    return {"save_strategy": given.get("eval_strategy", "epoch"), **every}


def _device(given: Mapping[str, object]) -> dict[str, object]:
    """Precision and device where the user left them open: bf16 on GPUs that have it, else fp32."""
    if not torch.cuda.is_available():
        return {"use_cpu": True, "bf16": False}  # there are classes of arguments that would set it
    chosen = any(given.get(name) is not None for name in ("bf16", "fp16"))
    supported = torch.cuda.is_bf16_supported(including_emulation=False)
    return {} if chosen or given.get("use_cpu") else {"bf16": supported}


def join_ranks(given: Mapping[str, object], world_size: int) -> None:
    """Make the group of several ranks on CPUs: transformers would, but without `ddp_timeout`."""
    cpu = bool(given.get("use_cpu")) or not torch.cuda.is_available()
    if cpu and world_size > 1 and torch.distributed.is_torchelastic_launched():
        seconds = given.get("ddp_timeout", transformers.TrainingArguments.__dataclass_fields__["ddp_timeout"].default)
        timeout = dt.timedelta(seconds=typing.cast("float", seconds))
        torch.distributed.init_process_group(str(given.get("ddp_backend") or "gloo"), timeout=timeout)


def context(config: transformers.PreTrainedConfig) -> int | None:
    """The model's context in tokens, if it has a limit."""
    text = config.get_text_config()
    limit = getattr(text, "max_position_embeddings", None) or getattr(text, "max_seq_len", None)  # MPT's name for it
    return limit if limit and limit > 0 else None  # XLNet has -1


def weights_dtype(params: HuggingFaceTrainParams, args: transformers.TrainingArguments) -> torch.dtype:
    """The dtype to load weights in: weights that are trained are fp32, since bf16 would round small updates away."""
    if params.lora_config is not None and (args.bf16 or args.fp16):
        return torch.bfloat16 if args.bf16 else torch.float16
    return torch.float32


def pace(params: HuggingFaceTrainParams, samples: int, world_size: int) -> dict[str, object]:
    """`logging_steps` and `save_steps` by the length of the run, as defaults."""
    given = params.training_parameters
    steps = total_steps(given, samples, world_size)
    logs = max(1, min(_MOST_STEPS_TO_LOG, steps // _LOGS))
    saves = max(1, min(_MOST_STEPS_TO_SAVE, math.ceil(steps / _SAVES)))
    return {"logging_steps": logs, "save_steps": saves}


def check_drop_last(args: transformers.TrainingArguments, samples: int) -> None:
    """Raise RequestError if no batch would be full, and only full ones are trained on; `samples` is 0 where not known."""
    batch = args.train_batch_size * args.world_size
    if args.dataloader_drop_last and 0 < samples < batch:
        problem = f"leaves nothing to train on: there are {samples} samples, and a batch of all processes has {batch}"
        remedy = "Leave it out, or lower per_device_train_batch_size."
        raise RequestError(problem, field="dataloader_drop_last", value=True, remedy=remedy)


def total_steps(given: Mapping[str, object], samples: int, world_size: int) -> int:
    """How many optimizer steps a run will make."""

    def number(name: str) -> float:
        default = transformers.TrainingArguments.__dataclass_fields__[name].default
        return float(typing.cast("float", given.get(name, default)))

    if number("max_steps") > 0:
        return int(number("max_steps"))
    batches = math.ceil(samples / (number("per_device_train_batch_size") * world_size))
    return math.ceil(number("num_train_epochs") * math.ceil(batches / number("gradient_accumulation_steps")))


def build_lora(config: LoraConfig, task_type: str = "CAUSAL_LM") -> peft.LoraConfig:
    """The real LoraConfig; on all linear layers unless it says which.

    Raises:
        RequestError: peft refuses it.
    """
    targets = {"target_modules", "target_parameters"} & set(config)
    ours: dict[str, object] = {} if targets else {"target_modules": "all-linear"}
    with refused("lora_config", "Change the field that it names."):
        return construct(peft.LoraConfig, {**ours, **config, "task_type": task_type})


def base_of(model: torch.nn.Module) -> torch.nn.Module:
    """The model itself, without its adapter."""
    return model.get_base_model() if isinstance(model, peft.PeftModel) else model


def build_quantization(
    config: BitsAndBytesConfig | None, dtype: torch.dtype = torch.float32
) -> transformers.BitsAndBytesConfig | None:
    """The real BitsAndBytesConfig: unless it says otherwise, 4 bits in nf4, and computed in the weights' other dtype.

    Raises:
        RequestError: bitsandbytes is not there, or transformers refuses it.
    """
    if config is None:
        return None
    remedy = "Use a trainer image that has bitsandbytes, change the field that it names, or leave it out."
    with refused("quantization_config", remedy):
        if not transformers.utils.is_bitsandbytes_available():
            raise ImportError("bitsandbytes is not installed where the training runs")
        ours = {} if config.get("load_in_8bit") else {"load_in_4bit": True}
        nf4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
        return transformers.BitsAndBytesConfig(**{**ours, **nf4, **config})


def construct(cls: type[_T], given: Mapping[str, object]) -> _T:
    """A dataclass from JSON values; fields that are dataclasses themselves are made from dicts."""
    hints = typing.get_type_hints(cls)
    return cls(**{name: _nested(hints.get(name), value) for name, value in given.items()})


def _nested(hint: object, value: object) -> object:
    alternatives = typing.get_args(hint) or (hint,)
    if not isinstance(value, dict) or any(typing.get_origin(a) is dict or a is dict for a in alternatives):
        return value
    classes = [a for a in alternatives if isinstance(a, type) and dataclasses.is_dataclass(a)]
    return classes[0](**value) if classes else value
