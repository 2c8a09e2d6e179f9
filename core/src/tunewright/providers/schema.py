"""JSON schemas of classes that users configure: what an editor needs to complete and to check a job file.

Types come from annotations, choices from `one_of`, defaults from attrs fields, and descriptions from the "Attributes:" sections of
docstrings. A class with a classmethod `json_schema` describes itself.
"""

from __future__ import annotations

import contextlib
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import attrs

from tunewright._signatures import meanings
from tunewright.errors import RequestError
from tunewright.events import Json
from tunewright.plan.secrets import SecretRef, SecretValue

Schema = dict[str, Json]

_PLAIN: Mapping[object, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    Path: "string",
    type(None): "null",
}
_RECURSIVE = {"Json": Any}  # as in _signatures: a recursive alias cannot be resolved

SECRET: Schema = {
    "type": "object",
    "properties": {"secret": {"type": "string"}, "key": {"type": "string"}},
    "required": ["secret", "key"],
    "additionalProperties": False,
    "description": "a key of a Kubernetes Secret",
}
VARIABLE: Schema = {
    "type": "object",
    "properties": {"env": {"type": "string"}},
    "required": ["env"],
    "additionalProperties": False,
    "description": "a variable of your environment",
}


@runtime_checkable
class DescribesItself(Protocol):
    """A class whose instances users write in a form of their own."""

    @classmethod
    def json_schema(cls) -> Mapping[str, Json]:
        """Return the JSON schema (draft 7) of what users write for an instance."""


def schema_of_class(cls: type, *, also: Mapping[str, Json] | None = None) -> Schema:
    """Return the schema of a mapping with the fields of an attrs class.

    Args:
        cls: the class.
        also: schemas of keys besides its fields: key → schema.
    """
    hints = typing.get_type_hints(cls, localns=_RECURSIVE)
    meaning = meanings(cls)
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(cls)
    shown = [a for a in fields if a.init and not a.name.startswith("_")]
    properties = {str(a.alias): described(schema_of_field(a, hints[a.name]), meaning.get(a.name, "")) for a in shown}
    others: Schema = {name: {} for name in getattr(cls, "__other_spellings__", ()) if name not in properties}
    required: list[Json] = [a.alias for a in shown if a.default is attrs.NOTHING and not others]
    found: Schema = {
        "type": "object",
        "properties": {**properties, **others, **(also or {})},
        "additionalProperties": False,
    }
    return {**found, "required": required} if required else found


def described(schema: Mapping[str, Json], meaning: str) -> Schema:
    """Return a schema with a description; unchanged if there is none."""
    return {**schema, "description": meaning} if meaning else {**schema}


def schema_of_type(hint: object) -> Schema:
    """Return the schema of what an annotation says; {}, which accepts anything, for types that only Python has."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any_of([schema_of_type(argument) for argument in arguments])
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if hint in (SecretRef, SecretValue):
        return SECRET if hint is SecretRef else VARIABLE
    if origin in _COLLECTIONS:
        return _COLLECTIONS[origin](arguments)
    return _of_plain_class(origin or hint)


def _of_plain_class(cls: object) -> Schema:
    if not isinstance(cls, type):
        return {}
    if isinstance(cls, DescribesItself):
        return dict(cls.json_schema())
    if cls in (dict, list, tuple):
        return {"type": "object" if cls is dict else "array"}
    return schema_of_class(cls) if attrs.has(cls) else {}


def any_of(schemas: list[Schema]) -> Schema:
    """Return the schema of values that match one of several."""
    if all(set(schema) == {"type"} for schema in schemas):
        kinds = list(dict.fromkeys(kind for schema in schemas for kind in _kinds(schema)))
        return {"type": kinds[0] if len(kinds) == 1 else list(kinds)}
    if {} in schemas:
        return {}
    flat = [part for schema in schemas for part in (schema["anyOf"] if set(schema) == {"anyOf"} else [schema])]  # type: ignore[union-attr]
    return {"anyOf": [part for i, part in enumerate(flat) if part not in flat[:i]]}


def _kinds(schema: Schema) -> list[Json]:
    kinds = schema["type"]
    return kinds if isinstance(kinds, list) else [kinds]


def _mapping(arguments: tuple[object, ...]) -> Schema:
    values = schema_of_type(arguments[1]) if arguments else {}
    return {"type": "object", "additionalProperties": values} if values else {"type": "object"}


def _array(arguments: tuple[object, ...]) -> Schema:
    items = schema_of_type(arguments[0]) if arguments else {}
    return {"type": "array", "items": items} if items else {"type": "array"}


def _tuple(arguments: tuple[object, ...]) -> Schema:
    if arguments[-1:] == (...,):
        return _array(arguments)
    count = len(arguments)
    return {**_array(arguments), "minItems": count, "maxItems": count}


_COLLECTIONS: Mapping[object, Callable[[tuple[object, ...]], Schema]] = {
    Mapping: _mapping,
    dict: _mapping,
    Collection: _array,
    list: _array,
    typing.get_origin(typing.Sequence[int]): _array,
    tuple: _tuple,
}


def schema_of_field(field: attrs.Attribute[Any] | None, hint: object) -> Schema:
    """Return the schema of a field with this annotation: its choices, its least value and its default are the field's."""
    schema = schema_of_type(hint)
    if SECRET in _alternatives(schema):
        schema = any_of([schema, VARIABLE])
    if field is None:
        return schema
    if schema.get("items") == {"type": "string"} and _takes_one_text(field):
        schema = any_of([{"type": "string"}, schema])
    limits = dict(_limits(field.validator))
    default = field.default
    plain = isinstance(default, bool | int | float | str) and default != ""
    schema = {**({} if "enum" in limits else schema), **limits}
    return {**schema, "default": default} if plain else schema


def _takes_one_text(field: attrs.Attribute[Any]) -> bool:
    """Return whether the field's converter makes a list of one of a text."""
    convert = field.converter
    if not callable(convert):
        return False
    with contextlib.suppress(RequestError, TypeError, ValueError):
        return bool(convert("text") == ("text",))
    return False


def _alternatives(schema: Schema) -> list[Json]:
    found = schema.get("anyOf")
    return found if isinstance(found, list) else []


def _limits(validator: object) -> Iterator[tuple[str, Json]]:
    """Yield what validators accept, alone or among several: the choices of `one_of`, the least number of `at_least`."""
    if (choices := getattr(validator, "choices", None)) is not None:
        yield "enum", [*choices]
    if (least := getattr(validator, "least", None)) is not None:
        yield "minimum", least
    for inner in (*getattr(validator, "_validators", ()), getattr(validator, "validator", None)):
        if inner is not None:
            yield from _limits(inner)
