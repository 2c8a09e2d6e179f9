"""AWS Signature Version 4 for requests without a body; see "Create a signed AWS API request" in the IAM user guide.

Botocore's own signer does the same, and the tests compare the two. But it takes 0.25 ms for each request where this one takes
0.02 ms and a whole request for 100 KB takes 0.6 ms: with 1,000 small objects it took a quarter of a fetch's CPU time.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import NamedTuple

_ALGORITHM = "AWS4-HMAC-SHA256"
_PAYLOAD = "UNSIGNED-PAYLOAD"


class Keys(NamedTuple):
    """A credential at one point in time, as returned by botocore's `get_frozen_credentials`."""

    access_key: str
    secret_key: str
    token: str | None


class Signer:
    """Signs requests for one region. Thread-safe.

    Args:
        region: the bucket's region.
    """

    def __init__(self, region: str) -> None:
        self._region = region
        self._derived: tuple[str, str, bytes] = ("", "", b"")  # day, secret key, and the key derived from both

    def sign(
        self,
        keys: Keys,
        method: str,
        *,
        host: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        at: float | None = None,
    ) -> dict[str, str]:
        """Return the headers, with a signature of all of them.

        Args:
            keys: the credential.
            method: GET or HEAD.
            host: the Host header that will be sent.
            path: path, percent-encoded once.
            query: percent-encoded query, sorted by name.
            headers: headers to sign; names in lower case.
            at: seconds since 1970; None for now.
        """
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
        signed = {"host": host, "x-amz-content-sha256": _PAYLOAD, "x-amz-date": moment, **headers}
        if keys.token:
            signed["x-amz-security-token"] = keys.token
        names = sorted(signed)
        canonical = "".join(f"{name}:{' '.join(signed[name].split())}\n" for name in names)
        request = f"{method}\n{path}\n{query}\n{canonical}\n{';'.join(names)}\n{_PAYLOAD}"
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        signature = _hmac(self._key(moment[:8], keys.secret_key), f"{_ALGORITHM}\n{moment}\n{scope}\n{digest}").hex()
        credential = f"{_ALGORITHM} Credential={keys.access_key}/{scope}"
        del signed["host"]  # the HTTP client adds it
        return {**signed, "Authorization": f"{credential}, SignedHeaders={';'.join(names)}, Signature={signature}"}

    def _key(self, day: str, secret_key: str) -> bytes:
        known = self._derived
        if known[:2] != (day, secret_key):
            key = f"AWS4{secret_key}".encode()
            for part in (day, self._region, "s3", "aws4_request"):
                key = _hmac(key, part)
            known = self._derived = (day, secret_key, key)
        return known[2]


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
