"""Converters and validators of a request's fields: each refusal names the field, the value and the remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from tunewright.errors import RequestError
from tunewright.secret import EnvValue, SecretRef, SecretValue, refuse_literal_tokens
from tunewright.specs import Resources

if TYPE_CHECKING:
    Attribute = attrs.Attribute[Any]  # not subscriptable at run time

# The operator makes pods and services `<job>-worker-<n>`, which must be DNS-1035 labels (63 characters) themselves.
MAX_NAME = 50
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


class RequestLike(Protocol):
    """The fields that other fields are checked against."""

    num_workers: int
    resources_per_worker: Resources


def _refuse(problem: str, attribute: Attribute, value: object, remedy: str) -> None:
    raise RequestError(problem, field=attribute.name, value=value, remedy=remedy)


def check_name(_: object, attribute: Attribute, value: object) -> None:
    """A DNS-1035 label, short enough for the names that the operator derives from it."""
    remedy = f"Use at most {MAX_NAME} lower-case letters, digits and hyphens, beginning with a letter: llama-sft-1."
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        _refuse("is not a name that Kubernetes takes", attribute, value, remedy)
    elif len(value) > MAX_NAME:
        _refuse(f"has {len(value)} characters", attribute, value, remedy)


def at_least(least: int, remedy: str) -> Callable[[object, Attribute, object], None]:
    """A validator: a whole number, no smaller than `least`."""

    def check(_: object, attribute: Attribute, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            _refuse("must be a whole number", attribute, value, remedy)
        elif value < least:
            _refuse(f"must be at least {least}", attribute, value, remedy)

    return check


def check_env(_: object, attribute: Attribute, value: Mapping[str, EnvValue]) -> None:
    """Variable names, and values that are strings or secrets; no literal tokens."""
    for name, item in value.items():
        field = f"{attribute.name}[{name!r}]"
        if not _ENV_NAME.fullmatch(name):
            raise RequestError("is not a variable name", field=field, remedy="Use letters, digits and underscores.")
        if not isinstance(item, str | SecretRef | SecretValue):
            raise RequestError("must be a string", field=field, value=item, remedy=f'Write "{item}".')
    remedy = 'Give SecretRef(name="…", key="…") for a Kubernetes Secret, or SecretValue("…") for a literal secret.'
    refuse_literal_tokens({k: v for k, v in value.items() if isinstance(v, str)}, attribute.name, remedy)


def check_labels(_: object, attribute: Attribute, value: Mapping[str, str]) -> None:
    """Strings, and for labels Kubernetes' rules; no literal tokens."""
    for name, item in value.items():
        field = f"{attribute.name}[{name!r}]"
        if not isinstance(item, str):
            raise RequestError("must be a string", field=field, value=item, remedy=f'Write "{item}".')
        if attribute.name == "labels" and not _LABEL.fullmatch(item):
            remedy = "Use at most 63 letters, digits, '-', '_' and '.'; longer texts go into annotations."
            raise RequestError("is not a label value", field=field, value=item, remedy=remedy)
    refuse_literal_tokens(value, attribute.name, "Labels and annotations can be read by everybody.")


def check_elastic(instance: RequestLike, attribute: Attribute, value: tuple[int, int] | None) -> None:
    """None, or a range that contains `num_workers`."""
    remedy = "Give (least, most) workers, for example elastic=(1, 3)."
    match value:
        case None:
            return
        case (int(least), int(most)) if 1 <= least <= most:
            within = least <= instance.num_workers <= most
        case _:
            raise RequestError("is not a range of workers", field="elastic", value=value, remedy=remedy)
    if not within:
        _refuse(f"does not contain num_workers={instance.num_workers}", attribute, value, remedy)


def check_output(_: object, attribute: Attribute, value: str | None) -> None:
    """None, or a URI without credentials."""
    if value is None:
        return
    refuse_literal_tokens(value, attribute.name, "Credentials for the upload do not go into the URI.")
    if "://" not in value:
        _refuse(
            "is not a URI",
            attribute,
            value,
            "Write s3://bucket/prefix, hf://org/name, pvc://claim/folder or file:///folder.",
        )


def to_processes(value: Any) -> Any:
    """A number written as a string becomes one."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def check_processes(instance: RequestLike, attribute: Attribute, value: object) -> None:
    """A number of processes, or "auto" where there are GPUs."""
    remedy = 'Give the number of processes in each worker; with GPUs, "auto" means one for each.'
    if value == "auto" and instance.resources_per_worker.gpu == 0:
        _refuse(
            "has no meaning without GPUs: torchrun would start a process for each core of the node",
            attribute,
            value,
            remedy,
        )
    elif value != "auto":
        at_least(1, remedy)(instance, attribute, value)


def check_image(_: object, attribute: Attribute, value: str | None) -> None:
    """None, or an image reference."""
    if value is not None and (not isinstance(value, str) or not value or value != value.strip()):
        _refuse("is not an image reference", attribute, value, "Write registry/repository:tag.")


def to_range(value: Any) -> Any:
    """YAML's list becomes a tuple."""
    return tuple(value) if isinstance(value, list) else value


def to_texts(values: Iterable[object] | None) -> tuple[str, ...]:
    """Strings of the values."""
    return tuple(str(v) for v in values or ())


def to_mapping(value: Any) -> Any:
    """A copy of a mapping; None is empty. Anything else is left to the validator."""
    if value is None:
        return {}
    return dict(value) if isinstance(value, Mapping) else value


def check_mapping(_: object, attribute: Attribute, value: object) -> None:
    """A dict."""
    if not isinstance(value, dict):
        _refuse("must be a dict", attribute, value, "Write {name: value}.")
