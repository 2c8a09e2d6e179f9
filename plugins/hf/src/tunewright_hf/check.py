"""Checks before any GPU is allocated: runs once, in an init container with the trainer's libraries."""

from __future__ import annotations

from pathlib import Path

import attrs
import peft
import torch
import transformers
from transformers.integrations import get_available_reporting_integrations

from tunewright.errors import RequestError
from tunewright.providers import TrainRun
from tunewright_hf import errors
from tunewright_hf.config.library_arguments import LoraConfig, TrainingArguments
from tunewright_hf.config.tasks import CAUSAL, CLASSIFICATION, Task
from tunewright_hf.config.train_params import TrainParams
from tunewright_hf.data.first_rows import check_first_rows, classes_of
from tunewright_hf.data.inputs import about_dataset, datasets_of, needed_dataset, resolve_max_length, splits_of
from tunewright_hf.data.reading.files import evaluation_split, held_out_split
from tunewright_hf.data.rows.formats import check_dataset
from tunewright_hf.data.samples.language_modeling import check_tokenizer
from tunewright_hf.data.unused_options import refuse_unused
from tunewright_hf.model import adapters, attention, load
from tunewright_hf.model.adapters import check_merge, with_head
from tunewright_hf.model.config import auto_class_of, is_known, longest_input
from tunewright_hf.model.continued import check_fits, continued
from tunewright_hf.model.dtypes import shapes_in
from tunewright_hf.model.families import check_family, check_packing
from tunewright_hf.model.folder import load_config, load_tokenizer, needed_model, tokenizer_folder
from tunewright_hf.model.generation import goal_of
from tunewright_hf.phases import say
from tunewright_hf.train import arguments, extensions
from tunewright_hf.train.dry_arguments import check_begin, check_metric


def check(params: TrainParams, run: TrainRun) -> None:
    """Check the inputs, and build everything except the model.

    Raises:
        RequestError: names the field, the value and the remedy.
    """
    say(run, "check", "checking the model, the dataset and the arguments")
    folder = needed_model(run)
    lora, params = params.lora_config, continued(params, run)
    params.check_inputs(model=folder, dataset=run.dataset, eval_dataset=run.eval_dataset)
    if run.mixture:
        params.check_mixture(run.mixture)
    check_weights(folder)
    trainer = extensions.trainer_class(params.transformer_class)
    attention.check_name(params.attn_implementation)
    extensions.build_callbacks(params)
    load.build_quantization(params.quantization_config)
    check_arguments(params, run)
    config = load_config(folder, params)
    check_family(config, params.task, trust=params.trust_remote_code, loss=extensions.uses_models_loss(trainer))
    check_packing(config, params)
    check_fits(params, config, run, lora)
    tokenizer = load_tokenizer(tokenizer_folder(run), params)
    resolve_max_length(params.data, longest_input(config, tokenizer, params.task))
    if params.lora_config is not None:
        check_lora(params.lora_config, config, params.task, merge=params.merge)
    goal = goal_of(params, folder, config, tokenizer)
    for field, own, data in datasets_of(run, params.data):
        say(run, "check", f"checking the first rows of {field}")
        if form := check_dataset(needed_dataset(own), data, field):
            check_tokenizer(tokenizer, form)
        with about_dataset(field):
            splits = {name: split for name, (_, split) in splits_of(own, data).items()}
            classes = classes_of(splits, data, goal) if params.task is CLASSIFICATION else None
            for name, split in splits.items():
                check_first_rows(split, data, tokenizer, goal, name, classes=classes)
    refuse_unused(run, params.data, tokenizer, goal)


def check_weights(folder: Path) -> None:
    """Raise RequestError if the folder has no weights, or damaged ones, once instead of on every rank."""
    for file in folder.glob("*.safetensors"):
        shapes_in(file, "model")
    if not any(file for kind in ("*.safetensors", "*.bin") for file in folder.glob(kind)):
        remedy = "Give a folder as save_pretrained() writes it: config.json, weights and tokenizer."
        raise RequestError("has no weights (*.safetensors or *.bin)", field="model", value=str(folder), remedy=remedy)


def check_lora(
    given: LoraConfig, config: transformers.PreTrainedConfig, task: Task = CAUSAL, *, merge: bool = False
) -> None:
    """Build the adapter around a model without weights, to detect layers that the model does not have."""
    adapters.build_lora(given, task.lora)
    if not is_known(config, task):  # remote code may need its weights
        return
    plain = adapters.build_lora(
        LoraConfig(**{**given, "init_lora_weights": True}), task.lora
    )  # others look at the weights
    with torch.device("meta"):
        model = getattr(transformers, auto_class_of(config, task)).from_config(config)
    with errors.as_request_error(
        "lora_config", "Name layers that the model has, or leave target_modules out: its default is all-linear."
    ):
        plain = adapters.fit_to(with_head(plain, model) if task is CLASSIFICATION else plain, model)
        adapted = peft.get_peft_model(model, plain, low_cpu_mem_usage=True)
    if merge:
        check_merge(adapted)


def check_arguments(params: TrainParams, run: TrainRun) -> None:
    """Build the real TrainingArguments, apart from those that need a GPU."""
    elsewhere = {k: v for k, v in params.training_parameters.items() if k not in ("tf32", "ddp_backend")}
    here = attrs.evolve(params, training_parameters=TrainingArguments(**{**elsewhere, "use_cpu": True}))
    args = arguments.build_arguments(here, run.checkpoints, evaluates=_evaluates(params, run))
    check_begin(args)
    if ":" not in params.transformer_class:  # other libraries' classes may compute more
        check_metric(args, params.task)
    missing = sorted(set(args.report_to) - set(get_available_reporting_integrations()))
    if missing:
        remedy = f"Use an image that has it, or one of: {', '.join(get_available_reporting_integrations()) or 'none'}."
        problem = "is not installed where the training runs"
        raise RequestError(problem, field="report_to", value=missing[0], remedy=remedy)
    if params.merge and (args.fsdp or args.deepspeed):
        remedy = "Leave merge out, and merge the adapter afterwards with peft's merge_and_unload()."
        raise RequestError("does not work with FSDP or DeepSpeed", field="merge", value=True, remedy=remedy)


def _evaluates(params: TrainParams, run: TrainRun) -> bool:
    if run.eval_dataset is not None:
        return bool(evaluation_split(run.eval_dataset, params.data))
    return any(held_out_split(needed_dataset(own), data) is not None for _, own, data in datasets_of(run, params.data))
