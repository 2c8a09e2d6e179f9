"""Load the configuration, the tokenizer and the weights of a model."""

from __future__ import annotations

import logging
from pathlib import Path

import peft
import torch
import transformers

from tunewright.errors import RequestError
from tunewright.providers import TrainRun
from tunewright_hf import errors
from tunewright_hf.config.library_arguments import BitsAndBytesConfig
from tunewright_hf.config.tasks import CAUSAL, TASKS
from tunewright_hf.config.train_params import TrainParams
from tunewright_hf.data.classification import Classes
from tunewright_hf.distributed import shape_of
from tunewright_hf.errors import refused
from tunewright_hf.model import adapters, attention
from tunewright_hf.model.adapters import check_merge, with_head
from tunewright_hf.model.config import is_known

logger = logging.getLogger(__name__)


def weights_dtype(params: TrainParams, args: transformers.TrainingArguments) -> torch.dtype:
    """The dtype to load weights in: weights that are trained are fp32, since bf16 would round small updates away."""
    if params.lora_config is not None and (args.bf16 or args.fp16):
        return torch.bfloat16 if args.bf16 else torch.float16
    return torch.float32


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


def needed_model(run: TrainRun) -> Path:
    """The model's folder.

    Raises:
        RequestError: the job has none.
    """
    if run.model is None:
        raise RequestError("is needed to train", field="model", remedy="Give model=…, for example hf://org/name.")
    return run.model


def load_config(folder: Path, params: TrainParams) -> transformers.PreTrainedConfig:
    """The model's configuration.

    Raises:
        RequestError: it cannot be read, needs code that may not run, or is of no model of the task.
    """
    able = f"Give a model folder that transformers {transformers.__version__} can load"
    trust = "" if params.trust_remote_code else ", or trust_remote_code=True if you trust the Python code in it"
    with errors.refused("model", f"{able}{trust}."):
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=params.trust_remote_code)
    task = params.task
    own_code = task.auto_class in (getattr(config, "auto_map", None) or {})
    if not is_known(config, task) and not own_code:
        others = [t.auto_class for t in TASKS.values() if is_known(config, t)]
        remedy = f"Give transformer_type={others[0]!r}." if others else f"Give one of the {task.models}."
        problem = f"has a {type(config).__name__}, which {task.auto_class} does not load"
        raise RequestError(problem, field="model", value=str(folder), remedy=remedy)
    return config


def load_tokenizer(folder: Path, params: TrainParams) -> transformers.PreTrainedTokenizerBase:
    """The model's tokenizer.

    Raises:
        RequestError: the folder has none.
    """
    with errors.refused("model", "Save the tokenizer into the model's folder with save_pretrained()."):
        return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=params.trust_remote_code)


def drop_unknown_pad(tokenizer: transformers.PreTrainedTokenizerBase, config: transformers.PreTrainedConfig) -> None:
    """Trainer writes the tokenizer's pad token into the model's configuration, which then could not be loaded."""
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id >= config.get_text_config().vocab_size:
        logger.warning("the model has no embedding for the pad token %s: the result does without", tokenizer.pad_token)
        tokenizer.pad_token = tokenizer.eos_token


def load_model(
    folder: Path,
    params: TrainParams,
    args: transformers.TrainingArguments,
    classes: Classes | None = None,
    *,
    adapts: bool = True,
) -> transformers.PreTrainedModel | peft.PeftModel:
    """The model, with its adapter if there is to be one, and with a head for the classes if there are some.

    Args:
        folder: of the model.
        params: the user's.
        args: the resolved arguments.
        classes: what a classifier tells apart.
        adapts: whether to make the adapter; False where the Trainer class does.
    """
    dtype = weights_dtype(params, args)
    transformers.set_seed(args.seed)  # an adapter begins with random numbers, and so does a head
    head = {**classes.config, "ignore_mismatched_sizes": True} if classes else {}
    head |= quantised(params, args, dtype)
    model, loading = getattr(transformers, params.task.auto_class).from_pretrained(
        folder, dtype=dtype, trust_remote_code=params.trust_remote_code, output_loading_info=True, **head
    )
    if params.quantization_config is not None:
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # Trainer switches it on
    if params.task is CAUSAL:
        attention.choose_attention(model, params.attn_implementation, half=args.bf16 or args.fp16)
    elif params.attn_implementation != "auto":
        with errors.refused("attn_implementation", "Give another name, or leave it out."):
            model.set_attn_implementation(params.attn_implementation)
    if params.lora_config is not None and adapts:
        with errors.refused("lora_config", "Change the field that it names."):
            lora = adapters.build_lora(params.lora_config, params.task.lora)
            model = peft.get_peft_model(model, with_head(lora, model, loading) if classes else lora)
            if params.merge:
                check_merge(model)
        if classes:  # peft makes adapters fp32, and leaves a head as it was loaded
            for weight in model.parameters():
                weight.data = weight.data.float() if weight.requires_grad else weight.data
        if args.activation_checkpointing:
            model.enable_input_require_grads()  # else nothing in a checkpointed block of frozen weights gets a gradient
    if args.deepspeed and not transformers.integrations.is_deepspeed_zero3_enabled():
        model.to(args.device)  # for what is tried before training, when DeepSpeed does it
    trained = sum(shape_of(p).numel() for p in model.parameters() if p.requires_grad)
    everything = sum(shape_of(p).numel() for p in model.parameters())
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
    logger.info("%d of %d weights are trained, in %s; loaded as %s", trained, everything, precision, dtype)
    return model


def quantised(params: TrainParams, args: transformers.TrainingArguments, dtype: torch.dtype) -> dict[str, object]:
    """Arguments of from_pretrained(): weights are quantised on the way to the device that computes with them."""
    config = build_quantization(params.quantization_config, dtype)
    return {} if config is None else {"quantization_config": config, "device_map": {"": args.device}}
