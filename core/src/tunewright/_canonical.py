"""Canonical JSON, in which equal values have equal bytes."""

from __future__ import annotations

import hashlib
import json


def dumps(value: object) -> str:
    """Return a value as canonical JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    """Return the SHA-256 of a value's canonical JSON, in hexadecimal digits."""
    return hashlib.sha256(dumps(value).encode()).hexdigest()
