"""Converters for attrs fields. They copy lists and dicts, so that no instance shares them with its caller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def to_tuple(values: Iterable[Any] | None) -> tuple[Any, ...]:
    """Return the values as a tuple; None gives an empty one."""
    return tuple(values or ())


def to_dict(mapping: Mapping[Any, Any] | None) -> dict[Any, Any]:
    """Return a copy of the mapping as a dict; None gives an empty one."""
    return dict(mapping or {})
