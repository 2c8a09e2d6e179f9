"""What can be refused before a GPU is held: runs once, in an init container with the trainer's libraries."""

from __future__ import annotations

import attrs
import transformers
from transformers.integrations import get_available_reporting_integrations

from tunewright.errors import RequestError
from tunewright.providers import TrainRun
from tunewright_hf import real
from tunewright_hf.data import resolve_max_length
from tunewright_hf.inputs import evaluation_split, held_out_split
from tunewright_hf.params import HuggingFaceTrainParams
from tunewright_hf.standins import TrainingArguments
from tunewright_hf.trainer import context, load_config, load_tokenizer, needed_model


def check(params: HuggingFaceTrainParams, run: TrainRun) -> None:
    """Look at the inputs, and build everything but the model.

    Raises:
        RequestError: naming the field, the value and the remedy.
    """
    folder = needed_model(run)
    params.check_inputs(model=folder, dataset=run.dataset, eval_dataset=run.eval_dataset)
    real.trainer_class(params.transformer_class)
    check_arguments(params, run)
    if params.lora_config is not None:
        real.build_lora(params.lora_config)
    resolve_max_length(params.data, context(load_config(folder, params)))
    check_tokenizer(load_tokenizer(folder, params), params, str(folder))


def check_arguments(params: HuggingFaceTrainParams, run: TrainRun) -> None:
    """Build the real TrainingArguments, as far as that works where no GPU is to be seen."""
    elsewhere = {k: v for k, v in params.training_parameters.items() if k != "tf32"}
    here = attrs.evolve(params, training_parameters=TrainingArguments(**{**elsewhere, "use_cpu": True}))
    args = real.build_arguments(here, run.checkpoints, evaluates=_evaluates(params, run))
    missing = sorted(set(args.report_to) - set(get_available_reporting_integrations()))
    if missing:
        remedy = f"Use an image that has it, or one of: {', '.join(get_available_reporting_integrations()) or 'none'}."
        problem = "is not installed where the training runs"
        raise RequestError(problem, field="report_to", value=missing[0], remedy=remedy)
    if params.merge and (args.fsdp or args.deepspeed):
        remedy = "Leave merge out, and merge the adapter afterwards with peft's merge_and_unload()."
        raise RequestError("does not work with FSDP or DeepSpeed", field="merge", value=True, remedy=remedy)


def _evaluates(params: HuggingFaceTrainParams, run: TrainRun) -> bool:
    if run.eval_dataset is not None:
        return bool(evaluation_split(run.eval_dataset, params.data))
    return run.dataset is not None and held_out_split(run.dataset, params.data) is not None


def check_tokenizer(
    tokenizer: transformers.PreTrainedTokenizerBase, params: HuggingFaceTrainParams, folder: str
) -> None:
    """A chat needs a template, and everything else a token that ends it."""
    if params.data.format == "chat" and not tokenizer.chat_template:
        remedy = "Give a model with a chat template, or data as prompt and completion."
        raise RequestError("has a tokenizer without a chat template", field="model", value=folder, remedy=remedy)
    if params.data.format != "chat" and tokenizer.eos_token_id is None:
        remedy = "Set eos_token in tokenizer_config.json: without it the model would never learn to stop."
        raise RequestError("has a tokenizer without an end-of-text token", field="model", value=folder, remedy=remedy)
