"""Validators of what only a request has: its name, variables, workers, image and output."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from tunewright.errors import RequestError
from tunewright.plan._checks import Attribute, Validator, at_least, is_list, refuse
from tunewright.plan.secrets import EnvValue, SecretRef, SecretValue, is_called_a_secret, refuse_literal_tokens
from tunewright.providers.limits import FetchLimits

if TYPE_CHECKING:
    from tunewright.plan.resources import Resources

# The operator creates pods and services `<job>-worker-<n>`, which must be DNS-1035 labels (63 characters) themselves.
MAX_NAME = 50
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

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


def check_name(_: object, attribute: Attribute, value: object) -> None:
    """Accept a DNS-1035 label that is short enough for the names which the operator derives from it."""
    remedy = f"Use at most {MAX_NAME} lower-case letters, digits and hyphens, beginning with a letter: llama-sft-1."
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        refuse("is not a valid Kubernetes name", attribute, value, remedy)
    elif len(value) > MAX_NAME:
        refuse(f"has {len(value)} characters", attribute, value, remedy)


def check_env(_: object, attribute: Attribute, value: Mapping[str, EnvValue]) -> None:
    """Accept valid names of variables, with strings or secrets as values; no literal tokens."""
    for name, item in value.items():
        field = f"{attribute.name}[{name!r}]"
        if not _ENV_NAME.fullmatch(name):
            problem, remedy = "is not a valid variable name", "Use letters, digits and underscores."
            raise RequestError(problem, field=field, remedy=remedy)
        if not isinstance(item, str | SecretRef | SecretValue):
            raise RequestError("must be a string", field=field, value=item, remedy=f'Write "{item}".')
    remedy = (
        'Give SecretRef(name="…", key="…") for a Kubernetes Secret, or SecretValue("…") for a literal secret; '
        "in a job file {secret: …, key: …}, or {env: NAME} for one of your own environment variables."
    )
    for name, item in value.items():
        if isinstance(item, str) and is_called_a_secret(name, item):
            problem = "is named like a secret, and would be in the manifest as plain text"
            raise RequestError(problem, field=f"{attribute.name}[{name!r}]", remedy=remedy)
    refuse_literal_tokens({k: v for k, v in value.items() if isinstance(v, str)}, attribute.name, remedy)


def check_limits(_: object, attribute: Attribute, value: Mapping[str, EnvValue]) -> None:
    """Accept sensible numbers in the variables that limit a fetch."""
    try:
        FetchLimits.read({name: item for name, item in value.items() if isinstance(item, str)})
    except ValueError as error:
        raise RequestError(f"{error}", field=attribute.name, remedy="Write a number, or leave it out.") from error


def check_elastic(instance: RequestLike, attribute: Attribute, value: tuple[int, int] | None) -> None:
    """Accept None, or a range that contains `num_workers`."""
    remedy = "Give (least, most) workers, for example elastic=(1, 3)."
    match value:
        case None:
            return
        case (int(least), int(most)) if 1 <= least <= most and bool not in (type(least), type(most)):
            within = least <= instance.num_workers <= most
        case _:
            raise RequestError("is not a range of workers", field="elastic", value=value, remedy=remedy)
    if not within:
        refuse(f"does not contain num_workers={instance.num_workers}", attribute, value, remedy)


def check_output(_: object, attribute: Attribute, value: str | None) -> None:
    """Accept None, or a URI without credentials."""
    if value is None:
        return
    refuse_literal_tokens(value, attribute.name, "Credentials for the upload do not go into the URI.")
    if "://" not in value:
        remedy = "Write s3://bucket/prefix, hf://org/name, pvc://claim/folder or file:///folder."
        refuse("is not a URI", attribute, value, remedy)


def to_processes(value: Any) -> Any:
    """Convert a number that is written as a string."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def check_processes(instance: RequestLike, attribute: Attribute, value: object) -> None:
    """Accept a number of processes, or "auto" where there are GPUs."""
    remedy = 'Give the number of processes in each worker; with GPUs, "auto" means one for each.'
    if value == "auto" and instance.resources_per_worker.gpu == 0:
        problem = "has no meaning without GPUs: torchrun would start a process for each core of the node"
        refuse(problem, attribute, value, remedy)
    elif value != "auto":
        at_least(1, remedy)(instance, attribute, value)


def check_image(_: object, attribute: Attribute, value: str | None) -> None:
    """Accept None, or an image reference."""
    if value is not None and not (isinstance(value, str) and _IMAGE.fullmatch(value)):
        refuse("is not an image reference", attribute, value, "Write registry/repository:tag.")


def to_range(value: Any) -> Any:
    """Convert YAML's list into a tuple."""
    return tuple(value) if isinstance(value, list) else value


def texts(value: object, field: str, example: str) -> tuple[str, ...]:
    """Return the elements of a list as strings; None becomes empty.

    Raises:
        RequestError: it is not a list. A string by itself would fall apart into letters.
    """
    if value is None:
        return ()
    if not is_list(value):
        raise RequestError("must be a list", field=field, value=value, remedy=f"Write {field}={example}.")
    return tuple(str(v) for v in value)  # type: ignore[attr-defined]


def check_text(example: str) -> Validator:
    """Return a validator: text without leading or trailing whitespace."""

    def check(_: object, attribute: Attribute, value: object) -> None:
        if not isinstance(value, str) or not value or value != value.strip():
            problem = "must be text without leading or trailing whitespace"
            refuse(problem, attribute, value, f"Write {example!r}.")

    return check
