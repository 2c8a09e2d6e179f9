"""LoRA adapters: PEFT's configuration, heads that are trained beside it, and merging."""

from __future__ import annotations

import collections
import re
from collections.abc import Collection, Mapping

import peft
import transformers
from peft.tuners.tuners_utils import BaseTunerLayer

from tunewright.errors import RequestError
from tunewright_hf.config.library_arguments import LoraConfig, construct
from tunewright_hf.errors import refused

# Modules that peft itself adds to those that are saved, for TaskType SEQ_CLS.
_KNOWN_HEADS = re.compile(r"(^|\.)(classifier|score)($|\.)")


def with_head(
    lora: peft.LoraConfig, model: transformers.PreTrainedModel, loading: Mapping[str, Collection[str]] | None = None
) -> peft.LoraConfig:
    """Train and save a classifier's whole head, and what its files did not have: else an adapter stands on random numbers.

    Args:
        lora: is changed, and returned.
        model: the classifier.
        loading: what `from_pretrained` tells of the files.
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
    """The real LoraConfig; on all linear layers unless it says which.

    Raises:
        RequestError: peft refuses it.
    """
    targets = {"target_modules", "target_parameters"} & set(config)
    ours: dict[str, object] = {} if targets else {"target_modules": "all-linear"}
    with refused("lora_config", "Change the field that it names."):
        return construct(peft.LoraConfig, {**ours, **config, "task_type": task_type})


def check_merge(model: peft.PeftModel) -> None:
    """Merged into a weight that two layers share, as tied embeddings do, an adapter of one would change both.

    Raises:
        RequestError: there is such a layer.
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
