"""What all events have in common: their form on the wire, and how keys become attributes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import UnionType
from typing import Any, ClassVar, Self, get_args, get_origin

import attrs

from tunewright._convert import to_dict

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

ONLY_IF_KNOWN = {"tunewright.only_if_known": True}
"""Metadata of a field that is left out on the wire where it is None."""

_NOT_KEYS = ("event", "extra")


@attrs.frozen(kw_only=True)
class Event:
    """Something that happened in a job.

    Attributes:
        extra: further keys that the class does not know.
    """

    wire_name: ClassVar[str] = ""

    extra: Mapping[str, Json] = attrs.field(factory=dict, converter=to_dict)

    @property
    def event(self) -> str:
        """The event's name on the wire."""
        return self.wire_name

    def to_dict(self) -> dict[str, Json]:
        """Return the event as it is on the wire."""
        return {"event": self.event, **self._keys(), **self.extra}

    def _keys(self) -> dict[str, Json]:
        fields = [field for field in attrs.fields(type(self)) if field.name not in _NOT_KEYS]
        values = {field.name: (getattr(self, field.name), field.metadata) for field in fields}
        return {name: v for name, (v, metadata) in values.items() if v is not None or not metadata}

    @classmethod
    def from_keys(cls, keys: Mapping[str, Json]) -> Self | None:
        """Return the event with these keys; None if one that it needs is missing or has another type."""
        types = _types(cls)  # type: ignore[arg-type] # a class is hashable
        fitting = {k for k, v in keys.items() if _is_one_of(v, types.get(k, ()))}
        values: dict[str, Any] = {k: keys[k] for k in fitting}
        try:
            return cls(**values, extra={k: v for k, v in keys.items() if k not in fitting})
        except TypeError:  # one is missing
            return None


@attrs.frozen(kw_only=True)
class CustomEvent(Event):
    """An event of a plugin's own, or of a later release. Its keys are in `extra`.

    Attributes:
        event: its name on the wire.
    """

    event: str


def numbers_of(event: Event) -> dict[str, float]:
    """Return all numbers of an event, by their keys on the wire."""
    return {k: v for k, v in event.to_dict().items() if isinstance(v, int | float) and not isinstance(v, bool)}


@functools.cache
def _types(cls: type[Event]) -> dict[str, tuple[type, ...]]:
    """Return the types in JSON that each field accepts."""
    fields = [field for field in attrs.fields(attrs.resolve_types(cls)) if field.name not in _NOT_KEYS]
    return {field.name: tuple(_json_types(field)) for field in fields}


def _json_types(field: attrs.Attribute[object]) -> set[type]:
    kinds = get_args(field.type) if isinstance(field.type, UnionType) else (field.type,)
    found: set[type] = {dict if get_origin(kind) else kind for kind in kinds if kind}
    # A null for a number that is otherwise left out stays in `extra`, so that it is written again.
    found -= {type(None)} if field.metadata else set()
    return found | ({int} if float in found else set())


def _is_one_of(value: Json, types: tuple[type, ...]) -> bool:
    return type(value) in types
