"""Secrets: references and literals, and how literals are kept out of every place that people read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import attrs

from tunewright.errors import RequestError
from tunewright.plan._names import is_object_name, is_secret_key

REDACTED = "<redacted>"


@attrs.frozen(kw_only=True)
class SecretRef:
    """A key of an existing Kubernetes Secret.

    Attributes:
        name: the Secret's name, in the job's namespace.
        key: the key within it.
    """

    name: str = attrs.field()
    key: str = attrs.field()

    # Messages leave the value out: it may be the secret itself, given to the wrong class.
    @name.validator
    def _check_name(self, _: attrs.Attribute[str], value: object) -> None:
        if not is_object_name(value):
            remedy = 'Write SecretRef(name="…", key="…"), with the name of a Secret in the job\'s namespace.'
            raise RequestError("is not a valid Kubernetes name", field="SecretRef.name", remedy=remedy)

    @key.validator
    def _check_key(self, _: attrs.Attribute[str], value: object) -> None:
        if not is_secret_key(value):
            remedy = "Write one of the keys that `kubectl describe secret` lists."
            raise RequestError("is not a valid key of a Secret", field="SecretRef.key", remedy=remedy)


@attrs.frozen
class SecretValue:
    """A literal secret on its way to its container: it prints as `<redacted>` everywhere."""

    _value: str = attrs.field(repr=False)

    def __attrs_post_init__(self) -> None:
        """Refuse what an environment variable cannot hold."""
        if not isinstance(self._value, str) or not self._value or "\0" in self._value:
            problem = "must be a non-empty string without NUL characters"
            raise RequestError(problem, field="SecretValue", remedy="Give the secret itself as a string.")

    def reveal(self) -> str:
        """Return the literal. Only code that hands it to the container may call this."""
        return self._value

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__


EnvValue = str | SecretRef | SecretValue
"""The value of an environment variable of a container."""

# The published prefixes of tokens: a literal in a field that is not meant for secrets would end up in a manifest.
_TOKEN = re.compile(
    r"""\b(?: hf_[A-Za-z0-9]{20,} | (?:AKIA|ASIA)[A-Z0-9]{16} | gh[pousr]_[A-Za-z0-9]{30,}
          | github_pat_[A-Za-z0-9_]{30,} | glpat-[\w-]{20,} | KGAT_[A-Za-z0-9]{20,} | sk-[A-Za-z0-9_-]{32,} )
      | ://[^/@\s:]+:[^/@\s]+@ | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----""",
    re.VERBOSE,
)

# Common names of variables that hold secrets. SORT_KEY is not one, nor is a tokenizer's EOS_TOKEN.
_SECRET_NAME = re.compile(
    r".*(SECRET|PASSWORD|PASSWD|PASSPHRASE)|(.*_)?((?P<token>TOKEN)|(API|ACCESS|AUTH|KAGGLE|PRIVATE|SECRET)_?KEY)",
    re.IGNORECASE,
)

_SHORTEST_TOKEN = 8


def is_called_a_secret(name: str, value: str) -> bool:
    """Whether the name of a variable with that value says that it is a secret."""
    found = _SECRET_NAME.fullmatch(name)
    if not found or not value:
        return False
    return not found["token"] or (len(value) >= _SHORTEST_TOKEN and not set(value) & set("<>[]|"))


def refuse_literal_tokens(value: object, field: str, remedy: str) -> None:
    """Raise RequestError if `value`, or anything inside it, looks like a token. The message does not repeat it."""
    for path, text in _strings(value, field):
        if _TOKEN.search(text):
            raise RequestError("looks like a literal token, but is not a secret field", field=path, remedy=remedy)


def _strings(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(item, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _strings(item, f"{path}[{index}]")
