"""What a model's configuration tells of it, before it is loaded."""

from __future__ import annotations

import torch
import transformers

from tunewright_hf.config.tasks import CAUSAL, CLASSIFICATION, Task

USES_ALL_WEIGHTS = frozenset(
    [
        "cohere",
        "cohere2",
        "falcon",
        "gemma",
        "gemma2",
        "gemma3_text",
        "glm4",
        "gpt2",
        "gpt_neox",
        "granite",
        "llama",
        "mistral",
        "olmo2",
        "olmo3",
        "opt",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
        "seed_oss",
        "smollm3",
        "starcoder2",
    ]
)
"""Causal language models, by `model_type`, each step of which was seen to have a gradient for all weights."""


def is_known(config: transformers.PreTrainedConfig, task: Task) -> bool:
    """Whether transformers itself has a model of a task for a configuration."""
    return type(config) in getattr(transformers, task.auto_class)._model_mapping  # no public name holds them all


def known_labels(config: transformers.PreTrainedConfig, task: Task) -> tuple[str, ...]:
    """The names of a classifier's labels, if it has learnt some already."""
    classifies = any("ForSequenceClassification" in name for name in config.architectures or [])
    names = tuple((config.id2label or {}).values()) if task is CLASSIFICATION and classifies else ()
    return () if any(name == f"LABEL_{i}" for i, name in enumerate(names)) else names


def longest_input(
    config: transformers.PreTrainedConfig, tokenizer: transformers.PreTrainedTokenizerBase, task: Task
) -> int | None:
    """The most tokens that a model reads, if there is a limit: some have fewer positions than embeddings of them."""
    limit = context_length(config)
    if task is CAUSAL or limit is None:
        return limit
    return min(limit - _skipped_positions(config, task), int(tokenizer.model_max_length))


def _skipped_positions(config: transformers.PreTrainedConfig, task: Task) -> int:
    """How many positions come before a text's first: RoBERTa and its kind count from behind the pad token's number on."""
    if not is_known(config, task):
        return 0
    with torch.device("meta"):
        model = getattr(transformers, task.auto_class).from_config(config)
    pads = [getattr(m, "padding_idx", None) for n, m in model.named_modules() if n.endswith(".position_embeddings")]
    return max((pad + 1 for pad in pads if pad is not None), default=0)


def may_pass_over_weights(config: transformers.PreTrainedConfig, task: Task) -> bool:
    """Whether a step may leave weights out: those of experts, of layers that are dropped, of a part that reads images.

    Where none can, DDP need not look for them in each step's graph.
    """
    drops = any("layerdrop" in name and value for name, value in config.to_dict().items())
    known = task is CAUSAL and config.model_type in USES_ALL_WEIGHTS and not hasattr(config, "auto_map")
    return drops or not known


def context_length(config: transformers.PreTrainedConfig) -> int | None:
    """The model's context in tokens, if it has a limit."""
    text = config.get_text_config()
    limit = getattr(text, "max_position_embeddings", None) or getattr(text, "max_seq_len", None)  # MPT's name for it
    return limit if limit and limit > 0 else None  # XLNet has -1
