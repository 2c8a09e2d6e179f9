"""Read the digests of a file that web servers and stores state in the headers of their responses."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence

from tunewright.providers.snapshots import DIGITS, Algorithm, Digest
from tunewright_launcher.answers import Headers

# RFC 9530, and RFC 3230 before it, both of which are about the whole file, whatever range of it was sent.
_OF_FILE = ("Repr-Digest", "Digest")
_NAMES: Mapping[str, Algorithm] = {
    "sha-256": "sha256",
    "sha-512": "sha512",
    "sha": "sha1",
    "md5": "md5",
    "crc32c": "crc32c",
}
_ITEM = re.compile(r"([A-Za-z0-9-]+)=:?([A-Za-z0-9+/]+={0,2}):?")
# Artifactory's, in hexadecimal digits.
_HEXADECIMAL: Mapping[str, Algorithm] = {
    "X-Checksum-Sha256": "sha256",
    "X-Checksum-Sha512": "sha512",
    "X-Checksum-Sha1": "sha1",
    "X-Checksum-Md5": "md5",
}
# In order of cost: SHA-256 is computed anyway.
_PREFERRED: tuple[Algorithm, ...] = ("sha256", "crc32c", "sha512", "sha1", "md5")


def digests_in(
    headers: Headers, *, partial: bool = False, among: Sequence[Algorithm] = _PREFERRED
) -> tuple[Digest, ...]:
    """Return the best digest of a whole file in the headers of a response; none if they state none of a known kind.

    Args:
        headers: of a response to a GET or HEAD: `Repr-Digest`, `Digest`, `Content-MD5`, `x-goog-hash` or `X-Checksum-…`.
        partial: whether the response is about a range, whose own digest Content-MD5 may be.
        among: the algorithms to look for, the best one first. CRCs need the package `anycrc`.
    """
    stated = _stated(headers, partial=partial)
    found = {algorithm: value for algorithm, value in stated if len(value) == DIGITS[algorithm]}
    return next(((Digest(algorithm=a, value=found[a]),) for a in among if a in found), ())


def _stated(headers: Headers, *, partial: bool) -> Iterator[tuple[Algorithm, str]]:
    for header in (*_OF_FILE, "x-goog-hash"):
        for line in headers.get_all(header) or ():
            for name, value in _ITEM.findall(line):
                if algorithm := _NAMES.get(name.lower()):
                    yield algorithm, digits_of(value)
    for header, algorithm in _HEXADECIMAL.items():
        if value := headers.get(header):
            yield algorithm, value.strip().lower()
    if not partial and (value := headers.get("Content-MD5")):
        yield "md5", digits_of(value)


def digits_of(value: str) -> str:
    """Return a digest in base64 as hexadecimal digits; "" if it is not base64."""
    try:
        return base64.b64decode(value, validate=True).hex()
    except (binascii.Error, ValueError):
        return ""
