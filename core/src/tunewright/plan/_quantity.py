"""Kubernetes quantities: `16Gi`, `500m`, `2`."""

from __future__ import annotations

import re

from tunewright.errors import RequestError

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_QUANTITY = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?")
_UNITS: dict[str, float] = (
    {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1}
    | {p: 1000**n for n, p in enumerate("kMGTPE", start=1)}
    | {f"{p}i": 1024**n for n, p in enumerate("KMGTPE", start=1)}
)


def check_quantity(value: str | float | None, *, field: str) -> None:
    """Raise RequestError unless `value` is None or a valid, positive Kubernetes quantity."""
    if value is None:
        return
    remedy = 'Write a Kubernetes quantity: 8 or "500m" for cpu, "16Gi" for memory and storage.'
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not _QUANTITY.fullmatch(str(value)):
        raise RequestError("is not a quantity", field=field, value=value, remedy=remedy)
    if not to_number(value) > 0:  # not "<= 0": "0e999" is 0 times infinity, NaN
        raise RequestError("must be more than 0", field=field, value=value, remedy=remedy)


def to_number(value: str | float) -> float:
    """Convert a quantity to its base unit (bytes, cores): "16Gi" → 17179869184.

    Raises:
        ValueError: it is not a quantity.
    """
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        raise ValueError(value)
    number, suffix = float(match["number"]), match["suffix"] or ""
    unit = _UNITS.get(suffix)
    return number * (float(f"1{suffix}") if unit is None else unit)  # what remains is an exponent: "e3"
