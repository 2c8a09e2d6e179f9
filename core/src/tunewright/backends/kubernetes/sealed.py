"""Whether two submissions have the same literal secrets, which users may write and never read. Pure but for the salt."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from tunewright import _canonical
from tunewright.backends.kubernetes.kind import Object

_ROUNDS = 200_000  # of PBKDF2, about 0.1 s: whoever reads the job object must not be able to guess a short secret


def seal(documents: Sequence[Object]) -> str:
    """Return a digest of the secrets in rendered manifests, with a salt of its own; "" if there are none."""
    return _digest(documents, secrets.token_hex(8))


def same(documents: Sequence[Object], sealed: str) -> bool:
    """Return whether manifests have the secrets that a digest was made of."""
    return _digest(documents, sealed.partition(":")[0]) == sealed


def _digest(documents: Sequence[Object], salt: str) -> str:
    values = [document["stringData"] for document in documents if document["kind"] == "Secret"]
    if not values:
        return ""
    text = _canonical.digest(values).encode()
    return f"{salt}:{hashlib.pbkdf2_hmac('sha256', text, salt.encode(), _ROUNDS).hex()}"
