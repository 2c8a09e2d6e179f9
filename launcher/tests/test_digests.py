"""Digests: equal to what other programs compute, however the bytes come in."""

import hashlib
import subprocess
import sys
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.errors import ExitCode, FetchError
from tunewright.providers.snapshots import Algorithm, Digest
from tunewright_launcher.digests import SIZE, Checks, _crc_function


def checked(data: bytes, *digests: Digest, pieces: int = 7) -> Checks:
    checks = Checks(digests, len(data))
    for i in range(0, len(data), pieces):
        checks.update(memoryview(data)[i : i + pieces])
    return checks


def s3_multipart_etag(data: bytes, part_size: int) -> str:
    parts = [data[i : i + part_size] for i in range(0, len(data), part_size)]
    return hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()


@given(st.binary(max_size=200), st.integers(1, 50))
def test_each_digest_matches_whatever_the_pieces(data: bytes, pieces: int) -> None:
    blob = b"blob %d\0" % len(data) + data
    digests = (
        Digest(algorithm="sha256", value=hashlib.sha256(data).hexdigest()),
        Digest(algorithm="md5", value=hashlib.md5(data).hexdigest().upper()),
        Digest(algorithm="sha1", value=hashlib.sha1(data).hexdigest()),
        Digest(algorithm="git-blob-sha1", value=hashlib.sha1(blob).hexdigest()),
        Digest(algorithm="crc32", value=f"{zlib.crc32(data):08x}"),
    )
    checks = checked(data, *digests, pieces=pieces)
    assert checks.verify("file") == "sha256"
    assert checks.sha256 == hashlib.sha256(data).hexdigest()


@given(st.binary(min_size=1, max_size=200), st.integers(1, 60), st.integers(1, 70))
def test_digests_of_parts_do_not_depend_on_how_the_bytes_come_in(data: bytes, part: int, pieces: int) -> None:
    digest = Digest(algorithm="md5", value=s3_multipart_etag(data, part), part_size=part)
    assert checked(data, digest, pieces=pieces).verify("file") == "md5"


def test_a_git_blob_is_named_as_git_names_it() -> None:
    data = b"hello\n"
    named = subprocess.run(["git", "hash-object", "--stdin"], input=data, capture_output=True, check=True)
    digest = Digest(algorithm="git-blob-sha1", value=named.stdout.decode().strip())
    assert checked(data, digest).verify("file") == "git-blob-sha1"


# https://reveng.sourceforge.io/crc-catalogue: the check values of "123456789".
CHECK_VALUES: list[tuple[Algorithm, str]] = [
    ("crc32", "cbf43926"),
    ("crc32c", "e3069283"),
    ("crc64nvme", "ae8b14860a799888"),
]


@pytest.mark.parametrize(("algorithm", "value"), CHECK_VALUES)
def test_crcs_have_the_catalogues_check_value(algorithm: Algorithm, value: str) -> None:
    pytest.importorskip("anycrc", reason="anycrc, an extra of tunewright-s3, computes this CRC")
    assert checked(b"123456789", Digest(algorithm=algorithm, value=value)).verify("file") == algorithm


def bit_by_bit(data: bytes, width: int, polynomial: int) -> str:
    """A reflected CRC with all bits set at first and inverted at last, as all three are; the polynomial reflected, too."""
    crc = ones = (1 << width) - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (polynomial if crc & 1 else 0)
    return (crc ^ ones).to_bytes(width // 8, "big").hex()


POLYNOMIALS: list[tuple[Algorithm, int, int]] = [
    ("crc32", 32, 0xEDB88320),
    ("crc32c", 32, 0x82F63B78),
    ("crc64nvme", 64, 0x9A6C9329AC4BC9B5),
]


@pytest.mark.parametrize(("algorithm", "width", "polynomial"), POLYNOMIALS)
@given(data=st.binary(min_size=1, max_size=3000), pieces=st.integers(1, 700))
def test_crcs_are_what_their_definition_says_in_whatever_pieces_the_bytes_come(
    algorithm: Algorithm, width: int, polynomial: int, data: bytes, pieces: int
) -> None:
    pytest.importorskip("anycrc", reason="anycrc, an extra of tunewright-s3, computes this CRC")
    digest = Digest(algorithm=algorithm, value=bit_by_bit(data, width, polynomial))
    assert checked(data, digest, pieces=pieces).verify("file") == algorithm


@pytest.fixture
def without_anycrc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where the extra is not installed."""
    _crc_function.cache_clear()
    monkeypatch.setitem(sys.modules, "anycrc", None)
    yield
    _crc_function.cache_clear()


@pytest.mark.usefixtures("without_anycrc")
def test_crc32_comes_out_the_same_without_the_library_that_is_faster() -> None:
    assert checked(b"123456789", Digest(algorithm="crc32", value="cbf43926")).verify("file") == "crc32"


@pytest.mark.usefixtures("without_anycrc")
@pytest.mark.parametrize("part_size", [None, 4])
def test_a_crc_that_nothing_here_computes_is_refused_and_never_passed_over(part_size: int | None) -> None:
    with pytest.raises(FetchError, match=r"crc64nvme digests cannot be computed here.*pip install anycrc") as caught:
        checked(b"123456789", Digest(algorithm="crc64nvme", value="00", part_size=part_size))
    assert caught.value.code is ExitCode.USAGE


def test_a_kind_of_digest_that_nobody_knows_is_refused() -> None:
    with pytest.raises(FetchError, match=r"'sha3\.14', which is not one of sha256, ") as caught:
        checked(b"123456789", Digest(algorithm="sha3.14", value="00"))  # type: ignore[arg-type] # a plugin's mistake
    assert caught.value.code is ExitCode.USAGE


@pytest.mark.parametrize("algorithm", ["sha256", "sha1", "md5", "crc32", "git-blob-sha1"])
def test_another_digest_is_bad_data(algorithm: Algorithm) -> None:
    with pytest.raises(FetchError, match=f"model.bin has the {algorithm} digest") as caught:
        checked(b"data", Digest(algorithm=algorithm, value="00")).verify("model.bin")
    assert caught.value.code is ExitCode.BAD_DATA


def test_a_file_without_digests_is_verified_by_size_and_says_so() -> None:
    assert checked(b"data").verify("file") == SIZE
    assert not checked(b"data").compares
