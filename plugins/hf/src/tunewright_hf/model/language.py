"""The language part of a model that reads images as well: it is what texts train, and everything else stays as it is."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

import peft
import transformers

from tunewright_hf.kernels.recognise import base_of
from tunewright_hf.model.config import reads_images

logger = logging.getLogger(__name__)

# Files of a processor, which prepares images and texts. A training knows the tokenizer alone.
_PROCESSOR = ("*processor*.json", "chat_template.*")


def language_part(model: transformers.PreTrainedModel | peft.PeftModel) -> transformers.PreTrainedModel:
    """Return the language model inside a model that reads images, without its head, or else the model without its adapter."""
    base = base_of(model)
    return base.get_decoder() if reads_images(base.config) else base


def language_names(model: transformers.PreTrainedModel) -> list[str]:
    """Return patterns that the full names of modules match from their first letter, if they belong to the language part."""
    part, head = language_part(model), model.get_output_embeddings()
    named = dict(model.named_modules())
    inside = [re.escape(name) + r"\." for name, module in named.items() if module is part]
    return inside + [re.escape(name) + "$" for name, module in named.items() if head is not None and module is head]


def freeze_other_parts(model: transformers.PreTrainedModel) -> None:
    """Train the language part and its head only, where a model reads images."""
    if not reads_images(model.config):
        return
    head = model.get_output_embeddings()
    trained = {id(w) for part in (language_part(model), head) if part is not None for w in part.parameters()}
    for weight in model.parameters():
        weight.requires_grad_(weight.requires_grad and id(weight) in trained)
    logger.info("%s: texts train its language part alone; everything else stays as it is", type(model).__name__)


def copy_processor(model: Path, result: Path) -> None:
    """Copy the files that prepare images for a model beside its result."""
    for pattern in _PROCESSOR:
        for file in model.glob(pattern):
            if file.is_file() and not (result / file.name).exists():
                shutil.copyfile(file, result / file.name)
