"""Canonical JSON: the same value always gives the same bytes."""

from __future__ import annotations

import hashlib
import json


def dumps(value: object) -> str:
    """Canonical JSON: the same value gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    """SHA-256 of a value's canonical JSON, in hexadecimal digits."""
    return hashlib.sha256(dumps(value).encode()).hexdigest()
