"""What other programs call our fields, for "did you mean": their word → ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

OF_ARGUMENTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("lr", "learningrate", "rate"), "learning_rate"),
    **dict.fromkeys(("epochs", "num_epochs", "n_epochs", "epoch"), "num_train_epochs"),
    **dict.fromkeys(
        ("batch_size", "micro_batch_size", "train_batch_size", "per_gpu_train_batch_size"),
        "per_device_train_batch_size",
    ),
    **dict.fromkeys(("eval_batch_size", "val_batch_size"), "per_device_eval_batch_size"),
    **dict.fromkeys(
        ("grad_accum", "gradient_accumulation", "accumulation_steps", "grad_acc"), "gradient_accumulation_steps"
    ),
    **dict.fromkeys(("steps", "train_steps", "num_steps", "max_iters"), "max_steps"),
    **dict.fromkeys(("warmup", "num_warmup_steps"), "warmup_steps"),
    **dict.fromkeys(("scheduler", "lr_scheduler"), "lr_scheduler_type"),
    **dict.fromkeys(("evaluation_strategy", "do_eval_every"), "eval_strategy"),
    **dict.fromkeys(("optimizer", "optimiser"), "optim"),
    **dict.fromkeys(("grad_clip", "clip_grad", "max_grad", "gradient_clipping"), "max_grad_norm"),
    **dict.fromkeys(("decay", "wd"), "weight_decay"),
    **dict.fromkeys(("random_seed", "random_state"), "seed"),
    # Of transformers 4.
    "group_by_length": "train_sampling_strategy",
    "no_cuda": "use_cpu",
}

OF_LORA: Final[Mapping[str, str]] = {
    **dict.fromkeys(("rank", "lora_rank", "lora_r", "dim", "lora_dim"), "r"),
    **dict.fromkeys(("alpha", "scaling", "lora_scale"), "lora_alpha"),
    **dict.fromkeys(("dropout", "lora_drop"), "lora_dropout"),
    **dict.fromkeys(("modules", "targets", "lora_target_modules", "target_layers", "lora_target"), "target_modules"),
    **dict.fromkeys(("rslora", "rs_lora"), "use_rslora"),
    "dora": "use_dora",
}

OF_DATA: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "max_seq_length",
            "max_seq_len",
            "seq_len",
            "sequence_len",
            "sequence_length",
            "cutoff_len",
            "model_max_length",
            "block_size",
        ),
        "max_length",
    ),
    **dict.fromkeys(("split", "train"), "train_split"),
    **dict.fromkeys(("sample_packing", "pack"), "packing"),
    **dict.fromkeys(("val_set_size", "validation_fraction", "test_size", "eval_size", "val_fraction"), "eval_fraction"),
    **dict.fromkeys(("type", "dataset_format", "data_format"), "format"),
    **dict.fromkeys(("limit", "num_samples", "max_rows"), "max_samples"),
    **dict.fromkeys(("sep", "separator"), "delimiter"),
}

OF_TRAINER: Final[Mapping[str, str]] = {
    **OF_ARGUMENTS,
    **{word: f"lora_config.{field}" for word, field in OF_LORA.items()},
    **{word: f"data.{field}" for word, field in OF_DATA.items() if word not in OF_ARGUMENTS},
    **dict.fromkeys(("lora", "peft", "adapter", "lora_params"), "lora_config"),
    **dict.fromkeys(("args", "arguments", "training_args", "training_arguments"), "training_parameters"),
    **dict.fromkeys(
        ("quantization", "bnb_config", "bitsandbytes", "qlora", "load_in_4bit", "load_in_8bit"), "quantization_config"
    ),
    **dict.fromkeys(("r", "target_modules", "lora_alpha", "lora_dropout"), "lora_config"),
}
