"""LoRA adapters: PEFT's configuration, classification heads that are trained with them, and merging."""

from __future__ import annotations

import collections
import re
from collections.abc import Collection, Mapping

import peft
import transformers
from peft.tuners.tuners_utils import BaseTunerLayer

from tunewright.errors import RequestError
from tunewright_hf.config.library_arguments import LoraConfig, construct
from tunewright_hf.errors import as_request_error

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
    ours: dict[str, object] = {} if targets else {"target_modules": "all-linear"}
    with as_request_error("lora_config", "Change the field that it names."):
        return construct(peft.LoraConfig, {**ours, **config, "task_type": task_type})


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
