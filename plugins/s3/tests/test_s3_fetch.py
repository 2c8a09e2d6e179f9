"""What is fetched from a real store: which objects, in which version, verified by what, and with whose credential."""

import hashlib
import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.servers.faulty import Fault
from tests.servers.s3 import ACCESS_KEY, BUCKET, SECRET_KEY, Gateway, S3Proxy

from tunewright import ExitCode, FetchError
from tunewright.providers.limits import FetchLimits
from tunewright.providers.snapshots import Entry
from tunewright_launcher.engine import fetch_snapshot
from tunewright_launcher.journal import FileRecord
from tunewright_s3 import S3ModelParams

MIB = 1 << 20
LARGE = random.Random(1).randbytes(21 * MIB + 5)
LIMITS = FetchLimits(connections=4, stall=2, tries=3)

Source = Callable[..., S3ModelParams]

_names = itertools.count()


@pytest.fixture
def key() -> str:
    """A folder of the bucket for each test."""
    return f"test-{next(_names)}"


def fetch(source: S3ModelParams, folder: Path) -> dict[str, FileRecord]:
    return dict(fetch_snapshot(source.snapshot(), folder, limits=LIMITS))


def fetched(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(source: S3ModelParams, folder: Path) -> FetchError:
    with pytest.raises(FetchError) as caught:
        fetch(source, folder)
    for secret in (ACCESS_KEY, SECRET_KEY):
        assert secret not in str(caught.value)
    return caught.value


def test_a_prefix_is_a_folder_and_no_beginning_of_names(
    gateway: Gateway, source: Source, folder: Path, key: str
) -> None:
    names = ["a", "sub/b", "sub/deep/c", "zero", "ü b+c%20?d#e&f=g;h/é"]
    for name in names:
        gateway.put(f"{key}/{name}", b"" if name == "zero" else name.encode())
    gateway.put(f"{key}/empty-folder/", b"")
    gateway.put(f"{key}-sibling/x", b"x")
    gateway.put(f"{key}.txt", b"x")
    fetch(source(key), folder)
    assert fetched(folder) == {name: b"" if name == "zero" else name.encode() for name in names}


def test_a_key_is_its_object(gateway: Gateway, source: Source, folder: Path, key: str) -> None:
    gateway.put(f"{key}/model.bin", b"this")
    gateway.put(f"{key}/model.bin.old", b"that")
    fetch(source(f"{key}/model.bin"), folder)
    assert fetched(folder) == {"model.bin": b"this"}


def test_a_slash_at_the_end_leaves_the_object_of_that_name_out(
    gateway: Gateway, source: Source, folder: Path, key: str
) -> None:
    gateway.put(f"{key}/a", b"a")
    fetch(source(f"{key}/"), folder)
    assert fetched(folder) == {"a": b"a"}
    assert refused(source(f"{key}/a/"), folder).code is ExitCode.NOT_FOUND


def test_patterns_select(gateway: Gateway, source: Source, folder: Path, key: str) -> None:
    for name in ("a.json", "b.bin", "old/c.json"):
        gateway.put(f"{key}/{name}", b"x")
    fetch(source(key, allow_patterns=["*.json"], ignore_patterns=["old/"]), folder)
    assert list(fetched(folder)) == ["a.json"]
    error = refused(source(key, allow_patterns=["*.safetensors"]), folder)
    assert (error.code, "patterns select none" in error.cause) == (ExitCode.NOT_FOUND, True)


def test_a_version_is_fetched_though_there_is_a_newer_one(
    gateway: Gateway, source: Source, folder: Path, key: str
) -> None:
    old = gateway.put(f"{key}/a", LARGE)["VersionId"]
    gateway.put(f"{key}/a", b"new")
    snapshot = source(f"{key}/a", version_id=old).snapshot()
    assert snapshot.revision == old
    [(path, record)] = fetch_snapshot(snapshot, folder, limits=LIMITS)
    assert (path, record.verified) == ("a", "crc64nvme")
    assert fetched(folder) == {"a": LARGE}
    error = refused(source(f"{key}/a", version_id="no-such-version"), folder)
    assert (error.code, error.remedy) == (ExitCode.NOT_FOUND, "Check version_id.")


@pytest.mark.parametrize(
    ("algorithm", "kind", "verified"),
    [
        (None, None, "crc64nvme"), # versitygw's own
        pytest.param("CRC64NVME", "FULL_OBJECT", "crc64nvme", marks=pytest.mark.slow),
        ("CRC32", "FULL_OBJECT", "crc32"),
        pytest.param("CRC32", "COMPOSITE", "crc32", marks=pytest.mark.slow),
        pytest.param("CRC32C", "COMPOSITE", "crc32c", marks=pytest.mark.slow),
        pytest.param("SHA1", "COMPOSITE", "sha1", marks=pytest.mark.slow),
        ("SHA256", "COMPOSITE", "sha256"),
    ],
)  # fmt: skip
def test_every_kind_of_checksum_is_compared(
    gateway: Gateway, proxy: S3Proxy, source: Source, folder: Path, key: str, algorithm: str, kind: str, verified: str
) -> None:
    about = {"ChecksumAlgorithm": algorithm, "ChecksumType": kind} if algorithm else {}
    gateway.put_in_parts(f"{key}/large", LARGE, [5 * MIB] * 4, **about)
    gateway.put_in_parts(f"{key}/small", LARGE[: 6 * MIB], [5 * MIB], **about)
    assert {path: record.verified for path, record in fetch(source(key), folder).items()} == {
        "large": verified,
        "small": verified,
    }
    assert fetched(folder) == {"large": LARGE, "small": LARGE[: 6 * MIB]}
    for path, flip in (("large", 100), ("small", 6 * MIB - 1)):
        proxy.faults = [Fault(path=f"/{path}", flip=flip, times=-1)]
        error = refused(source(f"{key}/{path}"), folder)
        assert (error.code, f"{verified} digest" in error.cause) == (ExitCode.BAD_DATA, True)


def test_without_a_checksum_the_entity_tag_is_compared(
    gateway: Gateway, proxy: S3Proxy, source: Source, folder: Path, key: str
) -> None:
    gateway.put(f"{key}/plain", b"plain")
    gateway.put(f"{key}/large", LARGE)
    gateway.put_in_parts(f"{key}/parts", LARGE, [6 * MIB] * 3)
    gateway.put_in_parts(f"{key}/uneven", LARGE, [6 * MIB, 5 * MIB, 7 * MIB])
    proxy.hidden = ("x-amz-checksum",)
    found = {path: record.verified for path, record in fetch(source(key), folder).items()}
    assert found == {"plain": "md5", "large": "md5", "parts": "md5", "uneven": "size"}
    for path in ("plain", "parts"):
        proxy.faults = [Fault(path=f"/{path}", flip=1, times=-1)]
        assert refused(source(f"{key}/{path}"), folder).code is ExitCode.BAD_DATA


@pytest.mark.slow
def test_a_checksum_of_an_unsaid_kind_is_not_compared(
    gateway: Gateway, proxy: S3Proxy, source: Source, folder: Path, key: str
) -> None:
    """That of the whole object and that of its parts look alike."""
    gateway.put_in_parts(f"{key}/a", LARGE, [5 * MIB] * 4, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    proxy.hidden = ("x-amz-checksum-type",)
    assert {path: record.verified for path, record in fetch(source(key), folder).items()} == {"a": "md5"}


@pytest.mark.slow
def test_a_store_whose_parts_have_tags_of_their_own_says_how_long_they_are(
    gateway: Gateway, proxy: S3Proxy, source: Source, folder: Path, key: str
) -> None:
    gateway.put_in_parts(f"{key}/a", LARGE, [5 * MIB] * 4)
    proxy.hidden, proxy.tags_of_parts = ("x-amz-checksum",), True
    assert {path: record.verified for path, record in fetch(source(key), folder).items()} == {"a": "md5"}


def test_an_entity_tag_of_an_encrypted_object_is_no_md5(
    gateway: Gateway, proxy: S3Proxy, source: Source, folder: Path, key: str
) -> None:
    gateway.put(f"{key}/a", b"plain")
    proxy.hidden = ("x-amz-checksum",)
    for headers in (
        {"x-amz-server-side-encryption": "aws:kms"},
        {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
    ):
        proxy.faults = [Fault(path="/a", headers=headers)]
        assert fetch(source(key), folder)["a"].verified == "size"
    proxy.faults = [Fault(path="/a", headers={"x-amz-server-side-encryption": "AES256"})]
    assert fetch(source(key), folder)["a"].verified == "md5"


def test_what_has_no_entity_tag_is_fetched(gateway: Gateway, source: Source, folder: Path, key: str) -> None:
    gateway.place(f"{key}/a", b"placed")
    assert fetch(source(key), folder)["a"].verified == "size"
    assert fetched(folder) == {"a": b"placed"}


def sums(files: dict[str, bytes]) -> bytes:
    return "".join(f"{hashlib.sha256(body).hexdigest()}  {name}\n" for name, body in files.items()).encode()


def test_a_file_of_sums_vouches_for_the_others(
    gateway: Gateway, proxy: S3Proxy, source: Source, folder: Path, key: str
) -> None:
    files = {"a": b"one", "sub/b": b"two"}
    for name, body in files.items():
        gateway.place(f"{key}/{name}", body)
    gateway.place(f"{key}/SHA256SUMS", sums(files) + b"\nnot a line of it\n")
    found = fetch(source(key), folder)
    assert {path: record.verified for path, record in found.items()} == {
        "a": "sha256",
        "sub/b": "sha256",
        "SHA256SUMS": "size",
    }
    gateway.place(f"{key}/a", b"0ne")
    error = refused(source(key, ignore_patterns=["SHA256SUMS"]), folder)
    assert (error.code, "a has the sha256 digest" in error.cause) == (ExitCode.BAD_DATA, True)


def test_a_file_that_the_sums_name_must_be_there(gateway: Gateway, source: Source, folder: Path, key: str) -> None:
    gateway.put(f"{key}/a", b"one")
    gateway.put(f"{key}/SHA256SUMS", sums({"a": b"one", "b": b"two"}))
    error = refused(source(key), folder)
    assert (error.code, "lists 1 files that do not exist, among them 'b'" in error.cause) == (ExitCode.BAD_DATA, True)
    fetch(source(key, ignore_patterns=["b"]), folder)


@pytest.mark.slow
def test_sums_are_found_behind_the_first_page(
    gateway: Gateway, proxy: S3Proxy, source: Source, folder: Path, key: str
) -> None:
    for number in range(1005):
        gateway.place(f"{key}/{number:04}", b"%d" % number)
    gateway.place(f"{key}/SHA256SUMS", sums({f"{number:04}": b"%d" % number for number in range(1005)}))
    proxy.faults = [Fault(path="continuation-token", status=503)]
    found = fetch(source(key), folder)
    assert len(found) == 1006
    assert {record.verified for path, record in found.items() if path != "SHA256SUMS"} == {"sha256"}


def test_an_output_is_fetched_without_the_checkpoints_beside_it(
    gateway: Gateway, source: Source, folder: Path, key: str
) -> None:
    files = {"config.json": b"{}", "model.bin": b"weights"}
    records = {name: {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()} for name, body in files.items()}
    marker = json.dumps({"api": 1, "files": records}).encode()
    for name, body in {**files, "complete.json": marker, "checkpoints/k/checkpoint-1/a": b"state"}.items():
        gateway.put(f"{key}/{name}", body)
    assert set(fetch(source(key), folder)) == set(files)
    assert fetched(folder) == files


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "a//b", "a%00b", "n" * 256])
def test_keys_that_would_leave_the_folder_are_refused(
    gateway: Gateway, proxy: S3Proxy, source: Source, folder: Path, key: str, name: str
) -> None:
    gateway.put(f"{key}/innocent", b"x")
    proxy.rewrite = {f"{key}/innocent<": f"{key}/{name}<", "<EncodingType>": "<EncodingType>url"}
    error = refused(source(key), folder)
    assert error.code is ExitCode.BAD_DATA
    assert not fetched(folder)
    assert list(folder.parent.iterdir()) == [folder]


def test_a_file_with_the_name_of_the_marker_is_refused(
    gateway: Gateway, source: Source, folder: Path, key: str
) -> None:
    gateway.put(f"{key}/complete.json", b'{"something": "else"}')
    assert refused(source(key), folder).code is ExitCode.BAD_DATA


def test_a_file_that_lies_where_a_folder_must_be_is_refused(
    gateway: Gateway, proxy: S3Proxy, source: Source, folder: Path, key: str
) -> None:
    gateway.put(f"{key}/a", b"x")
    gateway.put(f"{key}/b", b"x")
    proxy.rewrite = {f"{key}/b<": f"{key}/a/b<"}
    assert refused(source(key), folder).code is ExitCode.BAD_DATA


def test_what_names_nothing_is_not_found(source: Source, folder: Path, gateway: Gateway) -> None:
    gateway.put("there", b"x")
    error = refused(source("not-there"), folder)
    assert (error.code, "does not exist" in error.cause) == (ExitCode.NOT_FOUND, True)
    error = refused(source("", uri="s3://no-such-bucket/x"), folder)
    assert (error.code, "there is no such bucket" in error.cause) == (ExitCode.NOT_FOUND, True)


def test_wrong_keys_are_told_apart(source: Source, folder: Path, gateway: Gateway, key: str) -> None:
    gateway.put(f"{key}/a", b"x")
    wrong_secret = refused(source(key, secret_access_key="wrong/secret"), folder)
    wrong_id = refused(source(key, access_key_id="WRONG"), folder)
    none = refused(source(key, access_key_id=None, secret_access_key=None), folder)
    anonymous = refused(source(key, access_key_id=None, secret_access_key=None, anonymous=True), folder)
    errors = [wrong_secret, wrong_id, none, anonymous]
    assert {error.code for error in errors} == {ExitCode.NO_PERMISSION}
    assert len({error.remedy for error in errors}) == 4
    assert "wrong/secret" not in str(wrong_secret)


@pytest.mark.parametrize("where", ["list-type", "/a"])
@pytest.mark.parametrize(
    ("status", "code", "exit_code", "says"),
    [
        (400, "ExpiredToken", ExitCode.NO_PERMISSION, "session_token"),
        (403, "AccessDenied", ExitCode.NO_PERMISSION, "s3:GetObject"),
        (403, "InvalidAccessKeyId", ExitCode.NO_PERMISSION, "access_key_id"),
        (403, "RequestTimeTooSkewed", ExitCode.NO_PERMISSION, "clock"),
        (403, "SignatureDoesNotMatch", ExitCode.NO_PERMISSION, "secret_access_key"),
        (403, "InvalidObjectState", ExitCode.NOT_FOUND, "Restore"),
        (404, "NoSuchKey", ExitCode.NOT_FOUND, "Check the URI"),
        (429, "TooManyRequests", ExitCode.TRY_AGAIN, "again later"),
        (500, "InternalError", ExitCode.UNAVAILABLE, "500"),
        (503, "SlowDown", ExitCode.UNAVAILABLE, "slow"),
        (403, "", ExitCode.NO_PERMISSION, "403"),
    ],
)  # fmt: skip
def test_a_store_that_refuses_is_understood(
    gateway: Gateway, proxy: S3Proxy, source: Source, folder: Path, key: str, where: str, status: int, code: str,
    exit_code: ExitCode, says: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("tunewright_launcher.rate_limit._FIRST_PAUSE", 0.01)
    gateway.put(f"{key}/a", b"x")
    proxy.refusals = [(where, status, code)]
    token = "a-token-of-the-test" if where == "list-type" else None  # versitygw itself takes none
    error = refused(source(key, session_token=token), folder)
    assert (error.code, says in str(error)) == (exit_code, True)
    assert "?" not in str(error)
    assert "a-token-of-the-test" not in str(error)


def test_a_region_is_found_out(gateway: Gateway, source: Source, folder: Path, key: str) -> None:
    gateway.put(f"{key}/a", b"x")
    for region in ("us-west-2", None):
        fetch(source(key, region=region), folder)
    assert fetched(folder) == {"a": b"x"}


def test_the_environment_gives_the_credential_and_the_server(
    gateway: Gateway, source: Source, folder: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.put(f"{key}/a", b"x")
    for name, value in {**gateway.env, "AWS_ENDPOINT_URL": gateway.url}.items():
        monkeypatch.setenv(name, value)
    bare = source(key, access_key_id=None, secret_access_key=None, region=None, endpoint_url=None)
    fetch(bare, folder)
    assert fetched(folder) == {"a": b"x"}


def test_a_profile_gives_the_credential(
    gateway: Gateway, source: Source, folder: Path, tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.put(f"{key}/a", b"x")
    file = tmp_path / "credentials"
    file.write_text(f"[team]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n", "utf-8")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "team")
    fetch(source(key, access_key_id=None, secret_access_key=None), folder)
    assert fetched(folder) == {"a": b"x"}
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    error = refused(source(key, access_key_id=None, secret_access_key=None), folder)
    assert (error.code, "ProfileNotFound" in error.cause) == (ExitCode.USAGE, True)


def test_a_session_token_is_sent_and_signed(source: Source) -> None:
    snapshot = source("a", session_token="a-token").snapshot()
    asked = snapshot.request(Entry(path="a", size=1, source="a"))  # type: ignore[attr-defined]
    assert asked.headers["x-amz-security-token"] == "a-token"
    assert {"x-amz-security-token", "x-amz-checksum-mode"} <= set(
        asked.headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    )


def test_nothing_is_signed_for_the_public(
    gateway: Gateway, proxy: S3Proxy, source: Source, folder: Path, key: str
) -> None:
    gateway.put(f"{key}/a", b"x")
    refused(source(key, access_key_id=None, secret_access_key=None, anonymous=True), folder)
    assert not [request for request in proxy.log if "authorization" in request.headers]


def test_the_bucket_may_be_a_part_of_the_servers_name(source: Source) -> None:
    snapshot = source("a", endpoint_url="https://store.example", addressing_style="virtual").snapshot()
    asked = snapshot.request(Entry(path="a b", size=1, source="a b"))  # type: ignore[attr-defined]
    assert asked.url == f"https://{BUCKET}.store.example/a%20b"


def test_every_range_asks_for_the_version_that_was_listed(
    gateway: Gateway, proxy: S3Proxy, source: Source, folder: Path, key: str
) -> None:
    tag = gateway.put(f"{key}/a", LARGE)["ETag"]
    fetch(source(key), folder)
    asked = [request for request in proxy.log if request.path.endswith("/a") and request.method == "GET"]
    assert len(asked) > 1
    assert {request.headers["if-match"] for request in asked} == {tag}


def test_a_composite_checksum_of_one_part_is_understood(
    gateway: Gateway, source: Source, folder: Path, key: str
) -> None:
    gateway.put_in_parts(f"{key}/a", b"small", [5], ChecksumAlgorithm="SHA256", ChecksumType="COMPOSITE")
    assert fetch(source(key), folder)["a"].verified == "sha256"
