"""What is fetched from a real server with Google's API: which objects, verified by what, and with whose credential."""

import hashlib
import itertools
import json
import random
from pathlib import Path

import pytest
from tests.servers.faulty import Answer, Fault, FaultyServer, Request
from tests.servers.gcs import BUCKET, GoogleStorage, StorageProxy
from tests.servers.volume import Volume

from tunewright import ExitCode
from tunewright_gs import GSDatasetParams

MIB = 1 << 20
LARGE = random.Random(5).randbytes(17 * MIB + 3)
TOKEN = "a-token-for-the-test"

_names = itertools.count()


@pytest.fixture
def key() -> str:
    """A folder of the bucket for each test."""
    return f"test-{next(_names)}"


def test_a_prefix_is_a_folder_and_no_beginning_of_names(storage: GoogleStorage, volume: Volume, key: str) -> None:
    files = {"a": b"a", "sub/b": b"b", "zero": b"", "ü b+c%20?d#e&f=g;h/é": b"odd", "large": LARGE}
    for name, body in files.items():
        storage.put(f"{key}/{name}", body)
    storage.put(f"{key}/folder/", b"")
    storage.put(f"{key}-sibling/x", b"x")
    assert volume.fetch(f"gs://{BUCKET}/{key}") == files
    assert set(volume.verified.values()) == {"crc32c"}


def test_a_name_is_its_object_and_patterns_select(storage: GoogleStorage, volume: Volume, key: str) -> None:
    for name in ("a.json", "a.json.old", "old/b.json"):
        storage.put(f"{key}/{name}", name.encode())
    assert volume.fetch(f"gs://{BUCKET}/{key}/a.json") == {"a.json": b"a.json"}
    found = volume.fetch(f"gs://{BUCKET}/{key}", allow_patterns="*.json", ignore_patterns="old/")
    assert list(found) == ["a.json"]
    another = volume.another()
    another.fails(ExitCode.NOT_FOUND, "select none", uri=f"gs://{BUCKET}/{key}", allow_patterns="*.csv")
    another.fails(ExitCode.NOT_FOUND, "does not exist", uri=f"gs://{BUCKET}/{key}-none")
    another.fails(ExitCode.NOT_FOUND, "404", uri=f"gs://no-such-bucket/{key}")


def test_objects_are_listed_in_pages(storage: GoogleStorage, proxy: StorageProxy, volume: Volume, key: str) -> None:
    for number in range(5):
        storage.put(f"{key}/{number}", b"%d" % number)
    proxy.page = 2
    proxy.faults.append(Fault(path="pageToken=2", status=503))
    assert len(volume.fetch(f"gs://{BUCKET}/{key}")) == 5
    assert len([request for request in proxy.log if "maxResults" in request.target]) == 4


def test_a_list_of_digests_counts(storage: GoogleStorage, volume: Volume, key: str) -> None:
    storage.put(f"{key}/a", b"one")
    storage.put(f"{key}/SHA256SUMS", f"{hashlib.sha256(b'one').hexdigest()}  a\n".encode())
    volume.fetch(f"gs://{BUCKET}/{key}")
    assert volume.verified == {"a": "sha256", "SHA256SUMS": "crc32c"}


def test_a_damaged_object_is_fetched_again(
    storage: GoogleStorage, proxy: StorageProxy, volume: Volume, key: str
) -> None:
    storage.put(f"{key}/a", b"one")
    proxy.faults.append(Fault(path="alt=media", flip=1))
    assert volume.fetch(f"gs://{BUCKET}/{key}") == {"a": b"one"}


def test_a_connection_that_breaks_is_resumed(
    storage: GoogleStorage, proxy: StorageProxy, volume: Volume, key: str
) -> None:
    storage.put(f"{key}/a", LARGE)
    proxy.faults.append(Fault(path="alt=media", cut_after=MIB, times=3))
    assert volume.fetch(f"gs://{BUCKET}/{key}/a") == {"a": LARGE}


class Changing(StorageProxy):
    """Replaces an object after its listing."""

    storage: GoogleStorage
    name = ""

    def answer(self, request: Request) -> Answer:
        answer = super().answer(request)
        if request.path.endswith("/o") and self.name:
            self.storage.put(self.name, LARGE[::-1])
            self.name = ""
        return answer


def test_an_object_that_changes_in_between_is_listed_again(storage: GoogleStorage, volume: Volume, key: str) -> None:
    storage.put(f"{key}/a", LARGE)
    with Changing(storage.port) as proxy:
        proxy.storage, proxy.name = storage, f"{key}/a"
        assert volume.fetch(f"gs://{BUCKET}/{key}", endpoint=proxy.url) == {"a": LARGE[::-1]}


