"""The JSON schema of job files, made from the classes that check them and from the installed plugins."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from tunewright._client.options import CodeOptions, TrainOptions
from tunewright._planning import spellings
from tunewright._signatures import meanings
from tunewright.cli.jobfile import CLIENT_KEYS, DOTTED_KEY
from tunewright.errors import PluginError
from tunewright.plan.policies import RunPolicy, Scheduling
from tunewright.plan.resources import Resources
from tunewright.plugins.kinds import Kind
from tunewright.plugins.registry import Plugin, Registry
from tunewright.providers.mixture import MixturePart
from tunewright.providers.schema import DescribesItself, Schema, any_of, described, schema_of_class, schema_of_field
from tunewright.request.request import CodeRequest, TrainRequest
from tunewright.request.storage import Storage

_CLASSES = (Scheduling, RunPolicy, CodeRequest, TrainRequest)
_ONLY_PYTHON = {"base_folder", "train_func", "parameters"}
_SOURCES: Mapping[str, Kind] = {
    **dict.fromkeys(("model", "adapter", "output"), "model"),
    **dict.fromkeys(("dataset", "eval_dataset"), "dataset"),
}
_PATH: Final = r"^(\.{1,2}([/\\]|$)|/|~/|[A-Za-z]:[/\\])"

_CLIENT: Mapping[str, str] = {
    "backend": "where the job runs: the name of a backend plugin",
    "kind": "the kind of job object on Kubernetes: pytorchjob, trainjob or job; by default the first that the cluster can run",
    "namespace": "the Kubernetes namespace; by default the context's",
    "context": "the kubeconfig context; by default the current one",
}


def job_schema(registry: Registry) -> Schema:
    """Return the JSON schema (draft 7) of job files.

    Args:
        registry: the plugins whose providers a file may name; those that cannot be loaded are left out.
    """
    plugins = [*_loadable(registry)]
    properties = {**_client_keys(plugins), **_job_keys(), **_provider_keys(plugins)}
    others = [k for k in {**spellings.TRAIN, **spellings.CREATE_JOB} if k not in properties]
    whole: list[Any] = [
        ["model", "dataset", "trainer"],
        ["script"],
        ["base_image"],
        ["manifest"],
        *([k] for k in others),
    ]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Tunewright job file",
        "description": "The keywords of TrainingClient.train() or create_job(), and of the client.",
        "type": "object",
        "properties": {**_or_null(properties), **{k: {} for k in others}},
        "patternProperties": {f"^{DOTTED_KEY}$": {}},
        "additionalProperties": False,
        "anyOf": [{"required": keys} for keys in whole],
    }


def _or_null(properties: Mapping[str, Schema]) -> dict[str, Any]:
    """Let each key be empty, which means that it is not given."""
    return {k: {**any_of([_bare(v), {"type": "null"}]), **_notes(v)} for k, v in properties.items()}


def _bare(schema: Schema) -> Schema:
    return {k: v for k, v in schema.items() if k not in ("description", "default")}


def _notes(schema: Schema) -> Schema:
    return {k: v for k, v in schema.items() if k in ("description", "default")}


def _loadable(registry: Registry) -> Iterable[Plugin]:
    for name in registry.names():
        try:
            plugin = registry.get(name)
            plugin.check()
        except PluginError:
            continue
        yield plugin


def _client_keys(plugins: Iterable[Plugin]) -> dict[str, Schema]:
    backends: list[Any] = [plugin.name for plugin in plugins if "backend" in plugin.kinds()]
    found: dict[str, Schema] = {key: {"type": "string", "description": _CLIENT[key]} for key in CLIENT_KEYS}
    return {**found, "backend": {"enum": backends, "description": _CLIENT["backend"]}}


def _job_keys() -> dict[str, Schema]:
    hints: dict[str, object] = {}
    for options in (CodeOptions, TrainOptions):
        hints |= typing.get_type_hints(options, localns={"Json": Any})
    fields = {a.name: a for cls in _CLASSES for a in attrs.fields(cls)}
    meaning = {k: v for cls in (*_CLASSES, CodeOptions, TrainOptions) for k, v in meanings(cls).items()}
    found: dict[str, Schema] = {"storage": schema_of_class(Storage), "resources_per_worker": _resources()}
    for name, hint in hints.items():
        if name not in _ONLY_PYTHON | set(_SOURCES) | {"trainer"}:
            found.setdefault(name, schema_of_field(fields.get(name), hint))
    return {name: described(schema, meaning.get(name, "")) for name, schema in found.items()}


def _resources() -> Schema:
    amount: Schema = {"type": ["string", "number"]}
    schema = schema_of_class(Resources, also={"nvidia.com/gpu": {"type": "integer"}})
    return {**schema, "additionalProperties": amount}


def _provider_keys(plugins: list[Plugin]) -> dict[str, Schema]:
    meaning = meanings(TrainOptions)
    sources = {key: _source(plugins, kind) for key, kind in _SOURCES.items()}
    sources["dataset"] = any_of([sources["dataset"], {"type": "array", "items": _source(plugins, "dataset", _part())}])
    found = {key: described(schema, meaning.get(key, "")) for key, schema in sources.items()}
    return {**found, "trainer": described(_trainer(plugins), meaning.get("trainer", ""))}


def _part() -> dict[str, Schema]:
    """Return the keys of a dataset in a list that are not its provider's."""
    own = schema_of_class(MixturePart)["properties"]
    keys = {k: v for k, v in own.items() if k in ("name", "weight", "repeat")} if isinstance(own, dict) else {}
    return {**keys, "data": described({"type": "object"}, meanings(MixturePart)["data"])}  # type: ignore[dict-item]


