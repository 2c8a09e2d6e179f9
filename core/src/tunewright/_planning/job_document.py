"""The job file of a request: what repeats the job, kept with its configuration. Without secrets; pure, as all of the planning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import attrs

from tunewright.environment import OUTPUT_SLOT
from tunewright.events import Json
from tunewright.plan.secrets import SecretRef, SecretValue
from tunewright.providers import wire
from tunewright.providers.fields import secret_fields
from tunewright.providers.uris import uri_scheme
from tunewright.request.request import POLICIES, CodeRequest, Request, ResolvedPart, ResolvedProvider, TrainRequest

_OWN = ("name", "output", "always", *POLICIES)
_OF_TRAINING = ("model", "adapter", "dataset", "mixture", "eval_dataset", "trainer", "output_target")
_OF_CODE = ("code", "command", "arguments", "image")


def job_document(request: Request) -> dict[str, Json]:
    """Return the keywords of a job file that makes the same request, in their order there.

    A secret is a reference: to the environment variable that its container reads, or to the Secret that the user named.
    Code is named, and not contained.
    """
    return {
        "name": request.name,
        **(_training(request) if isinstance(request, TrainRequest) else {}),
        **(_code(request) if isinstance(request, CodeRequest) else {}),
        **_changed(request, without=(*_OWN, *_OF_TRAINING, *_OF_CODE)),
        **({"image": request.image} if request.image and isinstance(request, TrainRequest) else {}),
        **{key: value for policy in POLICIES for key, value in _changed(getattr(request, policy)).items()},
    }


def _training(request: TrainRequest) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for slot, selected in request.sources.items():
        if request.written(slot) == slot:
            found[slot] = _source(selected, slot)
        else:
            found["dataset"] = [_part(resolved) for resolved in request.mixture]
    found["trainer"] = _trainer(request.trainer)
    if request.output_target is not None:
        found["output"] = _source(request.output_target, OUTPUT_SLOT)
    return found


def _source(selected: ResolvedProvider[Any], slot: str) -> Json:
    params = _params(selected.provider, slot)
    if params.keys() == {"uri"} and uri_scheme(selected.provider.uri) == selected.plugin.name:
        return params["uri"]
    return {"provider": selected.plugin.name, **params}


def _part(resolved: ResolvedPart) -> Json:
    source = _source(resolved.source, resolved.part.slot)
    fields = source if isinstance(source, dict) else {"uri": source}
    return {**fields, **_changed(resolved.part, without=("slot", "folder"))}


def _trainer(selected: ResolvedProvider[Any]) -> Json:
    params = _params(selected.provider, "trainer")
    return {"provider": selected.plugin.name, **params} if params else selected.plugin.name


def _params(provider: attrs.AttrsInstance, slot: str) -> dict[str, Json]:
    secrets = {name: (getattr(provider, name), variable) for name, variable in secret_fields(type(provider)).items()}
    given = {name: _reference(value, variable) for name, (value, variable) in secrets.items() if value is not None}
    return {**wire.unstructure(provider, slot), **given}


def _code(request: CodeRequest) -> dict[str, Json]:
    found: dict[str, Json] = {}
    if request.code:
        entry = PurePosixPath(next(iter(request.code)))
        found["script"] = str(entry)
        found |= {"script_folder": str(entry.parent)} if len(request.code) > 1 else {}
    if request.image:
        found["base_image"] = request.image
    if request.command:
        found["command"] = list(request.command)
    if request.arguments:
        found["args"] = list(request.arguments)
    return found


def _changed(values: attrs.AttrsInstance, without: tuple[str, ...] = ()) -> dict[str, Json]:
    """Return the fields of an attrs instance that differ from their defaults, as JSON values."""
    found = {}
    for field in attrs.fields(type(values)):
        value = getattr(values, field.name)
        if field.name not in without and value != _default(field):
            found[field.name] = _plain(value, field.name)
    return found


def _default(field: attrs.Attribute[Any]) -> Any:
    default: Any = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = default.factory()
    return field.converter(default) if callable(field.converter) else default


def _plain(value: Any, name: str) -> Json:
    if isinstance(value, SecretRef | SecretValue):
        return _reference(value, name)
    if attrs.has(type(value)):
        return _plain_object(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, str(key)) for key, inner in value.items()}
    return [_plain(inner, name) for inner in value] if isinstance(value, list | tuple) else value


def _plain_object(value: Any) -> dict[str, Json]:
    found = _changed(value)
    extended = found.pop("extended", None)  # of resources, which stand beside the others in a job file
    return {**found, **(extended if isinstance(extended, dict) else {})}


def _reference(value: object, variable: str) -> Json:
    if isinstance(value, SecretRef):
        return {"secret": value.name, "key": value.key}
    return {"env": variable}
