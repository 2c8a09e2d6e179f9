"""Where generation stops: the tokens that the model's folder names, and those that the turns of its chat template end with."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import transformers

from tunewright_hf.config.train_params import TrainParams
from tunewright_hf.data.samples.encode import Goal, check_highest
from tunewright_hf.data.templates.overrides import warn_of_prompt
from tunewright_hf.data.templates.probes import control_tokens, turn_ends
from tunewright_hf.data.templates.turn_ends import Stops, unstopped
from tunewright_hf.data.tokenize import pad_token_id
from tunewright_hf.errors import as_request_error
from tunewright_hf.model.config import context_length, known_labels

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

_TRAINED = 0.01  # of the median length of a token's vector; base models have vectors near zero, or all alike, for unused tokens
_SAMPLE = 4096  # vectors


def goal_of(
    params: TrainParams,
    folder: Path,
    config: transformers.PreTrainedConfig,
    tokenizer: transformers.PreTrainedTokenizerBase,
) -> Goal:
    """Return what samples are made for.

    Raises:
        RequestError: the model has no embedding for the end-of-text token.
    """
    if params.data.eos_token is not None:
        check_highest(tokenizer.eos_token_id, config.get_text_config().vocab_size)
    known = known_labels(config, params.task)
    tokens = stop_tokens(folder, config) if params.task.writes else ()
    stops = Stops(tokens=tokens, fixed=params.lora_config is not None and not params.merge)
    return Goal(task=params.task, num_labels=params.num_labels, known=known, stops=stops)


def stop_tokens(folder: Path, config: transformers.PreTrainedConfig) -> tuple[int, ...]:
    """Return the ids of the tokens that generation stops at, by the model's folder: generation_config.json, or config.json.

    Raises:
        RequestError: generation_config.json cannot be read.
    """
    found = getattr(config.get_text_config(), "eos_token_id", None)
    if (folder / transformers.utils.GENERATION_CONFIG_NAME).is_file():
        with as_request_error("model", "Correct its generation_config.json, or remove it."):
            found = transformers.GenerationConfig.from_pretrained(folder).eos_token_id
    return tuple(sorted(_as_set(found)))


def stop_at_turn_ends(
    model: transformers.PreTrainedModel, tokenizer: transformers.PreTrainedTokenizerBase, stops: Stops, *, turns: bool
) -> None:
    """Let the result's generation stop at the end of the chat template's turns, where it would not.

    Models without instruction tuning often stop at <|endoftext|> alone, and their template ends turns with another token.

    Args:
        model: the model, whose `generation_config` is saved with the result.
        tokenizer: its tokenizer.
        stops: where generation stops by the model's folder.
        turns: whether conversations are trained on.
    """
    settings = getattr(model, "generation_config", None)
    if settings is None or not tokenizer.chat_template or not turns:
        return
    warn_of_prompt(tokenizer)
    ends = turn_ends(tokenizer, str(tokenizer.get_chat_template()))
    before = stops.with_eos(tokenizer)
    more = unstopped(ends, before)
    if not more:
        return
    settings.eos_token_id = sorted({*before, *more})
    names = ", ".join(str(tokenizer.convert_ids_to_tokens(token)) for token in more)
    logger.warning(
        "the chat template ends turns with %s, where the model's generation does not stop: it is added to eos_token_id in "
        "the result's generation_config.json",
        names,
    )
    if (token := stops.closing(tokenizer, more[0])) is not None:
        logger.warning(
            "the result is an adapter, and what loads it stops where its base model does: so the samples also end with %s; "
            "train with merge: true for a result that stops at %s",
            tokenizer.convert_ids_to_tokens(token),
            names,
        )
    if tokenizer.eos_token is None:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(more[0])


def answer_settings(
    model: transformers.PreTrainedModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    *,
    prompt: int,
    max_tokens: int,
    temperature: float = 0.0,
) -> transformers.GenerationConfig | None:
    """Return how a model answers a prompt: it stops where its `generation_config` says, and at the end-of-text token.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        prompt: tokens of the prompt.
        max_tokens: tokens of the answer, at most; fewer if the model's context has no room for them.
        temperature: 0 takes the most likely token each time.

    Returns:
        The settings; None if the prompt leaves no room in the context.
    """
    own = model.generation_config
    context = context_length(model.config) or math.inf
    room = context if model.config.is_encoder_decoder else context - prompt  # an encoder reads the prompt by itself
    if prompt > context or room < 1:
        return None
    stops = Stops(tokens=tuple(_as_set(own and own.eos_token_id))).with_eos(tokenizer)
    chosen = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    return transformers.GenerationConfig(
        max_new_tokens=int(min(max_tokens, room)),
        eos_token_id=sorted(stops) or None,
        pad_token_id=pad_token_id(tokenizer),
        decoder_start_token_id=own and own.decoder_start_token_id,
        **chosen,
    )


def warn_of_untrained(
    model: transformers.PreTrainedModel, tokenizer: transformers.PreTrainedTokenizerBase, *, turns: bool
) -> None:
    """Log it if the chat template writes tokens that the model was never trained on and is not trained on now, as an adapter of a base model.

    Args:
        model: the model, with its adapter.
        tokenizer: its tokenizer.
        turns: whether conversations are trained on.
    """
    if not turns or not tokenizer.chat_template:
        return
    written = control_tokens(tokenizer, str(tokenizer.get_chat_template()))
    found: dict[str, list[int]] = {}
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        name = next((name for name, module in model.named_modules() if module is layer), "").rpartition(".")[2]
        if layer is not None and not any(weight.requires_grad for weight in layer.parameters()):
            found[name] = _untrained(layer.weight, written)
    if tokens := sorted({token for tokens in found.values() for token in tokens}):
        logger.warning(
            "the chat template writes %s, whose vectors in %s seem never to have been trained, and stay as they are: train them "
            "with trainer.lora_config.trainable_token_indices: %s, or train all tokens with modules_to_save: [%s]",
            ", ".join(str(tokenizer.convert_ids_to_tokens(token)) for token in tokens),
            " and ".join(name for name in found if found[name]),
            json.dumps(dict.fromkeys(found, tokens)),
            ", ".join(found),
        )


def _untrained(vectors: torch.Tensor, tokens: list[int]) -> list[int]:
    """Return those of the tokens whose vectors are about zero, or about the mean of all; none if the vectors are elsewhere."""
    if vectors.ndim != 2 or vectors.shape[0] <= max(tokens, default=0):  # noqa: PLR2004 - of a sharded model
        return []
    every = vectors.detach()
    some = every[:: max(1, len(every) // _SAMPLE)].float()  # a copy of all of them would take gigabytes
    least = _TRAINED * some.norm(dim=1).median()
    own = every[tokens].float()
    near = (own.norm(dim=1) < least) | ((own - every.mean(dim=0, dtype=own.dtype)).norm(dim=1) < least)
    return [token for token, is_near in zip(tokens, near.tolist(), strict=True) if is_near]


def _as_set(tokens: int | Iterable[int] | None) -> set[int]:
    if tokens is None:
        return set()
    return {tokens} if isinstance(tokens, int) else set(tokens)
