"""Converters for attrs fields: copies, so that nobody changes the caller's lists and dicts, nor ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def to_tuple(values: Iterable[Any] | None) -> tuple[Any, ...]:
    """A tuple of the values; None is none."""
    return tuple(values or ())


def to_dict(mapping: Mapping[Any, Any] | None) -> dict[Any, Any]:
    """A dict of its own; None is empty."""
    return dict(mapping or {})