def _source(plugins: list[Plugin], kind: Kind, more: Mapping[str, Schema] | None = None) -> Schema:
    chosen = [plugin for plugin in plugins if kind in plugin.kinds()]
    forms: list[Any] = [{"pattern": _PATH}, *({"pattern": _scheme(plugin.name)} for plugin in chosen)]
    return {"anyOf": [{"type": "string", "anyOf": forms}, *(_source_of(plugin, kind, more or {}) for plugin in chosen)]}


def _source_of(plugin: Plugin, kind: Kind, more: Mapping[str, Schema]) -> Schema:
    """Return the schema of a mapping for one plugin: its `provider` names it, or else the scheme of its URI does."""
    schema = _of_provider(plugin.provider(kind))
    pattern = f"{_scheme(plugin.name)}|{_PATH}" if plugin.name == "file" else _scheme(plugin.name)
    uri: Schema = {"type": "string", "pattern": pattern}
    also = {
        "provider": {"const": plugin.name},
        "uri": described(uri, "URI of the files"),
        "model": uri,
        "dataset": uri,
        **more,
    }
    properties = schema.get("properties")
    return {**schema, "properties": {**(properties if isinstance(properties, dict) else {}), **also}, "required": []}  # type: ignore[dict-item]


def _trainer(plugins: list[Plugin]) -> Schema:
    chosen = [plugin for plugin in plugins if "trainer" in plugin.kinds()]
    names: Schema = {"enum": [plugin.name for plugin in chosen]}
    return {"anyOf": [names, *(_trainer_of(plugin) for plugin in chosen)]}


def _trainer_of(plugin: Plugin) -> Schema:
    schema = _of_provider(plugin.provider("trainer"))
    properties = schema.get("properties")
    named = {**(properties if isinstance(properties, dict) else {}), "provider": {"const": plugin.name}}
    # KEP-2003's `parameters` do not name a provider, and are for the Hugging Face trainer.
    return {**schema, "properties": named, "required": [] if plugin.name == "hf" else ["provider"]}  # type: ignore[dict-item]


def _of_provider(cls: type) -> Schema:
    return dict(cls.json_schema()) if isinstance(cls, DescribesItself) else schema_of_class(cls)


def _scheme(name: str) -> str:
    return rf"^{name}(\+[A-Za-z0-9.+-]+)?:"
