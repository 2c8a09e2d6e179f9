"""Digests in the headers of responses."""

import http.client

import pytest

from tunewright_launcher.http import digests_in

MD5, CRC = "XUFAKrxLKna5cZ2REBfFkg==", "yZRlqg=="
OF_64_BYTES = "A" * 86 + "=="
OF_32_BYTES = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="


def headers(*lines: tuple[str, str]) -> http.client.HTTPMessage:
    found = http.client.HTTPMessage()
    for name, value in lines:
        found[name] = value
    return found


@pytest.mark.parametrize(
    ("lines", "algorithm"),
    [
        ([("Repr-Digest", f"sha-256=:{OF_32_BYTES}:, md5=:{MD5}:")], "sha256"),
        ([("Digest", f"SHA-256={OF_32_BYTES}")], "sha256"),
        ([("Digest", f"md5={MD5}")], "md5"),
        ([("Repr-Digest", f"sha-512=:{OF_64_BYTES}:")], "sha512"),
        ([("Digest", f"SHA-512={OF_64_BYTES},md5={MD5}")], "sha512"),
        ([("Repr-Digest", f"sha-512=:{OF_64_BYTES}:, sha-256=:{OF_32_BYTES}:")], "sha256"),
        ([("Content-MD5", MD5)], "md5"),
        ([("x-goog-hash", f"crc32c={CRC}"), ("x-goog-hash", f"md5={MD5}")], "crc32c"),
        ([("x-goog-hash", f"crc32c={CRC},md5={MD5}")], "crc32c"),
        ([("X-Checksum-Sha256", "ab" * 32), ("X-Checksum-Md5", "ab" * 16)], "sha256"),
        ([("Digest", f"sha-256={MD5}")], None),
        ([("Digest", "unixsum=30637")], None),
        ([("Content-MD5", "not base64!")], None),
        ([("X-Checksum-Sha256", "no")], None),
        ([], None),
    ],
)
def test_the_best_digest_is_taken(lines: list[tuple[str, str]], algorithm: str | None) -> None:
    assert [digest.algorithm for digest in digests_in(headers(*lines))] == ([algorithm] if algorithm else [])


def test_the_md5_of_a_range_is_not_that_of_the_file() -> None:
    assert digests_in(headers(("Content-MD5", MD5)), partial=True) == ()
    assert digests_in(headers(("Digest", f"md5={MD5}")), partial=True)


def test_only_what_can_be_computed_is_taken() -> None:
    assert digests_in(headers(("x-goog-hash", f"crc32c={CRC}")), among=("md5",)) == ()
