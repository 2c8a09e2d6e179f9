"""Facts about a model that its configuration tells before the weights are loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import transformers

from tunewright_hf.config.tasks import CAUSAL, CLASSIFICATION, IMAGE_TEXT, SEQ2SEQ, TASKS, Task

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
"""The `model_type` of causal language models that were tested to have a gradient for every weight in every step."""


_INPUTS = {"audio": "sound", "image": "images", "video": "videos", "time": "series of numbers"}
"""What models read, as transformers names it → in words."""


def auto_class_of(config: transformers.PreTrainedConfig, task: Task) -> str:
    """Return the name of the Auto class to load a model with: a causal language model may be part of one that reads images."""
    return IMAGE_TEXT if task is CAUSAL and reads_images(config) else task.auto_class


def reads_images(config: transformers.PreTrainedConfig) -> bool:
    """Return whether a model also reads images, and answers with text.

    The Auto class of causal language models would load such a model without its vision tower, if at all. It does so only
    for a folder that was saved in this way.
    """
    known = getattr(transformers, IMAGE_TEXT)._model_mapping._model_mapping.get(config.model_type)
    if known is None or config.is_encoder_decoder:
        return False
    return not config.architectures or known in config.architectures


def is_known(config: transformers.PreTrainedConfig, task: Task) -> bool:
    """Return whether transformers itself has a model for this configuration and task.

    Raises:
        ImportError: torch is needed to tell.
    """
    if task is CAUSAL and not transformers.utils.is_torch_available() and _is_causal_by_name(config):
        return True  # the mappings below need torch
    name = auto_class_of(config, task)
    return type(config) in getattr(transformers, name)._model_mapping  # there is no public mapping


def other_input(config: transformers.PreTrainedConfig, task: Task) -> str:
    """Return what a model needs to read beside texts, or instead of them, in words; "" if a task can do with texts.

    A causal language model that reads images as well is tried out instead: many do with texts.

    Raises:
        ImportError: torch is needed to tell.
    """
    mapping, (name, *_) = (
        getattr(transformers, auto_class_of(config, task))._model_mapping,
        config.architectures or [""],
    )
    if task is not SEQ2SEQ and name == mapping._model_mapping.get(config.model_type):
        return ""  # without loading the class, which takes long
    loaded, own = mapping.get(type(config), None), getattr(transformers, name, None)
    own = own or loaded or transformers.AutoModel._model_mapping.get(type(config), None)
    if not hasattr(own, "input_modalities"):  # it brings code of its own
        return ""
    given = own.input_modalities
    reads = {given} if isinstance(given, str) else {*given}
    if loaded is own:
        reads &= {"audio"} if task is SEQ2SEQ else set()  # decoders of sound and text, which predict their own tokens
    elif loaded is not None and own.main_input_name == "input_ids":
        return ""
    return " and ".join(words for name, words in _INPUTS.items() if name in reads)


def other_tasks(config: transformers.PreTrainedConfig) -> list[Task]:
    """Return the tasks that a model can be loaded for, the likeliest first. Raises as `is_known`."""
    found = [task for task in dict.fromkeys(TASKS.values()) if is_known(config, task) and not other_input(config, task)]
    encodes = any("ForMaskedLM" in name for name in config.architectures or [])
    return sorted(found, key=lambda task: encodes and task is CAUSAL)


def _is_causal_by_name(config: transformers.PreTrainedConfig) -> bool:
    return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in config.architectures or [])


def known_labels(config: transformers.PreTrainedConfig, task: Task) -> tuple[str, ...]:
    """Return the names of a classifier's labels, if it was trained on some already."""
    classifies = any("ForSequenceClassification" in name for name in config.architectures or [])
    names = tuple((config.id2label or {}).values()) if task is CLASSIFICATION and classifies else ()
    return () if any(name == f"LABEL_{i}" for i, name in enumerate(names)) else names


def longest_input(
    config: transformers.PreTrainedConfig, tokenizer: transformers.PreTrainedTokenizerBase, task: Task
) -> int | None:
    """Return the largest number of input tokens, or None without a limit. Some models cannot use all position embeddings."""
    limit = context_length(config)
    if task is CAUSAL or limit is None:
        return limit
    return min(limit - _skipped_positions(config, task), int(tokenizer.model_max_length))


def _skipped_positions(config: transformers.PreTrainedConfig, task: Task) -> int:
    """Return the number of positions before a text's first: RoBERTa and its kind start after the pad token's id."""
    if not is_known(config, task):
        return 0
    import torch

    with torch.device("meta"):
        model = getattr(transformers, task.auto_class).from_config(config)
    pads = [getattr(m, "padding_idx", None) for n, m in model.named_modules() if n.endswith(".position_embeddings")]
    return max((pad + 1 for pad in pads if pad is not None), default=0)


def needs_unused_parameter_search(config: transformers.PreTrainedConfig, task: Task) -> bool:
    """Return whether DDP must look for unused parameters in each step.

    A step may not use all experts, layers with LayerDrop, or the vision tower of a multimodal model.
    """
    drops = any("layerdrop" in name and value for name, value in config.to_dict().items())
    known = task is CAUSAL and config.model_type in USES_ALL_WEIGHTS and not hasattr(config, "auto_map")
    return drops or not known


def every_config(config: transformers.PreTrainedConfig) -> Iterator[transformers.PreTrainedConfig]:
    """Yield a configuration, and those of its parts: of the text, the vision tower, the decoder."""
    yield config
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if isinstance(part, transformers.PreTrainedConfig):
            yield from every_config(part)


def without_cache(config: transformers.PreTrainedConfig) -> Callable[[], None]:
    """Disable the cache of keys and values, also in the parts of a model, and return what restores the settings.

    A training has no use for it, and a model that fills one does not look for the samples of a packed row.
    """
    before = [
        (part, part.use_cache) for part in every_config(config) if isinstance(getattr(part, "use_cache", None), bool)
    ]

    def restore() -> None:
        for part, value in before:
            part.use_cache = value

    for part, _ in before:
        part.use_cache = False
    return restore


def context_length(config: transformers.PreTrainedConfig) -> int | None:
    """Return the length of the model's context in tokens, or None without a limit."""
    text = config.get_text_config()
    limit = getattr(text, "max_position_embeddings", None) or getattr(text, "max_seq_len", None)  # the latter is MPT's
    return limit if limit and limit > 0 else None  # XLNet has -1
