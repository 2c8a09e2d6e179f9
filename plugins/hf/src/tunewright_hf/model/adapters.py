"""LoRA adapters: PEFT's configuration, classification heads that are trained with them, and merging."""

from __future__ import annotations

import collections
import functools
import inspect
import logging
import re
from collections.abc import Collection, Hashable, Iterator, Mapping
from typing import cast

import peft
import torch
import transformers
from peft.tuners.tuners_utils import BaseTunerLayer

from tunewright.errors import RequestError
from tunewright_hf.config.library_arguments import LoraConfig, construct
from tunewright_hf.distributed import shape_of
from tunewright_hf.errors import as_request_error
from tunewright_hf.model.config import reads_images
from tunewright_hf.model.language import language_names

logger = logging.getLogger(__name__)

ALL_LINEAR = "all-linear"
"""PEFT's word for all linear layers but the head."""

# Modules that PEFT itself saves with the adapter, for TaskType SEQ_CLS.
_KNOWN_HEADS = re.compile(r"(^|\.)(classifier|score)($|\.)")


def with_head(
    lora: peft.LoraConfig, model: transformers.PreTrainedModel, loading: Mapping[str, Collection[str]] | None = None
) -> peft.LoraConfig:
    """Train and save a classifier's whole head, and all weights that its files lacked, with the adapter.

    Otherwise these weights would be random whenever somebody loads the adapter.

    Args:
        lora: the configuration; it is changed and returned.
        model: the classifier.
        loading: the loading info of `from_pretrained`.
    """
    modules = {
        name for name, part in model.named_children() if name != model.base_model_prefix and [*part.parameters()]
    }
    if loading is not None:
        missing = [*loading["missing_keys"], *(mismatch[0] for mismatch in loading["mismatched_keys"])]
        modules |= {key.rpartition(".")[0] for key in missing}
    unknown = {name for name in modules if not _KNOWN_HEADS.search(name)}
    lora.modules_to_save = sorted({*(lora.modules_to_save or []), *unknown}) or None
    return lora


def build_lora(config: LoraConfig, task_type: str = "CAUSAL_LM") -> peft.LoraConfig:
    """Return the real LoraConfig, by default for all linear layers.

    Raises:
        RequestError: PEFT rejects it.
    """
    targets = {"target_modules", "target_parameters"} & set(config)
    ours: dict[str, object] = {} if targets else {"target_modules": ALL_LINEAR}
    with as_request_error("lora_config", "Change the field that it names."):
        return construct(peft.LoraConfig, {**ours, **config, "task_type": task_type})


def fit_to(lora: peft.LoraConfig, model: transformers.PreTrainedModel) -> peft.LoraConfig:
    """Let an adapter leave out what it does not fit: the parts of a model for images, and for "all-linear" some layers.

    These are routers, which return more than a product, and the projections of state space layers that PEFT refuses.

    Args:
        lora: the configuration; it is changed and returned.
        model: the model, before it is adapted.
    """
    excluded = _excluded_by_user(lora)
    if reads_images(model.config):
        others = f"(?!{'|'.join(language_names(model))}).*"
        if others not in "".join(excluded):  # as it is in an adapter that is continued
            excluded += [others, *_numbered(model)]
    if lora.target_modules == ALL_LINEAR:
        unfit = sorted({_any_layer(name) for name in _unfit(model)})
        excluded += unfit
        if unfit:
            logger.warning("all-linear leaves out what LoRA does not fit: %s", ", ".join(unfit))
        if experts := sorted({_any_layer(name) for name in _expert_weights(model, lora)}):
            logger.warning(
                "all-linear leaves out the experts: %s; adapt them with lora_config.target_parameters",
                ", ".join(experts),
            )
    if excluded:
        lora.exclude_modules = "|".join(excluded)
    return lora


def _numbered(model: transformers.PreTrainedModel) -> list[str]:
    """Return patterns of modules that have a number for a name, and others inside.

    PEFT looks for the ends of names: a linear layer of the vision tower that is called `mlp.0` would have it adapt `layers.0`.
    """
    parts = (name for name, module in model.named_modules() if [*module.children()])
    return sorted({_any_layer(name) for name in parts if name.rpartition(".")[2].isdigit()})


def _excluded_by_user(lora: peft.LoraConfig) -> list[str]:
    """Return the modules that the user excludes, as patterns: PEFT takes a pattern, or the ends of names."""
    given = lora.exclude_modules
    if not given:
        return []
    return [f"(?:{given})"] if isinstance(given, str) else [rf"(?:.*\.)?{re.escape(name)}" for name in given]


def _unfit(model: torch.nn.Module) -> Iterator[str]:
    """Yield the names of layers that are linear by their class, and are used in another way than as such a layer."""
    for name, module in model.named_modules():
        for child, layer in module.named_children():
            if isinstance(layer, torch.nn.Linear) and (_reads_weight(type(module), child) or not _is_product(layer)):
                yield f"{name}.{child}".lstrip(".")


def _reads_weight(owner: type[torch.nn.Module], child: str) -> bool:
    """Return whether a module passes a layer's weight on, as to a kernel, where an adapter would have no effect."""
    if not owner.__module__.startswith("transformers."):
        return False
    return (
        re.search(rf"self\.{child}\.weight\b(?!\.(?:dtype|device|shape))", _source_of(cast("Hashable", owner)))
        is not None
    )


@functools.cache
def _source_of(owner: Hashable) -> str:
    """Return a class's source. To find it, its whole module is parsed: once for a class, and not for each of its layers."""
    return inspect.getsource(cast("type", owner))


def _is_product(layer: torch.nn.Linear) -> bool:
    """Return whether a layer returns what a linear layer does: a router may return more."""
    if (
        not type(layer).__module__.startswith("transformers.") or not layer.weight.numel()
    ):  # nothing is here if it is sharded
        return True
    try:
        with torch.no_grad():
            found = layer(torch.zeros(2, layer.in_features, dtype=layer.weight.dtype, device=layer.weight.device))
    except (TypeError, ValueError, RuntimeError):  # as of a layer that has groups of inputs
        return False
    return isinstance(found, torch.Tensor) and found.shape == (2, layer.out_features)


def _expert_weights(model: transformers.PreTrainedModel, lora: peft.LoraConfig) -> list[str]:
    """Return the names of weights that several experts have in one tensor, which no linear layer holds."""
    stacked = [n for n, w in model.named_parameters() if "expert" in n and len(shape_of(w)) == 3]  # noqa: PLR2004
    return [] if lora.target_parameters else stacked


def _any_layer(name: str) -> str:
    return re.sub(r"\d+", r"\\d+", re.escape(name))


def check_merge(model: peft.PeftModel) -> None:
    """Refuse to merge an adapter into a weight that two layers share, as with tied embeddings: both would change.

    Raises:
        RequestError: an adapted layer shares its weight.
    """
    owners = collections.Counter(id(w) for m in model.modules() for w in m.parameters(recurse=False))
    layers = [(n, m.get_base_layer()) for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)]
    shared = [n for n, layer in layers if any(owners[id(w)] > 1 for w in layer.parameters(recurse=False))]
    if shared:
        problem = (
            f"does not work with LoRA on {shared[0].rpartition('.')[2]}, which shares its weight with another layer"
        )
        remedy = "Leave merge out, or name the layer in modules_to_save instead of target_modules."
        raise RequestError(problem, field="merge", value=True, remedy=remedy)
