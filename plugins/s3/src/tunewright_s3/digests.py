"""Read an object's digests from the headers of an answer; see "Checking object integrity" in S3's user guide."""

from __future__ import annotations

import base64
import binascii
import re
from http.client import HTTPMessage
from typing import Final, cast

from tunewright.providers import Algorithm, Digest

# In order of cost: SHA-256 is computed anyway.
_CHECKSUMS: Final[tuple[Algorithm, ...]] = ("sha256", "crc64nvme", "crc32c", "crc32", "sha1")
_ETAG = re.compile(r'"?([0-9a-f]{32})(?:-([0-9]+))?"?')


def digests_in(headers: HTTPMessage, size: int, part_size: int | None = None) -> tuple[Digest, ...]:
    """Return the best digest in an answer's headers; none if it has none that can be recomputed.

    Args:
        headers: headers of an answer to a GET or HEAD of the whole object.
        size: size of the object in bytes.
        part_size: bytes of each part except the last, for an object that was uploaded in parts.
    """
    kind = headers.get("x-amz-checksum-type")
    in_parts = parts_of(headers.get("ETag")) > 1
    for algorithm in _CHECKSUMS:
        if value := headers.get(f"x-amz-checksum-{algorithm}"):
            if in_parts and kind is None and "-" not in value and algorithm != "crc64nvme":
                continue  # of the object or of its parts: a store that does not say which, as moto, may mean either
            composite = kind == "COMPOSITE"
            if found := _checksum(algorithm, value, size, part_size, composite=composite):
                return (found,)
    return of_etag(headers, size, part_size)


def parts_of(etag: str | None) -> int:
    """Return the number of parts that an object was uploaded in, by its ETag; 1 if the ETag does not say."""
    match = _ETAG.fullmatch(etag or "")
    return int(match[2] or 1) if match else 1


def md5_of(etag: str, part_size: int | None = None) -> tuple[Digest, ...]:
    """Return the MD5 in an ETag; it is one unless the object is encrypted with a key of KMS or of the customer."""
    match = _ETAG.fullmatch(etag)
    if match is None or bool(match[2]) != (part_size is not None):
        return ()
    return (Digest(algorithm="md5", value=match[1], part_size=part_size),)


def _checksum(algorithm: Algorithm, value: str, size: int, part_size: int | None, *, composite: bool) -> Digest | None:
    encoded, _, count = value.partition("-")
    try:
        digits = base64.b64decode(encoded, validate=True).hex()
    except binascii.Error:
        return None
    if not (count or composite):
        return Digest(algorithm=algorithm, value=digits)
    length = _fitting(size, part_size, int(count) if count.isdecimal() else 0)
    return None if length is None else Digest(algorithm=algorithm, value=digits, part_size=length)


def of_etag(headers: HTTPMessage, size: int, part_size: int | None = None) -> tuple[Digest, ...]:
    """Return the MD5 in the ETag of an answer; none if it has none, as that of an encrypted object."""
    match = _ETAG.fullmatch(cast("str", headers.get("ETag", "")))
    encrypted = headers.get("x-amz-server-side-encryption", "AES256") != "AES256"
    if match is None or encrypted or "x-amz-server-side-encryption-customer-algorithm" in headers:
        return ()
    if match[2] is None:
        return md5_of(match[1])
    length = _fitting(size, part_size, int(match[2]))
    return () if length is None else md5_of(f"{match[1]}-{match[2]}", length)


def _fitting(size: int, part_size: int | None, count: int) -> int | None:
    """Return the size of the parts if `count` of them make up the object."""
    if count == 1:
        return size
    return part_size if part_size and count and -(-size // part_size) == count else None
