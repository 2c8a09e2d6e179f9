"""Which split a name means, and which one is meant where none has the usual name."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_ANSWERS = ("sft",)
_PAIRS = ("prefs", "pref", "preference", "preferences", "dpo")
"""What follows "train_" in the names of splits to learn answers, or preferences, from."""


def usual_name(split: str) -> str:
    """Return "train", "validation" or "test" for a split of such a name, and another name as it is."""
    return _WORDS.get(split.lower(), split)


def usual_word(word: str) -> str | None:
    """Return "train", "validation" or "test" for a word, in lower case, that means one of them."""
    return _WORDS.get(word)


def like(split: str) -> tuple[str, str] | None:
    """Return what a name such as "train_sft" is made of: "train" and "sft"; None for another name."""
    first, _, rest = re.sub("-", "_", split.lower()).partition("_")
    return (_WORDS[first], rest) if rest and first in _WORDS else None


def only_like(splits: Iterable[str], kind: str, form: str, rest: str | None = None) -> str | None:
    """Return the only split that is like "train", or another kind, and fits; None if there is none, or more than one.

    Args:
        splits: the names of all splits.
        kind: "train", "validation" or "test".
        form: the format of `DataParams`: pairs are for "preference" only.
        rest: what must follow the kind; None: what the format asks for, if there are several.
    """
    found = {name: made[1] for name in splits if (made := like(name)) and made[0] == kind}
    if rest is None and len(found) > 1:
        wanted = _PAIRS if form == "preference" else _ANSWERS
        found = {name: last for name, last in found.items() if last in wanted}
    if rest is not None:
        found = {name: last for name, last in found.items() if last == rest}
    return next(iter(found)) if len(found) == 1 else None
