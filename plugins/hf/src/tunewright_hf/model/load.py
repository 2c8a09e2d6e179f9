"""Load the weights of a model, with its adapter."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
import transformers

from tunewright_hf import errors
from tunewright_hf.config.library_arguments import BitsAndBytesConfig, LoraConfig
from tunewright_hf.config.tasks import CAUSAL
from tunewright_hf.config.train_params import MERGE, TrainParams
from tunewright_hf.data.samples.classification import Classes
from tunewright_hf.distributed import shape_of
from tunewright_hf.errors import as_request_error
from tunewright_hf.model.config import auto_class_of
from tunewright_hf.model.continued import merged_with, with_adapter
from tunewright_hf.model.folder import load_config

if TYPE_CHECKING:
    import peft

logger = logging.getLogger(__name__)


def weights_dtype(params: TrainParams, args: transformers.TrainingArguments) -> torch.dtype:
    """Return the dtype to load weights in. Trained weights are fp32, since bf16 would round small updates away."""
    if params.lora_config is not None and (args.bf16 or args.fp16):
        return torch.bfloat16 if args.bf16 else torch.float16
    return torch.float32


def build_quantization(
    config: BitsAndBytesConfig | None, dtype: torch.dtype = torch.float32
) -> transformers.BitsAndBytesConfig | None:
    """Return the real BitsAndBytesConfig, by default 4-bit NF4 that computes in `dtype`.

    Raises:
        RequestError: bitsandbytes is not installed, or transformers rejects the configuration.
    """
    if config is None:
        return None
    remedy = "Use a trainer image with bitsandbytes, change the field that it names, or leave quantization_config out."
    with as_request_error("quantization_config", remedy):
        if not transformers.utils.is_bitsandbytes_available():
            raise ImportError("bitsandbytes is not installed where the training runs")
        ours = {} if config.get("load_in_8bit") else {"load_in_4bit": True}
        nf4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
        return transformers.BitsAndBytesConfig(**{**ours, **nf4, **config})


def drop_unknown_pad(tokenizer: transformers.PreTrainedTokenizerBase, config: transformers.PreTrainedConfig) -> None:
    """Replace a pad token that the model has no embedding for.

    Trainer would write it into the model's configuration, which then could not be loaded.
    """
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id >= config.get_text_config().vocab_size:
        logger.warning(
            "the model has no embedding for the pad token %s: using the end-of-text token", tokenizer.pad_token
        )
        tokenizer.pad_token = tokenizer.eos_token


def load_model(
    folder: Path,
    params: TrainParams,
    args: transformers.TrainingArguments,
    classes: Classes | None = None,
    *,
    adapts: bool = True,
    adapter: Path | None = None,
) -> transformers.PreTrainedModel | peft.PeftModel:
    """Return the model, with its adapter if one is configured, and with a head for a classifier's classes.

    Args:
        folder: the model's folder.
        params: the user's parameters.
        args: the resolved arguments.
        classes: a classifier's classes.
        adapts: whether to create the adapter; False if the Trainer class does.
        adapter: the adapter to go on from.
    """
    import peft

    from tunewright_hf.model import attention
    from tunewright_hf.model.language import freeze_other_parts, language_part

    dtype = weights_dtype(params, args)
    transformers.set_seed(args.seed)  # adapters and heads are initialised at random
    head = {**classes.config, "ignore_mismatched_sizes": True} if classes else {}
    head |= quantised(params, args, dtype)
    name = auto_class_of(load_config(folder, params), params.task)
    model, loading = getattr(transformers, name).from_pretrained(
        folder, dtype=dtype, trust_remote_code=params.trust_remote_code, output_loading_info=True, **head
    )
    if params.quantization_config is not None:
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # Trainer enables it
    if params.task is CAUSAL:
        freeze_other_parts(model)
        attention.choose_attention(model, params.attn_implementation, half=args.bf16 or args.fp16)
        logger.info("attention: %s", language_part(model).config._attn_implementation)
    elif params.attn_implementation != "auto":
        with errors.as_request_error("attn_implementation", "Give another name, or leave it out."):
            model.set_attn_implementation(params.attn_implementation)
    if adapter is not None and params.adapter_mode == MERGE:
        model, adapter = merged_with(model, adapter), None
    if params.lora_config is not None and adapts:
        model = _adapted(model, params, loading if classes else None, adapter)
        if args.activation_checkpointing:
            model.enable_input_require_grads()  # else checkpointed blocks of frozen weights propagate no gradients
    if args.deepspeed and not transformers.integrations.is_deepspeed_zero3_enabled():
        model.to(args.device)  # DeepSpeed moves it when training starts, and the model is tried out before
    trained = sum(shape_of(p).numel() for p in model.parameters() if p.requires_grad)
    everything = sum(shape_of(p).numel() for p in model.parameters())
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
    logger.info("training %d of %d weights in %s; loaded as %s", trained, everything, precision, dtype)
    return model


def _adapted(
    model: transformers.PreTrainedModel,
    params: TrainParams,
    loading: Mapping[str, Collection[str]] | None,
    adapter: Path | None,
) -> peft.PeftModel:
    """Return the model with a new adapter, or with the one to continue.

    Args:
        model: the model.
        params: the user's parameters, which have a `lora_config`.
        loading: the loading info of a classifier; None for other models.
        adapter: the adapter to continue; None for a new one.
    """
    import peft

    from tunewright_hf.model import adapters

    with errors.as_request_error("lora_config", "Change the field that it names."):
        lora = adapters.build_lora(cast("LoraConfig", params.lora_config), params.task.lora)
        if adapter is not None:
            adapted = with_adapter(model, adapter, lora)
        else:
            lora = adapters.fit_to(lora, model)
            adapted = peft.get_peft_model(model, lora if loading is None else adapters.with_head(lora, model, loading))
        if params.merge:
            adapters.check_merge(adapted)
    if loading is not None:  # PEFT casts adapters to fp32, but not a head
        for weight in adapted.parameters():
            weight.data = weight.data.float() if weight.requires_grad else weight.data
    return adapted


def quantised(params: TrainParams, args: transformers.TrainingArguments, dtype: torch.dtype) -> dict[str, object]:
    """Return arguments of from_pretrained() that quantise weights while they are loaded onto their device."""
    config = build_quantization(params.quantization_config, dtype)
    return {} if config is None else {"quantization_config": config, "device_map": {"": args.device}}
