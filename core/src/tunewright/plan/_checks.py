"""Converters and validators of fields that users set: each error names the field, the value and the remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

import attrs

from tunewright.errors import RequestError
from tunewright.plan._names import is_object_name, is_qualified_name
from tunewright.plan._quantity import check_quantity
from tunewright.plan.secrets import refuse_literal_tokens

Attribute: TypeAlias = "attrs.Attribute[Any]"

Validator = Callable[[object, Attribute, object], None]

_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def refuse(problem: str, attribute: Attribute, value: object, remedy: str) -> None:
    """Raise RequestError for the value of a field."""
    raise RequestError(problem, field=attribute.name, value=value, remedy=remedy)


def at_least(least: int, remedy: str) -> Validator:
    """Return a validator: an integer, `least` or more."""
    return _AtLeast(least, remedy)


@attrs.frozen
class _AtLeast:
    """A validator whose limit the JSON schema of the class can name."""

    least: int
    remedy: str

    def __call__(self, _: object, attribute: Attribute, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            refuse("must be a whole number", attribute, value, self.remedy)
        elif value < self.least:
            refuse(f"must be at least {self.least}", attribute, value, self.remedy)


def check_flag(_: object, attribute: Attribute, value: object) -> None:
    """Accept True and False, and nothing that is merely truthy ("no")."""
    if not isinstance(value, bool):
        refuse("must be True or False", attribute, value, "Write True or False.")


def check_object_name(_: object, attribute: Attribute, value: object) -> None:
    """Accept None, or a name for an object of the cluster."""
    if value is not None and not is_object_name(value):
        remedy = "Use lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit."
        refuse("is not a valid Kubernetes name", attribute, value, remedy)


def check_size(_: object, attribute: Attribute, value: Any) -> None:
    """Accept None, or a Kubernetes quantity."""
    check_quantity(value, field=attribute.name)


def check_labels(_: object, attribute: Attribute, value: Mapping[str, str]) -> None:
    """Accept strings by valid Kubernetes names, whose values are valid too where they are labels; no literal tokens."""
    for name, item in value.items():
        field = f"{attribute.name}[{name!r}]"
        if not is_qualified_name(name):
            remedy = "Use at most 63 letters, digits, '-', '_' and '.', after an optional domain and '/'."
            raise RequestError("is not a valid Kubernetes name", field=field, remedy=remedy)
        if not isinstance(item, str):
            raise RequestError("must be a string", field=field, value=item, remedy=f'Write "{item}".')
        if attribute.name != "annotations" and not _LABEL.fullmatch(item):
            remedy = "Use at most 63 letters, digits, '-', '_' and '.'; put longer text into annotations."
            raise RequestError("is not a valid label value", field=field, value=item, remedy=remedy)
    refuse_literal_tokens(value, attribute.name, "Everyone can read labels and annotations.")


def check_mapping(_: object, attribute: Attribute, value: object) -> None:
    """Accept a dict."""
    if not isinstance(value, dict):
        refuse("must be a dict", attribute, value, "Write {name: value}.")


def check_object(instance: object, attribute: Attribute, value: object) -> None:
    """Accept None, or an object of the Kubernetes API."""
    if value is not None:
        check_mapping(instance, attribute, value)
        check_manifest(instance, attribute, value)


def check_manifest(_: object, attribute: Attribute, value: object) -> None:
    """Accept what YAML can represent, without secrets."""
    _check_yaml(value, attribute.name)
    refuse_literal_tokens(value, attribute.name, "Refer to a Secret: valueFrom: {secretKeyRef: {name: …, key: …}}.")


def _check_yaml(value: object, path: str) -> None:
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str):
                raise RequestError("must be a string", field=f"{path}[{name!r}]", remedy=f'Write "{name}".')
            _check_yaml(item, f"{path}[{name!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_yaml(item, f"{path}[{index}]")
    elif value is not None and not isinstance(value, str | bool | int | float):
        kind, remedy = type(value).__name__, "Use strings, numbers, booleans, lists and dicts."
        article = "an" if kind[0].lower() in "aeiou" else "a"
        raise RequestError(f"is {article} {kind}, which YAML cannot represent", field=path, remedy=remedy)


def check_list_of(kind: type, example: str) -> Validator:
    """Return a validator: a tuple, as `to_list` makes it, of elements of this kind."""

    def check(_: object, attribute: Attribute, value: object) -> None:
        if not isinstance(value, tuple):
            refuse("must be a list", attribute, value, f"Write {attribute.name}={example}.")
            return
        for index, item in enumerate(value):
            if not isinstance(item, kind):
                problem, remedy = f"must be a {kind.__name__}", f"Write {attribute.name}={example}."
                raise RequestError(problem, field=f"{attribute.name}[{index}]", value=item, remedy=remedy)

    return check


def to_mapping(value: Any) -> Any:
    """Copy a mapping, all the way down; None becomes empty. The validator sees anything else as it is."""
    return {} if value is None else copied(value)


def to_list(value: Any) -> Any:
    """Return a tuple of the elements, each copied; None becomes empty. The validator sees anything else as it is."""
    if value is None:
        return ()
    return tuple(copied(v) for v in value) if is_list(value) else value


def copied(value: Any) -> Any:
    """Copy dicts and lists all the way down, so that nobody changes the caller's, nor ours."""
    if isinstance(value, Mapping):
        return {k: copied(v) for k, v in value.items()}
    return [copied(v) for v in value] if isinstance(value, list | tuple) else value


def is_list(value: object) -> bool:
    """Whether something is a collection other than text and mappings."""
    return isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)
