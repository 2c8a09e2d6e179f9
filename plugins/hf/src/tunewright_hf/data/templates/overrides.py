"""The user's chat template and end-of-text token, in place of the tokenizer's own."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from tunewright.errors import RequestError
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.config.named_templates import NAMED, named_template
from tunewright_hf.data.templates.probes import turn_ends

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_CLOSE = 3  # tokens that an error suggests
# What looks like a control token: <|im_end|>, <end_of_turn>, [/INST], and DeepSeek's with wide bars.
_CONTROL = re.compile(r"<[|\uff5c][^<>\s]+[|\uff5c]>|<(?:start|end)_of_turn>|\[/?[A-Z_]{3,}\]")


def override(tokenizer: PreTrainedTokenizerBase, data: DataParams) -> PreTrainedTokenizerBase:
    """Give a tokenizer the chat template and the end-of-text token of `data`, and return it.

    Raises:
        RequestError: the end-of-text token, or a token of a named template, is not a token of the tokenizer.
    """
    if data.eos_token is not None:
        _check_token(tokenizer, data.eos_token)
        tokenizer.eos_token = data.eos_token
    given = data.chat_template
    if given is not None and given in NAMED:
        _check_named(tokenizer, given)
        tokenizer.chat_template = named_template(given)
    elif given is not None:
        tokenizer.chat_template = given
        if cut := lacking(tokenizer, _control_texts(given)):
            logger.warning("the tokenizer cuts into pieces what the chat template writes: %s", ", ".join(cut))
    return tokenizer


def check_ends(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a chat template that the user gave if it ends turns with the text of a token that the tokenizer does not have.

    Raises:
        RequestError: naming the text.
    """
    ends = turn_ends(tokenizer, str(tokenizer.get_chat_template()))
    if ends.known and not ends.last and (cut := _control_texts(ends.tail)):
        problem = f"ends turns with {cut[0]}, which the tokenizer cuts into pieces, so generation could not stop at it"
        remedy = "Write {{ eos_token }} there, or one of the tokenizer's tokens."
        raise RequestError(problem, field="DataParams.chat_template", remedy=remedy)


def lacking(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> list[str]:
    """Return those of some tokens that a tokenizer does not have."""
    vocabulary = tokenizer.get_vocab()
    return [token for token in tokens if token not in vocabulary]


def fits(tokenizer: PreTrainedTokenizerBase, name: str) -> bool:
    """Return whether a tokenizer has all tokens of a named template."""
    return not lacking(tokenizer, NAMED[name])


def warn_of_prompt(tokenizer: PreTrainedTokenizerBase) -> None:
    """Log it if the chat template asks with words that its answers do not begin with, such as <think>."""
    asked = (
        turn_ends(tokenizer, str(tokenizer.get_chat_template())).unprompted.strip() if tokenizer.chat_template else ""
    )
    if asked:
        logger.warning(
            "the chat template ends a prompt with %r, and answers without thoughts do not begin with it: the model is asked "
            "otherwise than it is trained%s",
            asked,
            "; trainer.data.chat_template: deepseek-r1 writes it" if fits(tokenizer, "deepseek-r1") else "",
        )


def _control_texts(text: str) -> list[str]:
    """Return the pieces of a text that look like control tokens, each once."""
    return list(dict.fromkeys(_CONTROL.findall(text)))


def _check_token(tokenizer: PreTrainedTokenizerBase, token: str) -> None:
    if not lacking(tokenizer, [token]):
        return
    added = [str(t) for t in tokenizer.added_tokens_decoder.values()]
    close = get_close_matches(token, added, n=_CLOSE, cutoff=0.4) or get_close_matches(
        token, [t for t in tokenizer.get_vocab() if len(t) > 1], n=_CLOSE
    )
    meant = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
    remedy = f"{meant}Give one of the tokenizer's tokens, or leave it out for its own, {tokenizer.eos_token!r}."
    raise RequestError(
        "is not a token of the model's tokenizer", field="DataParams.eos_token", value=token, remedy=remedy
    )


def _check_named(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    field = "DataParams.chat_template"
    if missing := lacking(tokenizer, NAMED[name]):
        problem = (
            f"writes {', '.join(missing)}, which the model's tokenizer does not have as a token: it would be cut into pieces, "
            "and generation could not stop at it"
        )
        fitting = ", ".join(other for other in NAMED if fits(tokenizer, other))
        raise RequestError(problem, field=field, value=name, remedy=f"Give one that fits this tokenizer: {fitting}.")
    if tokenizer.eos_token is None:
        remedy = "Name one of the tokenizer's tokens: trainer.data.eos_token: …"
        raise RequestError(
            "needs an end-of-text token, and the tokenizer has none", field=field, value=name, remedy=remedy
        )
