"""Converters and validators of a request's fields: each refusal names the field, the value and the remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from tunewright.errors import RequestError
from tunewright.plan._names import is_object_name, is_qualified_name
from tunewright.plan.secrets import EnvValue, SecretRef, SecretValue, is_called_a_secret, refuse_literal_tokens
from tunewright.providers.fields import Attribute
from tunewright.providers.limits import FetchLimits

if TYPE_CHECKING:
    from tunewright.plan.resources import Resources

# The operator makes pods and services `<job>-worker-<n>`, which must be DNS-1035 labels (63 characters) themselves.
MAX_NAME = 50

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")

# https://github.com/distribution/reference/blob/main/regexp.go
_IMAGE = re.compile(
    r"((\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]+)?/)?{part}(/{part})*(:\w[\w.-]{{0,127}})?(@[a-z0-9+._-]+:[0-9a-fA-F]{{32,}})?".format(
        part=r"[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*"
    ),
    re.ASCII,
)


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
    remedy = (
        'Give SecretRef(name="…", key="…") for a Kubernetes Secret, or SecretValue("…") for a literal secret; '
        "in a job file {secret: …, key: …}, or {env: NAME} for a variable of yours."
    )
    for name, item in value.items():
        if isinstance(item, str) and is_called_a_secret(name, item):
            problem = "is called a secret, and would be in the manifest as plain text"
            raise RequestError(problem, field=f"{attribute.name}[{name!r}]", remedy=remedy)
    refuse_literal_tokens({k: v for k, v in value.items() if isinstance(v, str)}, attribute.name, remedy)


def check_limits(_: object, attribute: Attribute, value: Mapping[str, EnvValue]) -> None:
    """The variables that say how a fetch behaves are numbers that make sense."""
    try:
        FetchLimits.read({name: item for name, item in value.items() if isinstance(item, str)})
    except ValueError as error:
        raise RequestError(f"{error}", field=attribute.name, remedy="Write a number, or leave it out.") from error


def check_labels(_: object, attribute: Attribute, value: Mapping[str, str]) -> None:
    """Strings by names that Kubernetes takes, and for labels its rules; no literal tokens."""
    for name, item in value.items():
        field = f"{attribute.name}[{name!r}]"
        if not is_qualified_name(name):
            remedy = "Use at most 63 letters, digits, '-', '_' and '.', after a domain and '/' where it has one."
            raise RequestError("is not a name that Kubernetes takes", field=field, remedy=remedy)
        if not isinstance(item, str):
            raise RequestError("must be a string", field=field, value=item, remedy=f'Write "{item}".')
        if attribute.name != "annotations" and not _LABEL.fullmatch(item):
            remedy = "Use at most 63 letters, digits, '-', '_' and '.'; longer texts go into annotations."
            raise RequestError("is not a label value", field=field, value=item, remedy=remedy)
    refuse_literal_tokens(value, attribute.name, "Labels and annotations can be read by everybody.")


def check_elastic(instance: RequestLike, attribute: Attribute, value: tuple[int, int] | None) -> None:
    """None, or a range that contains `num_workers`."""
    remedy = "Give (least, most) workers, for example elastic=(1, 3)."
    match value:
        case None:
            return
        case (int(least), int(most)) if 1 <= least <= most and bool not in (type(least), type(most)):
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
    if value is not None and not (isinstance(value, str) and _IMAGE.fullmatch(value)):
        _refuse("is not an image reference", attribute, value, "Write registry/repository:tag.")


def to_range(value: Any) -> Any:
    """YAML's list becomes a tuple."""
    return tuple(value) if isinstance(value, list) else value


def to_mapping(value: Any) -> Any:
    """A copy of a mapping, all the way down; None is empty. Anything else is left to the validator."""
    return {} if value is None else copied(value)


def copied(value: Any) -> Any:
    """Fresh dicts and lists all the way down, so that nobody changes the caller's, nor ours."""
    if isinstance(value, Mapping):
        return {k: copied(v) for k, v in value.items()}
    return [copied(v) for v in value] if isinstance(value, list | tuple) else value


def check_mapping(_: object, attribute: Attribute, value: object) -> None:
    """A dict."""
    if not isinstance(value, dict):
        _refuse("must be a dict", attribute, value, "Write {name: value}.")


def check_object(instance: object, attribute: Attribute, value: object) -> None:
    """None, or an object of Kubernetes' API."""
    if value is not None:
        check_mapping(instance, attribute, value)
        check_manifest(instance, attribute, value)


def check_manifest(_: object, attribute: Attribute, value: object) -> None:
    """Parts of a manifest: what YAML has, and no secrets."""
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
        remedy = "Use text, numbers, true or false, lists and dicts, as YAML has them."
        raise RequestError(f"is a {type(value).__name__}, which has no place in a manifest", field=path, remedy=remedy)


def to_list(value: Any) -> Any:
    """A tuple of the elements, each copied; None is empty. What is no list is left to the validator."""
    if value is None:
        return ()
    return tuple(copied(v) for v in value) if _is_list(value) else value


def _is_list(value: object) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)


def check_list_of(kind: type, example: str) -> Callable[[object, Attribute, object], None]:
    """A validator: a tuple, as `to_list` makes it, of elements of this kind."""

    def check(_: object, attribute: Attribute, value: object) -> None:
        if not isinstance(value, tuple):
            _refuse("must be a list", attribute, value, f"Write {attribute.name}={example}.")
            return
        for index, item in enumerate(value):
            if not isinstance(item, kind):
                problem, remedy = f"is a {type(item).__name__}", f"Write {attribute.name}={example}."
                raise RequestError(problem, field=f"{attribute.name}[{index}]", value=item, remedy=remedy)

    return check


def texts(value: object, field: str, example: str) -> tuple[str, ...]:
    """The elements of a list as strings; None is empty.

    Raises:
        RequestError: it is not a list; a string alone would fall apart into its letters.
    """
    if value is None:
        return ()
    if not _is_list(value):
        raise RequestError("must be a list", field=field, value=value, remedy=f"Write {field}={example}.")
    return tuple(str(v) for v in value)  # type: ignore[attr-defined]


def check_object_name(_: object, attribute: Attribute, value: object) -> None:
    """None, or the name of an object of the cluster."""
    if value is not None and not is_object_name(value):
        remedy = "Use lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit."
        _refuse("is not a name that Kubernetes takes", attribute, value, remedy)


def check_flag(_: object, attribute: Attribute, value: object) -> None:
    """True or False, and nothing that is merely true ("no")."""
    if not isinstance(value, bool):
        _refuse("is not a truth value", attribute, value, "Write True or False.")


def check_text(example: str) -> Callable[[object, Attribute, object], None]:
    """A validator: text without white space around it."""

    def check(_: object, attribute: Attribute, value: object) -> None:
        if not isinstance(value, str) or not value or value != value.strip():
            _refuse("must be text without white space around it", attribute, value, f"Write {example!r}.")

    return check
