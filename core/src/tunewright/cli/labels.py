"""Labels and annotations as words of a command line."""

from __future__ import annotations

from collections.abc import Iterable

from tunewright.errors import RequestError


def pairs(words: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE` each.

    Raises:
        RequestError: a word is no such pair.
    """
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise RequestError("is not KEY=VALUE", field="--label", value=word, remedy="Write --label team=a.")
        found[key] = value
    return found


def changes(words: Iterable[str]) -> dict[str, str | None]:
    """`KEY=VALUE` each, or `KEY-`, as kubectl has it, for one that is to be removed.

    Raises:
        RequestError: a word is neither.
    """
    given = list(words)
    removed = [word for word in given if word.endswith("-") and "=" not in word]
    return {**pairs(word for word in given if word not in removed), **{word[:-1]: None for word in removed}}