def test_every_request_has_the_token_and_who_pays(
    storage: GoogleStorage, proxy: StorageProxy, volume: Volume, key: str
) -> None:
    storage.put(f"{key}/a", LARGE)
    volume.fetch(f"gs://{BUCKET}/{key}", user_project="p")
    assert {request.headers.get("authorization") for request in proxy.log} == {f"Bearer {TOKEN}"}
    assert all("userProject=p" in request.target for request in proxy.log)


@pytest.mark.parametrize(
    ("status", "said", "code", "word"),
    [
        (401, b'{"error": {"message": "Invalid Credentials"}}', ExitCode.NO_PERMISSION, "roles/storage.objectViewer"),
        (403, b'{"error": {"message": "no"}}', ExitCode.NO_PERMISSION, "storage.objects.list"),
        (400, b'{"error": {"message": "Bucket is a requester pays bucket"}}', ExitCode.NO_PERMISSION, "user_project="),
        (503, b"{}", ExitCode.UNAVAILABLE, "503"),
        (200, b"<html>", ExitCode.BAD_DATA, "not JSON"),
    ],
)
def test_each_refusal_says_what_to_do(
    proxy: StorageProxy, volume: Volume, status: int, said: bytes, code: ExitCode, word: str
) -> None:
    proxy.refusals = [("/o?", status, {}, said)]
    error = volume.fails(code, word, uri=f"gs://{BUCKET}/a")
    assert TOKEN not in str(error)


def test_without_a_credential_it_says_how_to_give_one(volume: Volume) -> None:
    volume.make = GSDatasetParams
    volume.fails(ExitCode.NO_PERMISSION, "no credential", "anonymous=True", uri=f"gs://{BUCKET}/a")


def test_a_key_file_that_cannot_be_used_is_not_one_that_is_missing(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume.make = GSDatasetParams
    text = json.dumps({"type": "service_account"})
    volume.fails(ExitCode.USAGE, "missing fields", "key file", uri=f"gs://{BUCKET}/a", service_account_key=text)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "gone.json"))
    volume.fails(ExitCode.USAGE, "gone.json was not found", "GOOGLE_APPLICATION_CREDENTIALS", uri=f"gs://{BUCKET}/a")


def test_an_emulator_of_the_environment_is_used_without_one(
    storage: GoogleStorage, volume: Volume, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url.removeprefix("http://"))
    storage.put(f"{key}/a", b"one")
    volume.make = GSDatasetParams
    assert volume.fetch(f"gs://{BUCKET}/{key}") == {"a": b"one"}


class Tokens(FaultyServer):
    """Google's server for tokens: it gives each assertion one."""

    status = 200

    def answer(self, request: Request) -> Answer:
        if self.status != 200:
            return Answer(status=self.status, body=b'{"error": "invalid_grant", "error_description": "Bad key."}')
        headers = {"Content-Type": "application/json"}
        token = {"access_token": f"token-{len(self.log)}", "expires_in": 3600, "token_type": "Bearer"}
        return Answer(headers=headers, body=json.dumps(token).encode())


@pytest.fixture(scope="session")
def private_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.private_bytes(*form).decode()


def test_the_key_of_a_service_account_gets_a_token(
    storage: GoogleStorage, proxy: StorageProxy, volume: Volume, key: str, private_key: str
) -> None:
    storage.put(f"{key}/a", b"one")
    with Tokens() as tokens:
        about = {"type": "service_account", "client_email": "a@b.example", "private_key": private_key}
        text = json.dumps({**about, "token_uri": f"{tokens.url}/token", "project_id": "p"})
        credential = {"access_token": None, "service_account_key": text}
        assert volume.fetch(f"gs://{BUCKET}/{key}", **credential) == {"a": b"one"}
        assert {request.headers.get("authorization") for request in proxy.log} == {"Bearer token-1"}
        tokens.status = 400
        error = volume.another().fails(
            ExitCode.NO_PERMISSION, "refuses", "Bad key", uri=f"gs://{BUCKET}/{key}", **credential
        )
        assert "PRIVATE KEY" not in str(error)


def test_a_key_file_of_the_environment_is_googles_default(
    storage: GoogleStorage,
    proxy: StorageProxy,
    volume: Volume,
    key: str,
    private_key: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    storage.put(f"{key}/a", b"one")
    with Tokens() as tokens:
        about = {"type": "service_account", "client_email": "a@b.example", "private_key": private_key}
        file = tmp_path / "key.json"
        file.write_text(json.dumps({**about, "token_uri": f"{tokens.url}/token", "project_id": "p"}), "utf-8")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        assert volume.fetch(f"gs://{BUCKET}/{key}", access_token=None) == {"a": b"one"}
        assert {request.headers.get("authorization") for request in proxy.log} == {"Bearer token-1"}
