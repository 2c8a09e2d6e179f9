"""Families of models that cannot be trained as a task: found out with a miniature, before a rank starts."""

from __future__ import annotations

import logging

import transformers

from tunewright.errors import RequestError
from tunewright_hf.config.tasks import CAUSAL, Task
from tunewright_hf.model import probe
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


def _built(config: transformers.PreTrainedConfig, task: Task, *, trust: bool) -> transformers.PreTrainedModel | None:
    try:
        small = miniature(config)
        small._name_or_path = config._name_or_path  # where its code is, if it brings some
        return getattr(transformers, auto_class_of(config, task)).from_config(small, trust_remote_code=trust).eval()
    except Exception as error:  # whatever an architecture makes of sizes that it was not written for
        logger.info("no miniature of %s to try out: %r", config.model_type, error)
        return None
