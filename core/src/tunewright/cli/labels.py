"""Parse labels and annotations given on the command line."""

from __future__ import annotations

from collections.abc import Iterable

from tunewright.errors import RequestError


def pairs(words: Iterable[str]) -> dict[str, str]:
    """Parse words of the form `KEY=VALUE`.

    Raises:
        RequestError: a word does not have this form.
    """
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise RequestError("is not KEY=VALUE", field="--label", value=word, remedy="Write --label team=a.")
        found[key] = value
    return found


def changes(words: Iterable[str]) -> dict[str, str | None]:
    """Parse words of the form `KEY=VALUE`, or `KEY-` to remove a key, as in kubectl.

    Returns:
        The new value of each key; None for a key to remove.

    Raises:
        RequestError: a word has neither form.
    """
    given = list(words)
    removed = [word for word in given if word.endswith("-") and "=" not in word]
    return {**pairs(word for word in given if word not in removed), **{word[:-1]: None for word in removed}}
