"""The rules for names in Kubernetes."""

from __future__ import annotations

import re

_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"

# RFC 1123 as Kubernetes applies it to object names: labels of letters and digits, joined by dots.
_OBJECT = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")

# The key of a label or annotation: an optional domain that owns it, and a name.
_QUALIFIED = re.compile(
    rf"(?:(?=[^/]{{1,253}}/){_LABEL}(?:\.{_LABEL})*/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?"
)

_SECRET_KEY = re.compile(r"[-._A-Za-z0-9]{1,253}")


def is_object_name(name: object) -> bool:
    """Whether this is a valid name for an object: a Secret, a claim, a queue."""
    return isinstance(name, str) and bool(_OBJECT.fullmatch(name))


def is_qualified_name(name: object) -> bool:
    """Whether this is a valid key for a label or an annotation."""
    return isinstance(name, str) and bool(_QUALIFIED.fullmatch(name))


def is_secret_key(key: object) -> bool:
    """Whether this is a valid key in a Secret."""
    return isinstance(key, str) and bool(_SECRET_KEY.fullmatch(key)) and key not in (".", "..")
