"""Kubernetes quantities: `16Gi`, `500m`, `2`."""

from __future__ import annotations

import re

from tunewright.errors import RequestError

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_QUANTITY = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?")
_BINARY: dict[str, float] = {f"{p}i": 1024**n for n, p in enumerate("KMGTPE", start=1)}
_DECIMAL: dict[str, float] = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1} | {
    p: 1000**n for n, p in enumerate("kMGTPE", start=1)
}


def check_quantity(value: str | float | None, *, field: str) -> None:
    """Raise RequestError unless `value` is None or a positive quantity that Kubernetes would take."""
    if value is None:
        return
    remedy = 'Write a Kubernetes quantity: 8 or "500m" for cpu, "16Gi" for memory and storage.'
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not _QUANTITY.fullmatch(str(value)):
        raise RequestError("is not a quantity", field=field, value=value, remedy=remedy)
    if to_number(value) <= 0:
        raise RequestError("must be more than 0", field=field, value=value, remedy=remedy)


def to_number(value: str | float) -> float:
    """The quantity in its base unit (bytes, cores): "16Gi" → 17179869184.

    Raises:
        ValueError: it is not a quantity.
    """
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        raise ValueError(value)
    number, suffix = float(match["number"]), match["suffix"] or ""
    if suffix[:1] in ("e", "E") and suffix[1:]:
        return number * float(f"1e{suffix[1:]}")
    return number * (_BINARY.get(suffix) or _DECIMAL[suffix])
