"""Families of models that cannot be trained as a task: found out with a miniature, before a rank starts."""

from __future__ import annotations

import logging

import torch
import transformers

from tunewright.errors import RequestError
from tunewright_hf.config.tasks import CAUSAL, Task
from tunewright_hf.config.train_params import TrainParams
from tunewright_hf.data.samples.collators import Collator
from tunewright_hf.model import attention, probe
from tunewright_hf.model.config import USES_ALL_WEIGHTS, auto_class_of
from tunewright_hf.model.miniature import miniature

logger = logging.getLogger(__name__)

REFUSED = {
    "git": "whose loss leaves out as many tokens of a text as an image has",
    "molmo2": "which cannot be trained without the kinds of its tokens, mm_token_type_ids",
    "reformer": "which trains on texts of one length alone, the product of its axial_pos_shape, and hashes them at random",
    "shieldgemma2": "which transformers cannot load again once it is saved",
}
"""Reasons that no miniature shows, by model type."""


def check_family(config: transformers.PreTrainedConfig, task: Task, *, trust: bool = False, loss: bool = True) -> None:
    """Refuse an architecture that a task cannot train, as far as a miniature of it shows.

    Where none can be built, the ranks try out the model itself.

    Args:
        config: the model's configuration.
        task: the task.
        trust: whether the model may bring Python code.
        loss: whether the model computes the loss of the training.

    Raises:
        RequestError: names the model and says what to give.
    """
    if reason := REFUSED.get(config.model_type):
        raise RequestError(f"is a {type(config).__name__}, {reason}", field="model", remedy="Give another model.")
    if task is CAUSAL and config.model_type not in USES_ALL_WEIGHTS:  # those were tested
        model = _built(config, task, trust=trust)
        if model is not None:
            probe.check_causal(model, loss=loss)


def check_packing(config: transformers.PreTrainedConfig, params: TrainParams) -> None:
    """Refuse to pack rows for an architecture that does not isolate their samples, as far as a miniature of it shows.

    Raises:
        RequestError: names the model.
    """
    if not params.data.packing or config.model_type in USES_ALL_WEIGHTS:  # those were tested
        return
    model = _built(config, params.task, trust=params.trust_remote_code)
    if model is None or (params.attn_implementation == "auto" and attention.may_be_flash(model)):
        return
    try:
        attention.choose_attention(model, params.attn_implementation, half=False)
        isolates = probe.isolates_samples(model, Collator(0, padding_free=True))
    except Exception as error:  # as of an attention that needs a GPU; the ranks try out the model itself
        logger.info("packing was not tried out with a miniature of %s: %r", config.model_type, error)
        return
    if not isolates:
        raise probe.no_packing(model)


def _built(config: transformers.PreTrainedConfig, task: Task, *, trust: bool) -> transformers.PreTrainedModel | None:
    try:
        small = miniature(config)
        small._name_or_path = config._name_or_path  # where its code is, if it brings some
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            auto = getattr(transformers, auto_class_of(config, task))
            return auto.from_config(small, trust_remote_code=trust).eval()
    except Exception as error:  # whatever an architecture makes of sizes that it was not written for
        logger.info("no miniature of %s to try out: %r", config.model_type, error)
        return None
